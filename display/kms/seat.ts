import { constants, openSync } from 'node:fs';
import { DRM_IOCTL_SET_MASTER } from '../../protocols/drm.ts';
import type { Log } from '../../src/core/log.ts';
import { SysError } from '../../src/sys/errors.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { SeatSession, type SeatSessionListener } from '../../src/sys/lib/libseat.ts';
import { KmsError } from './errors.ts';

/** What a seat tells those who opened cards on it. */
export interface LoginSeatListener {
  /** The cards are about to be somebody else's (another virtual terminal): after this returns, no ioctl on them that needs mastership. */
  paused(): void;
  /** The cards are ours again, in whatever state the others left them. */
  resumed(): void;
}

/** An open /dev/dri/card* whose master this process is while its seat is active. Dispose gives it back and closes it. */
export interface KmsCard extends Disposable {
  readonly fd: BorrowedFd;
}

/** Who hands out the screens of this machine. Dispose after the cards. */
export interface LoginSeat extends Disposable {
  /** For logs: `none`, or the name libseat gives, for example `seat0`. */
  readonly name: string;
  readonly isActive: boolean;
  /** Non-blocking. KmsError `card-missing`, `card-forbidden`, `not-master`. */
  openCard(path: string): KmsCard;
  /** Tells `listener` from now on, beside those told already. */
  listen(listener: LoginSeatListener): void;
}

/** No seat at all: the process opens the node and becomes DRM master by itself, and nobody asks it to make way. */
export class PlainSeat implements LoginSeat {
  readonly name = 'none';
  readonly isActive = true;

  openCard(path: string): KmsCard {
    const fd = openNode(path);
    try {
      ioctl(fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    } catch (cause) {
      fd[Symbol.dispose]();
      throw new KmsError('not-master', `${path} is in use: stop the display server that has it, or switch to a free virtual terminal (${String(cause)})`, { cause });
    }
    // With the last descriptor mastership ends, and the kernel shows its console again.
    return { fd, [Symbol.dispose]: () => fd[Symbol.dispose]() };
  }

  listen(): void {
    // It has nothing to tell.
  }

  [Symbol.dispose](): void {
    // Nothing of its own.
  }
}

function openNode(path: string): OwnedFd {
  try {
    return OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new KmsError('card-forbidden', `${path} may not be opened: join the group that owns it (usually video)`, { cause });
    }
    throw new KmsError('card-missing', `${path} cannot be opened: ${String(cause)}`, { cause });
  }
}

/** For a switch of virtual terminals that is under way; longer than that, somebody else is in front. */
const PATIENCE_MS = 1000;
/** No seatd, no logind, no session at it, a libseat without it: a machine without that seat manager. */
const ABSENT = ['ENOENT', 'ECONNREFUSED', 'ENODATA', 'ENXIO', 'EINVAL', 'ENOSYS'];
const GONE = ['ENOTCONN', 'EPIPE', 'ECONNRESET', 'EIO'];

/**
 * The seat of seatd or logind, so that no root is needed and virtual terminals can be switched;
 * $LIBSEAT_BACKEND names another. Null where libseat is not installed or no seat manager has a
 * seat for us: then there is `PlainSeat`.
 */
export async function openLibseatSeat(log: Log = () => undefined): Promise<LoginSeat | null> {
  const chosen = process.env['LIBSEAT_BACKEND'];
  for (const backend of chosen === undefined ? ['seatd', 'logind'] : [chosen]) {
    try {
      const session = await SeatSession.open(backend, PATIENCE_MS);
      if (session === null) {
        if (chosen !== undefined) log('warn', `LIBSEAT_BACKEND=${chosen} has no effect without libseat.so.1: install libseat1`);
        return null;
      }
      log('info', `${session.name} of ${backend}${session.isActive ? '' : ': somebody else is in front of it'}`);
      return new LibseatSeat(session, log);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (chosen !== undefined || !ABSENT.includes(error.code)) log('warn', refusal(backend, error));
    }
  }
  return null;
}

function refusal(backend: string, { code, message }: SysError): string {
  const remedy = code === 'EACCES' ? 'join the group that owns its socket (usually video or seat)' : 'is it running, and is this terminal free?';
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

  get isActive(): boolean {
    return this.#session.isActive;
  }

  openCard(path: string): KmsCard {
    try {
      const device = this.#session.openDevice(path);
      return { fd: device.fd, [Symbol.dispose]: () => this.#session.closeDevice(device) };
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
    this.#log('error', `${this.name}: its seat manager is gone (${message}): start it again, then this program`);
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }

  #refused(path: string, cause: SysError): KmsError {
    const { name } = this;
    if (cause.code === 'ENOENT') return new KmsError('card-missing', `${path} is no card that ${name} could open (${cause.message})`, { cause });
    if (GONE.includes(cause.code)) return new KmsError('not-master', `${path}: the seat manager of ${name} is gone (${cause.message}): start it again, then this program`, { cause });
    // seatd answers EPERM; its news that the seat is somebody else's may still be on the way.
    if (!this.isActive || cause.code === 'EPERM') return new KmsError('not-master', `${path}: somebody else is in front of ${name}: switch to this program's virtual terminal (${cause.message})`, { cause });
    return new KmsError('card-forbidden', `${path}: ${name} does not give it to us (${cause.message}): is it a card of this seat? See loginctl seat-status, or the log of seatd`, { cause });
  }
}
