/**
 * libseat, if it is installed: a seat manager (seatd, logind) opens the devices of a seat for the
 * session in the foreground and revokes them while another one is.
 */
import koffi from 'koffi';
import { libseat_seat_listener } from '../../../protocols/libseat.ts';
import { DisposableStack } from '../disposable-stack.ts';
import { SysError } from '../errors.ts';
import { dupFd, OwnedFd } from '../fd.ts';
import { errno, setenv, unsetenv } from '../libc.ts';
import { NativeBuffer } from '../native-buffer.ts';
import { Poll, type PollEvents } from '../poll.ts';
import { optionalLibrary } from './library.ts';

const BACKEND = 'LIBSEAT_BACKEND';

const seatEvent = koffi.pointer(koffi.proto('void', ['uintptr_t', 'uintptr_t']));

/* On failure `openSeat` returns 0 (NULL) and the calls that return an int -1, with errno set. */
class Libseat {
  readonly openSeat: (listener: number, data: number) => number;
  readonly closeSeat: (seat: number) => number;
  readonly disableSeat: (seat: number) => number;
  readonly openDevice: (seat: number, path: string, fd: Uint8Array) => number;
  readonly closeDevice: (seat: number, device: number) => number;
  readonly seatName: (seat: number) => string;
  readonly switchSession: (seat: number, session: number) => number;
  readonly getFd: (seat: number) => number;
  readonly dispatch: (seat: number, timeoutMs: number) => number;

  constructor() {
    const library = koffi.load('libseat.so.1');
    this.openSeat = library.func('libseat_open_seat', 'uintptr_t', ['uintptr_t', 'uintptr_t']) as typeof this.openSeat;
    this.closeSeat = library.func('libseat_close_seat', 'int', ['uintptr_t']) as typeof this.closeSeat;
    this.disableSeat = library.func('libseat_disable_seat', 'int', ['uintptr_t']) as typeof this.disableSeat;
    this.openDevice = library.func('libseat_open_device', 'int', [
      'uintptr_t',
      'str',
      'void *',
    ]) as typeof this.openDevice;
    this.closeDevice = library.func('libseat_close_device', 'int', ['uintptr_t', 'int']) as typeof this.closeDevice;
    this.seatName = library.func('libseat_seat_name', 'str', ['uintptr_t']) as typeof this.seatName;
    this.switchSession = library.func('libseat_switch_session', 'int', [
      'uintptr_t',
      'int',
    ]) as typeof this.switchSession;
    this.getFd = library.func('libseat_get_fd', 'int', ['uintptr_t']) as typeof this.getFd;
    this.dispatch = library.func('libseat_dispatch', 'int', ['uintptr_t', 'int']) as typeof this.dispatch;
  }
}

const loadLibseat = optionalLibrary(() => new Libseat());

/** A device that the seat manager opened: its descriptor, and libseat's id for it. */
export interface SeatDevice {
  readonly id: number;
  readonly fd: OwnedFd;
}

/** Called from the event loop. Any of these may dispose the session. */
export interface SeatSessionListener {
  /** Devices opened earlier work again. */
  enabled(): void;
  /** Stop using the devices. When this returns, the seat manager is told that they are no longer in use. */
  disabled(): void;
  /** The connection to the seat manager broke. This is the last call. */
  lost(cause: SysError): void;
}

/** A client of a seat manager. Keeps the process alive from `listen` until disposed. */
export class SeatSession implements Disposable {
  /** `seat0` */
  readonly name: string;
  readonly #library: Libseat;
  readonly #seat: number;
  readonly #stack: DisposableStack;
  /** A duplicate: libseat closes its own descriptor when it finds the connection broken. */
  readonly #connection: OwnedFd;
  /** What libseat called back. Handled after its call has returned, so that no listener runs or throws inside it. */
  readonly #events: ('enabled' | 'disabled')[] = [];
  #isActive = false;
  /** The seat manager waits for the acknowledgement that the devices are no longer in use. */
  #isDisablePending = false;
  #listener: SeatSessionListener | null = null;
  #poll: Poll | null = null;

  private constructor(library: Libseat, backend: string, stack: DisposableStack) {
    this.#library = library;
    const listener = stack.use(NativeBuffer.allocate(libseat_seat_listener.size));
    libseat_seat_listener.set(listener.view, 0, {
      enable_seat: callback(stack, () => this.#events.push('enabled')),
      disable_seat: callback(stack, () => this.#events.push('disabled')),
    });
    this.#seat = openSeat(library, backend, listener.address);
    stack.defer(() => library.closeSeat(this.#seat));
    const fd = library.getFd(this.#seat);
    if (fd < 0) throw SysError.fromErrno('libseat_get_fd', errno(), backend);
    this.#connection = stack.use(dupFd({ fd }));
    this.name = library.seatName(this.#seat);
    this.#stack = stack.move();
  }

  /**
   * Joins the seat of `backend`, one of libseat's: `seatd`, `logind`. Resolves when the seat is
   * enabled, or after `timeoutMs`; if it is enabled later, the listener is notified. Null if libseat
   * is not installed. Rejects with SysError ENOENT, ECONNREFUSED (seatd does not run), EACCES (no
   * permission), ENODATA (no logind session), EINVAL (libseat was built without that backend), or
   * another errno from libseat.
   */
  static async open(backend: string, timeoutMs: number): Promise<SeatSession | null> {
    const library = loadLibseat();
    if (library === null) return null;
    using stack = new DisposableStack();
    const session = new SeatSession(library, backend, stack);
    try {
      session.#dispatch();
      if (!session.#isActive && timeoutMs > 0) await session.#activated(timeoutMs);
    } catch (error) {
      session[Symbol.dispose]();
      throw error;
    }
    return session;
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  /** Call it once. */
  listen(listener: SeatSessionListener): void {
    this.#listener = listener;
    this.#poll = Poll.watch(this.#connection, { readable: true, disconnect: true }, (ready) => this.#receive(ready));
  }

  /** SysError ENOENT, EPERM (seatd: the seat is disabled now), ENOTCONN or EPIPE (the seat manager is gone). */
  openDevice(path: string): SeatDevice {
    const fd = new Int32Array(1);
    const id = this.#library.openDevice(this.#seat, path, new Uint8Array(fd.buffer));
    if (id < 0) throw SysError.fromErrno('libseat_open_device', errno(), path);
    return { id, fd: OwnedFd.adopt(fd[0]!) };
  }

  /**
   * Gives a device back and closes its descriptor; after the session is disposed, only closes it. A
   * second call does nothing.
   */
  closeDevice({ id, fd }: SeatDevice): void {
    if (fd.closed) return;
    // Before the descriptor is closed: logind's backend identifies the device by it. A failure means
    // that the seat manager has already taken the device back.
    if (!this.#stack.disposed) this.#library.closeDevice(this.#seat, id);
    fd[Symbol.dispose]();
  }

  /** Brings another session to the front: on seats with virtual terminals, that of this number. SysError. */
  switchTo(session: number): void {
    if (this.#library.switchSession(this.#seat, session) < 0)
      throw SysError.fromErrno('libseat_switch_session', errno(), `${this.name}, ${session}`);
  }

  [Symbol.dispose](): void {
    if (this.#stack.disposed) return;
    this.#isActive = false;
    this.#listener = null;
    this.#poll?.[Symbol.dispose]();
    // seatd 0.7 aborts when a client disconnects without acknowledging.
    this.#acknowledge();
    this.#stack[Symbol.dispose]();
  }

  /** Resolves when the seat is enabled, or after `timeoutMs`. Rejects with SysError if the seat manager goes away before. */
  async #activated(timeoutMs: number): Promise<void> {
    using stack = new DisposableStack();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, timeoutMs);
      stack.defer(() => clearTimeout(timer));
      const receive = (ready: PollEvents): void => {
        this.#read(ready);
        if (this.#isActive) resolve();
      };
      stack.use(
        Poll.watch(this.#connection, { readable: true, disconnect: true }, (ready) => {
          try {
            receive(ready);
          } catch (error) {
            if (!(error instanceof SysError)) throw error;
            reject(error);
          }
        }),
      );
    });
  }

  #receive(ready: PollEvents): void {
    try {
      this.#read(ready);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#onLost(error);
    }
  }

  /** Reads what the seat manager sent. SysError if it is gone. */
  #read({ readable, disconnect }: PollEvents): void {
    this.#dispatch();
    // libseat 0.7 does not distinguish a closed connection from an idle one.
    if (!this.#stack.disposed && (readable !== true || disconnect === true))
      throw new SysError('libseat_dispatch', 'ENOTCONN', this.name);
  }

  /** Never blocks. */
  #dispatch(): void {
    const result = this.#library.dispatch(this.#seat, 0);
    const failure = result < 0 ? SysError.fromErrno('libseat_dispatch', errno(), this.name) : null;
    while (this.#events.length > 0 && !this.#stack.disposed) {
      if (this.#events.shift() === 'enabled') this.#enable();
      else this.#disable();
    }
    if (failure && !this.#stack.disposed) throw failure;
  }

  #enable(): void {
    if (this.#isActive) return;
    this.#isActive = true;
    this.#listener?.enabled();
  }

  #disable(): void {
    this.#isDisablePending = true;
    try {
      this.#deactivate();
    } finally {
      this.#acknowledge();
    }
  }

  #acknowledge(): void {
    if (this.#isDisablePending) this.#library.disableSeat(this.#seat);
    this.#isDisablePending = false;
  }

  #deactivate(): void {
    if (!this.#isActive) return;
    this.#isActive = false;
    this.#listener?.disabled();
  }

  #onLost(cause: SysError): void {
    this.#poll?.[Symbol.dispose]();
    this.#deactivate();
    this.#listener?.lost(cause);
  }
}

/** The address of a C function that calls `call`, until the stack is disposed. */
function callback(stack: DisposableStack, call: () => void): number {
  const address = koffi.register(call, seatEvent);
  stack.defer(() => koffi.unregister(address));
  return Number(address);
}

/** libseat takes its backend from the environment only; without one it tries `builtin`, which forks. */
function openSeat(library: Libseat, backend: string, listener: number): number {
  const before = process.env[BACKEND];
  setenv(BACKEND, backend, 1);
  try {
    const seat = library.openSeat(listener, 0);
    if (seat === 0) throw SysError.fromErrno('libseat_open_seat', errno(), backend);
    return seat;
  } finally {
    if (before === undefined) unsetenv(BACKEND);
    else setenv(BACKEND, before, 1);
  }
}
