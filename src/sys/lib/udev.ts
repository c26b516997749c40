/** libudev, if it is installed: notifications of devices that come, go and change. */
import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { EAGAIN, SysError } from '../errors.ts';
import { ERRNO } from '../../../protocols/linux-errno.ts';
import { errno } from '../libc.ts';
import { Poll } from '../poll.ts';
import { optionalLibrary } from './library.ts';

/** Exists while udevd runs. udevd forwards the kernel's events after it has set up the device node. */
const UDEVD = '/run/udev/control';

export interface UdevEvent {
  /** `add`, `remove`, `change`, …; `overrun` after events were lost: check every device again. */
  readonly action: string;
  /** `card0`; empty for an overrun. */
  readonly sysName: string;
}

const { ENOBUFS } = ERRNO;

const OVERRUN: UdevEvent = { action: 'overrun', sysName: '' };

class Udev {
  readonly create: () => number;
  readonly unref: (udev: number) => number;
  readonly newMonitor: (udev: number, source: string) => number;
  readonly unrefMonitor: (monitor: number) => number;
  readonly matchSubsystem: (monitor: number, subsystem: string, type: null) => number;
  readonly enableReceiving: (monitor: number) => number;
  readonly monitorFd: (monitor: number) => number;
  readonly receiveDevice: (monitor: number) => number;
  readonly unrefDevice: (device: number) => number;
  readonly action: (device: number) => string | null;
  readonly sysName: (device: number) => string | null;

  constructor() {
    const library = koffi.load('libudev.so.1');
    this.create = library.func('udev_new', 'uintptr_t', []) as typeof this.create;
    this.unref = library.func('udev_unref', 'uintptr_t', ['uintptr_t']) as typeof this.unref;
    this.newMonitor = library.func('udev_monitor_new_from_netlink', 'uintptr_t', [
      'uintptr_t',
      'str',
    ]) as typeof this.newMonitor;
    this.unrefMonitor = library.func('udev_monitor_unref', 'uintptr_t', ['uintptr_t']) as typeof this.unrefMonitor;
    this.matchSubsystem = library.func('udev_monitor_filter_add_match_subsystem_devtype', 'int', [
      'uintptr_t',
      'str',
      'str',
    ]) as typeof this.matchSubsystem;
    this.enableReceiving = library.func('udev_monitor_enable_receiving', 'int', [
      'uintptr_t',
    ]) as typeof this.enableReceiving;
    this.monitorFd = library.func('udev_monitor_get_fd', 'int', ['uintptr_t']) as typeof this.monitorFd;
    this.receiveDevice = library.func('udev_monitor_receive_device', 'uintptr_t', [
      'uintptr_t',
    ]) as typeof this.receiveDevice;
    this.unrefDevice = library.func('udev_device_unref', 'uintptr_t', ['uintptr_t']) as typeof this.unrefDevice;
    this.action = library.func('udev_device_get_action', 'str', ['uintptr_t']) as typeof this.action;
    this.sysName = library.func('udev_device_get_sysname', 'str', ['uintptr_t']) as typeof this.sysName;
  }
}

const loadUdev = optionalLibrary(() => new Udev());

/** A `struct udev *`, for libraries that take one. */
export class UdevContext implements Disposable {
  readonly #library: Udev;
  /** 0 after dispose. */
  #address: number;

  private constructor(library: Udev) {
    this.#library = library;
    this.#address = library.create();
    if (this.#address === 0) throw SysError.fromErrno('udev_new', errno());
  }

  /** SysError ENOENT if libudev is not installed. */
  static open(): UdevContext {
    const library = loadUdev();
    if (library === null) throw new SysError('dlopen', 'ENOENT', 'libudev.so.1');
    return new UdevContext(library);
  }

  get address(): number {
    return this.#address;
  }

  [Symbol.dispose](): void {
    if (this.#address !== 0) this.#library.unref(this.#address);
    this.#address = 0;
  }
}

/** Whether udevd runs. Libraries that find devices through udev find none without it. */
export function hasUdevd(): boolean {
  return existsSync(UDEVD);
}

/**
 * Reports events of one subsystem's devices (`drm`): udevd's where it runs, so that the device node
 * is ready, and otherwise the kernel's. Keeps the process alive until disposed.
 */
export class UdevMonitor implements Disposable {
  readonly #library: Udev;
  readonly #onEvent: (event: UdevEvent) => void;
  readonly #udev: number;
  /** 0 after dispose. */
  #monitor: number;
  readonly #poll: Poll;

  private constructor(library: Udev, subsystem: string, onEvent: (event: UdevEvent) => void) {
    this.#library = library;
    this.#onEvent = onEvent;
    this.#udev = library.create();
    if (this.#udev === 0) throw SysError.fromErrno('udev_new', errno());
    this.#monitor = library.newMonitor(this.#udev, hasUdevd() ? 'udev' : 'kernel');
    try {
      if (this.#monitor === 0) throw SysError.fromErrno('udev_monitor_new_from_netlink', errno());
      check('udev_monitor_filter_add_match_subsystem_devtype', library.matchSubsystem(this.#monitor, subsystem, null));
      check('udev_monitor_enable_receiving', library.enableReceiving(this.#monitor));
      this.#poll = Poll.readable({ fd: library.monitorFd(this.#monitor) }, () => this.#receive());
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  /**
   * Null if libudev is not installed. SysError if no netlink socket can be opened. `onEvent` is
   * called from the event loop, once for each event, and may dispose the monitor.
   */
  static open(subsystem: string, onEvent: (event: UdevEvent) => void): UdevMonitor | null {
    const library = loadUdev();
    return library === null ? null : new UdevMonitor(library, subsystem, onEvent);
  }

  [Symbol.dispose](): void {
    if (this.#monitor === 0) return;
    this.#poll[Symbol.dispose]();
    this.#close();
  }

  #close(): void {
    if (this.#monitor !== 0) this.#library.unrefMonitor(this.#monitor);
    this.#monitor = 0;
    this.#library.unref(this.#udev);
  }

  #receive(): void {
    let isOverrun = false;
    while (this.#monitor !== 0) {
      const device = this.#library.receiveDevice(this.#monitor);
      if (device !== 0) {
        this.#onEvent(this.#take(device));
        continue;
      }
      const failure = errno();
      if (failure === EAGAIN) break;
      // A message that cannot be parsed counts as lost.
      isOverrun = true;
      if (failure !== ENOBUFS) break;
    }
    if (!isOverrun || this.#monitor === 0) return;
    // The kernel reports a loss once until its buffer is empty, so the owner is notified only now.
    // The error ended the poll.
    this.#poll.resume();
    this.#onEvent(OVERRUN);
  }

  #take(device: number): UdevEvent {
    const event = { action: this.#library.action(device) ?? '', sysName: this.#library.sysName(device) ?? '' };
    this.#library.unrefDevice(device);
    return event;
  }
}

/** libudev returns -errno. */
function check(call: string, result: number): void {
  if (result < 0) throw SysError.fromErrno(call, -result);
}
