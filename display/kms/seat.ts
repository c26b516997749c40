import { constants, openSync } from 'node:fs';
import { DRM_IOCTL_DROP_MASTER, DRM_IOCTL_SET_MASTER } from '../../protocols/drm.ts';
import type { Log } from '../../src/core/log.ts';
import { SysError } from '../../src/sys/errors.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { ioctl, tryIoctl } from '../../src/sys/ioctl.ts';
import { SeatSession, type SeatSessionListener } from '../../src/sys/lib/libseat.ts';
import { VirtualTerminal } from '../../src/sys/virtual-terminal.ts';
import { KmsError } from './errors.ts';

/** Events of a seat for programs that opened cards on it. */
export interface LoginSeatListener {
  /**
   * Another program gets the cards (another virtual terminal is in front). After this returns, make no ioctl
   * on them that needs mastership.
   */
  paused(): void;
  /** This program has the cards again, in the state that the other one left. */
  resumed(): void;
}

/** A device that the seat opened. Dispose returns it to the seat and closes it. */
export interface SeatFile extends Disposable {
  readonly fd: BorrowedFd;
}

/**
 * An open /dev/dri/card*. This process is its master while the seat is active. Dispose returns it to the seat
 * and closes it.
 */
export type KmsCard = SeatFile;

/** Hands out the graphics cards and input devices of this machine. Dispose it after these. */
export interface LoginSeat extends Disposable {
  /** For logs: `none`, or libseat's name for it, for example `seat0`. */
  readonly name: string;
  readonly isActive: boolean;
  /** Opens a card, non-blocking. KmsError `card-missing`, `card-forbidden`, `not-master`. */
  openCard(path: string): KmsCard;
  /** As udev names it in ID_SEAT: `seat0`. */
  readonly udevName: string;
  /** Opens an input device, /dev/input/event*, non-blocking. Throws what `openSync` throws, or SysError. */
  openInput(path: string): SeatFile;
  /**
   * Keeps what is typed from the virtual terminal of this program until the result is disposed, and also if this program
   * is killed. Returns null if the seat manager does so anyway. Throws an Error.
   */
  muteTerminal(): Disposable | null;
  /** Switches to a virtual terminal, counted from 1. `paused` follows. SysError; KmsError `no-terminals`. */
  switchTerminal(terminal: number): void;
  /** Notifies `listener`, too, from now on. */
  listen(listener: LoginSeatListener): void;
}

/**
 * No seat manager: the process opens devices and becomes DRM master by itself. Once it has muted its virtual terminal it
 * gives the cards up while another one is in front.
 */
export class PlainSeat implements LoginSeat {
  readonly name = 'none';
  readonly udevName = 'seat0';
  readonly #log: Log;
  readonly #listeners: LoginSeatListener[] = [];
  readonly #cards = new Set<OwnedFd>();
  #isActive = true;
  /** Null until it is muted. */
  #terminal: VirtualTerminal | null = null;

  constructor(log: Log = () => undefined) {
    this.#log = log;
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  openCard(path: string): KmsCard {
    const fd = openNode(path);
    try {
      ioctl(fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    } catch (cause) {
      fd[Symbol.dispose]();
      throw new KmsError(
        'not-master',
        `${path} is in use: stop the display server that uses it, or switch to a free virtual terminal (${String(cause)})`,
        { cause },
      );
    }
    this.#cards.add(fd);
    return {
      fd,
      [Symbol.dispose]: () => {
        this.#cards.delete(fd);
        // Mastership ends with the last descriptor, and the kernel shows its console again.
        fd[Symbol.dispose]();
      },
    };
  }

  openInput(path: string): SeatFile {
    return openFile(path);
  }

  muteTerminal(): Disposable | null {
    const terminal = VirtualTerminal.open();
    if (terminal === null) return null;
    using stack = new DisposableStack();
    stack.use(terminal).turnKeyboardOff();
    terminal.watch(() => this.#follow());
    this.#terminal = terminal;
    stack.defer(() => (this.#terminal = null));
    return stack.move();
  }

  switchTerminal(terminal: number): void {
    if (!this.#terminal)
      throw new KmsError(
        'no-terminals',
        'there is no virtual terminal that this program may switch: install seatd, or run as root on one',
      );
    // Not while the input device that asks for it is read, which is closed for it.
    if (this.#terminal.name !== `tty${terminal}`) setImmediate(() => this.#leaveFor(terminal));
  }

  listen(listener: LoginSeatListener): void {
    this.#listeners.push(listener);
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }

  /** The cards are given up first, for a display server on the other terminal. */
  #leaveFor(number: number): void {
    if (!this.#terminal || !this.#isActive) return;
    this.#pause();
    try {
      this.#terminal.show(number);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `terminal ${number} cannot be shown: ${error.message}`);
      this.#resume();
    }
  }

  /** Another terminal has come to the front, by these keys or by another program. */
  #follow(): void {
    if (!this.#terminal || this.#terminal.isInFront === this.#isActive) return;
    if (this.#isActive) this.#pause();
    else this.#resume();
  }

  #pause(): void {
    this.#isActive = false;
    for (const listener of this.#listeners) listener.paused();
    for (const card of this.#cards) tryIoctl(card, DRM_IOCTL_DROP_MASTER, 0);
  }

  #resume(): void {
    try {
      for (const card of this.#cards) ioctl(card, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `another program still has the card: switch to its terminal and back (${error.message})`);
      return;
    }
    this.#isActive = true;
    for (const listener of this.#listeners) listener.resumed();
  }
}

function openFile(path: string): SeatFile & { readonly fd: OwnedFd } {
  const fd = OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  return { fd, [Symbol.dispose]: () => fd[Symbol.dispose]() };
}

function openNode(path: string): OwnedFd {
  try {
    return openFile(path).fd;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new KmsError(
        'card-forbidden',
        `no permission to open ${path}: join the group that owns it (usually video)`,
        { cause },
      );
    }
    throw new KmsError('card-missing', `${path} cannot be opened: ${String(cause)}`, { cause });
  }
}

/**
 * Time for a switch of virtual terminals that is under way, and for a seat manager that still puts away a session that
 * was killed, on a machine that is starting. After that, another session is in front.
 */
const PATIENCE_MS = 5000;
/**
 * This machine does not have that seat manager: no seatd, no logind, no session in it, or a libseat built
 * without it.
 */
const ABSENT = ['ENOENT', 'ECONNREFUSED', 'ENODATA', 'ENXIO', 'EINVAL', 'ENOSYS'];
const GONE = ['ENOTCONN', 'EPIPE', 'ECONNRESET', 'EIO'];

/**
 * Joins the seat of seatd or logind, or of the backend in $LIBSEAT_BACKEND. With it a program does
 * not need root, and virtual terminals can be switched. The caller disposes it. Resolves with null if
 * libseat is not installed or no seat manager has a seat for this program; use `PlainSeat` then. May
 * take five seconds if another session is in front.
 */
export async function openLibseatSeat(log: Log = () => undefined): Promise<LoginSeat | null> {
  const chosen = process.env['LIBSEAT_BACKEND'];
  for (const backend of chosen === undefined ? ['seatd', 'logind'] : [chosen]) {
    try {
      const session = await SeatSession.open(backend, PATIENCE_MS);
      if (session === null) {
        if (chosen !== undefined)
          log('warn', `LIBSEAT_BACKEND=${chosen} has no effect without libseat.so.1: install libseat1`);
        return null;
      }
      log('info', `${session.name} of ${backend}${session.isActive ? '' : ': another session is in front'}`);
      return new LibseatSeat(session, log);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (chosen !== undefined || !ABSENT.includes(error.code)) log('warn', refusal(backend, error));
    }
  }
  return null;
}

function refusal(backend: string, { code, message }: SysError): string {
  const remedy =
    code === 'EACCES'
      ? 'join the group that owns its socket (usually video or seat)'
      : 'check that it runs and that this terminal is free';
  return `no seat from ${backend}: ${message}; ${remedy}`;
}

class LibseatSeat implements LoginSeat, SeatSessionListener {
  readonly #session: SeatSession;
  readonly #log: Log;
  readonly #listeners: LoginSeatListener[] = [];

  /** Consumes the session. */
  constructor(session: SeatSession, log: Log) {
    this.#session = session;
    this.#log = log;
    session.listen(this);
  }

  get name(): string {
    return this.#session.name;
  }

  get udevName(): string {
    return this.#session.name;
  }

  get isActive(): boolean {
    return this.#session.isActive;
  }

  openInput(path: string): SeatFile {
    const device = this.#session.openDevice(path);
    return { fd: device.fd, [Symbol.dispose]: () => this.#session.closeDevice(device) };
  }

  /** seatd and logind turn the keyboard of their client's terminal off, and on again when the client is gone. */
  muteTerminal(): null {
    return null;
  }

  switchTerminal(terminal: number): void {
    this.#session.switchTo(terminal);
  }

  openCard(path: string): KmsCard {
    try {
      return this.openInput(path);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw this.#refused(path, error);
    }
  }

  listen(listener: LoginSeatListener): void {
    this.#listeners.push(listener);
  }

  enabled(): void {
    for (const listener of this.#listeners) listener.resumed();
  }

  disabled(): void {
    for (const listener of this.#listeners) listener.paused();
  }

  lost({ message }: SysError): void {
    this.#log('error', `${this.name}: its seat manager is gone (${message}): restart it, then this program`);
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }

  #refused(path: string, cause: SysError): KmsError {
    const { name } = this;
    if (cause.code === 'ENOENT')
      return new KmsError('card-missing', `${path} is not a card that ${name} can open (${cause.message})`, { cause });
    if (GONE.includes(cause.code))
      return new KmsError(
        'not-master',
        `${path}: the seat manager of ${name} is gone (${cause.message}): restart it, then this program`,
        { cause },
      );
    // seatd answers EPERM, and its message that the seat is disabled may still be on the way.
    if (!this.isActive || cause.code === 'EPERM')
      return new KmsError(
        'not-master',
        `${path}: another session is in front on ${name}: switch to this program's virtual terminal (${cause.message})`,
        { cause },
      );
    return new KmsError(
      'card-forbidden',
      `${path}: ${name} does not hand it out (${cause.message}): check that it belongs to this seat, with loginctl seat-status or in the log of seatd`,
      { cause },
    );
  }
}
