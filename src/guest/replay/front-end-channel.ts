import * as wire from '../../../protocols/vhost-user.ts';
import { ScanoutError } from '../../sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import { UnixConnection } from '../../sys/socket.ts';

/**
 * `closed`: the back end is gone; `refused`: it acknowledged a request with an error, or lacks a feature;
 * `malformed`: it broke the protocol; `full`: no room in the driver's memory or ring; `reset`: the device was
 * reset before it answered.
 */
export class FrontEndError extends ScanoutError<'closed' | 'refused' | 'malformed' | 'full' | 'reset'> {}

const header = wire.VhostUserHeader;
const MAX_PAYLOAD = 64 * 1024;
const NO_FDS: readonly BorrowedFd[] = [];
const NO_BYTES: Uint8Array = new Uint8Array(0);

interface Pending {
  readonly request: number;
  resolve(payload: Uint8Array): void;
  reject(error: FrontEndError): void;
}

/** One vhost-user socket seen from the front end: requests go out in order, replies come back in order. */
export class FrontEndChannel implements Disposable {
  /** REPLY_ACK was negotiated: `set` waits for the acknowledgement. */
  acknowledged = false;
  /** Called once when the back end is gone or broke the protocol. Not called for a dispose. */
  onClosed: ((error: FrontEndError) => void) | null = null;
  protected readonly connection: UnixConnection;
  readonly #poll: Poll;
  readonly #pending: Pending[] = [];
  readonly #received = new Uint8Array(header.size + MAX_PAYLOAD);
  readonly #view = new DataView(this.#received.buffer);
  #filled = 0;
  #closed: FrontEndError | null = null;

  /** Consumes a connected stream socket. */
  constructor(socket: OwnedFd) {
    this.connection = UnixConnection.adopt(socket);
    try {
      this.#poll = Poll.readable(this.connection, () => this.#receive());
    } catch (error) {
      this.connection[Symbol.dispose]();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  /** Sends a request that has no reply. FrontEndError `closed` if the back end is gone. */
  send(request: number, payload = NO_BYTES, fds: readonly BorrowedFd[] = NO_FDS, flags = 0): void {
    try {
      this.connection.send(encode(request, flags | wire.VHOST_USER_VERSION, payload), fds);
    } catch (error) {
      throw lost(error);
    }
  }

  /** Sends a request and resolves with a copy of its reply's payload. Rejects with FrontEndError `closed`. */
  call(request: number, payload = NO_BYTES, fds: readonly BorrowedFd[] = NO_FDS, flags = 0): Promise<Uint8Array> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      this.send(request, payload, fds, flags);
      this.#pending.push({ request, resolve, reject });
    });
  }

  /** `call` for requests whose reply is one number. */
  async get(request: number): Promise<bigint> {
    const payload = await this.call(request);
    if (payload.length !== wire.VhostUserU64.size)
      throw new FrontEndError('malformed', `${wire.requestName(request)} was answered with ${payload.length} bytes`);
    return wire.VhostUserU64.decode(payload).u64;
  }

  /** Sends a request without a reply. Where acknowledgements were negotiated, resolves when it was granted; else at once. */
  async set(request: number, payload = NO_BYTES, fds: readonly BorrowedFd[] = NO_FDS): Promise<void> {
    if (!this.acknowledged) {
      this.send(request, payload, fds);
      return;
    }
    const reply = await this.call(request, payload, fds, wire.VHOST_USER_NEED_REPLY_MASK);
    const result = wire.VhostUserU64.decode(reply).u64;
    if (result !== 0n)
      throw new FrontEndError('refused', `the back end refused ${wire.requestName(request)}: ${result.toString()}`);
  }

  [Symbol.dispose](): void {
    this.onClosed = null;
    this.#close(new FrontEndError('closed', 'the front end was disposed'));
    this.connection[Symbol.dispose]();
  }

  #receive(): void {
    try {
      for (;;) {
        const count = this.connection.recv(this.#received, this.#filled, this.#received.length - this.#filled);
        if (count < 0) return;
        if (count === 0) {
          this.#close(new FrontEndError('closed', 'the back end closed the connection'));
          return;
        }
        this.#filled += count;
        this.#dispatch();
        if (this.#closed !== null) return;
      }
    } catch (error) {
      this.#close(error instanceof FrontEndError ? error : lost(error));
    }
  }

  #dispatch(): void {
    let at = 0;
    while (this.#filled - at >= header.size) {
      const size = header.field.size.get(this.#view, at);
      if (size > MAX_PAYLOAD) throw new FrontEndError('malformed', `the back end sent a message of ${size} bytes`);
      if (this.#filled - at < header.size + size) break;
      const request = header.field.request.get(this.#view, at);
      const flags = header.field.flags.get(this.#view, at);
      this.#message(request, flags, this.#received.slice(at + header.size, at + header.size + size));
      if (this.#closed !== null) return;
      at += header.size + size;
    }
    this.#received.copyWithin(0, at, this.#filled);
    this.#filled -= at;
  }

  #message(request: number, flags: number, payload: Uint8Array): void {
    for (const fd of this.connection.fds.splice(0)) fd[Symbol.dispose]();
    const pending = this.#pending.shift();
    if (pending === undefined || pending.request !== request || (flags & wire.VHOST_USER_REPLY_MASK) === 0) {
      const error = new FrontEndError('malformed', `unexpected ${wire.requestName(request)} from the back end`);
      pending?.reject(error);
      throw error;
    }
    pending.resolve(payload);
  }

  #close(error: FrontEndError): void {
    if (this.#closed !== null) return;
    this.#closed = error;
    this.#poll[Symbol.dispose]();
    for (const pending of this.#pending.splice(0)) pending.reject(error);
    this.onClosed?.(error);
  }
}

function lost(cause: unknown): FrontEndError {
  return new FrontEndError('closed', 'the connection to the back end failed', { cause });
}

function encode(request: number, flags: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(header.size + payload.length);
  message.set(header.encode({ request, flags, size: payload.length }));
  message.set(payload, header.size);
  return message;
}
