import { ScanoutError } from '../../sys/errors.ts';

export type QemuDbusErrorCode =
  /** There is no VM, or none of that name; one may come. */
  | 'no-vm'
  /** The bus has several VMs, and no name was given. */
  | 'several-vms'
  /** The VM has no console to show. */
  | 'no-console'
  /** QEMU sent what makes no sense, or more than the limits. */
  | 'malformed'
  /** The VM's memory limit is reached. */
  | 'budget';

/** QEMU's D-Bus display cannot be used. */
export class QemuDbusError extends ScanoutError<QemuDbusErrorCode> {}
