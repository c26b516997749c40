import type { OwnedFd } from '../sys/fd.ts';
import { connectUnix, socketPair } from '../sys/socket.ts';
import { Qmp } from './qmp.ts';

/** QEMU greets a client of its QMP socket at once, unless another has it. */
const QMP_MS = 5000;
/** The name by which QEMU keeps the descriptor between two commands. */
const FD_NAME = 'scanout-bridge-dbus';

/**
 * The `connect` of `QemuDbusGuest` for a QEMU with `-display dbus,p2p=yes` and a QMP socket at `path`, which is used for a
 * moment only. Rejects with SysError ENOENT or ECONNREFUSED if there is no QEMU, and with QmpError.
 */
export function dbusByQmp(path: string): () => Promise<OwnedFd> {
  return async () => {
    using qmp = await Qmp.open(connectUnix(path), { timeoutMs: QMP_MS });
    return await passDisplaySocket(qmp);
  };
}

/** Hands QEMU one end of a new socket as a client of its D-Bus display, and resolves with the other. Rejects with QmpError. */
export async function passDisplaySocket(qmp: Qmp): Promise<OwnedFd> {
  const [ours, theirs] = socketPair();
  using passed = theirs;
  try {
    await qmp.command('getfd', { fdname: FD_NAME }, [passed]);
    await qmp.command('add_client', { protocol: '@dbus-display', fdname: FD_NAME });
    return ours;
  } catch (error) {
    ours[Symbol.dispose]();
    throw error;
  }
}
