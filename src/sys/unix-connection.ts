import { type BorrowedFd, type OwnedFd, dupFd } from './fd.ts';
import { SysError } from './errors.ts';
import { Poll } from './poll.ts';
import { receive, transmit } from './unix-message.ts';

/** What may wait for a peer that does not read; a single message may exceed it. */
const MAX_QUEUED_BYTES = 64 * 2 ** 20;

const NO_FDS: readonly BorrowedFd[] = [];

interface Queued {
  readonly bytes: Uint8Array;
  /** Ours; they go with the first byte. */
  fds: readonly OwnedFd[];
  sent: number;
}

/**
 * A stream socket that carries file descriptors (unix(7), SCM_RIGHTS). Reading is the caller's:
 * poll `fd` and `recv` until -1. Writing never blocks: what the kernel does not take is kept and
 * sent when the peer has read. A disposed connection drops what is unsent and untaken.
 */
export class UnixConnection implements Disposable {
  /** Descriptors received and not taken yet, in order: shift them as messages claim them. */
  readonly fds: OwnedFd[] = [];
  readonly #fd: OwnedFd;
  readonly #queue: Queued[] = [];
  #queuedBytes = 0;
  #failure: SysError | null = null;
  #flusher: { readonly fd: OwnedFd; readonly poll: Poll } | null = null;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** Consumes a connected stream socket. */
  static adopt(fd: OwnedFd): UnixConnection {
    return new UnixConnection(fd);
  }

  /** For Poll; stays ours. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** Bytes accepted by `send` that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /**
   * Receives up to `length` bytes (at most 64 KiB a call) to `into[offset]` and appends received
   * descriptors to `fds`, at most 253 a call. The count; 0 at the end of the stream; -1 if nothing
   * is there yet. SysError ECTRUNC when descriptors were lost (the connection is of no use then),
   * ECONNRESET.
   */
  recv(into: Uint8Array, offset: number, length: number): number {
    if (length <= 0 || offset < 0 || offset + length > into.length) throw new RangeError(`recv of ${length} bytes at ${offset} of ${into.length}`);
    return receive(this.#fd.fd, into, offset, length, this.fds);
  }

  /**
   * Sends all of `bytes`, with `fds` (at most 253, borrowed) on the first byte. SysError EPIPE
   * when the peer is gone; ENOBUFS, with nothing sent, when it has stopped reading; after a
   * failure while flushing, that failure.
   */
  send(bytes: Uint8Array, fds: readonly BorrowedFd[] = NO_FDS): void {
    if (this.#failure !== null) throw this.#failure;
    if (bytes.length === 0) throw new RangeError('a stream carries no empty message');
    if (this.#queue.length > 0 && this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) {
      throw new SysError('sendmsg', 'ENOBUFS', `${this.#queuedBytes} bytes wait for the peer already`);
    }
    let sent = 0;
    if (this.#queue.length === 0) {
      try {
        while (sent < bytes.length) {
          const taken = transmit(this.#fd.fd, bytes, sent, 0, 0, sent === 0 ? fds : NO_FDS);
          if (taken === 0) break;
          sent += taken;
        }
      } catch (error) {
        // Half a message went out: the stream makes no sense to the peer from here on.
        if (sent > 0) this.#failure = error as SysError;
        throw error;
      }
    }
    if (sent < bytes.length) this.#enqueue(bytes, sent, fds);
  }

  [Symbol.dispose](): void {
    this.#stopFlushing();
    this.#dropQueue();
    for (const fd of this.fds.splice(0)) fd[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }

  #enqueue(message: Uint8Array, sent: number, fds: readonly BorrowedFd[]): void {
    const bytes = message.slice(sent);
    const copies: OwnedFd[] = [];
    try {
      if (sent === 0) for (const fd of fds) copies.push(dupFd(fd));
      this.#startFlushing();
    } catch (error) {
      for (const copy of copies) copy[Symbol.dispose]();
      if (sent > 0) this.#failure = error as SysError;
      throw error;
    }
    this.#queue.push({ bytes, fds: copies, sent: 0 });
    this.#queuedBytes += bytes.length;
  }

  #startFlushing(): void {
    if (this.#flusher !== null) return;
    // A descriptor of its own: the caller polls ours, and there is one poll a descriptor.
    const fd = dupFd(this.#fd);
    try {
      this.#flusher = { fd, poll: Poll.writable(fd, () => this.#flush()) };
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  #stopFlushing(): void {
    this.#flusher?.poll[Symbol.dispose]();
    this.#flusher?.fd[Symbol.dispose]();
    this.#flusher = null;
  }

  #flush(): void {
    try {
      for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
        const taken = transmit(this.#fd.fd, next.bytes, next.sent, 0, 0, next.fds);
        if (taken === 0) return;
        next.sent += taken;
        this.#queuedBytes -= taken;
        for (const fd of next.fds) fd[Symbol.dispose]();
        next.fds = [];
        if (next.sent === next.bytes.length) this.#queue.shift();
      }
    } catch (error) {
      // Whoever polls for reading sees the end of the stream; who only sends learns it there.
      this.#failure = error as SysError;
      this.#dropQueue();
    }
    this.#stopFlushing();
  }

  #dropQueue(): void {
    for (const { fds } of this.#queue.splice(0)) for (const fd of fds) fd[Symbol.dispose]();
    this.#queuedBytes = 0;
  }
}
