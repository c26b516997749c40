import { VhostUserGpuHeader } from '../../protocols/vhost-user-gpu.ts';
import { type BorrowedFd, type OwnedFd, dupFd } from '../../src/sys/fd.ts';
import type { Mapping } from '../../src/sys/mapping.ts';
import { Poll, type PollEvents } from '../../src/sys/poll.ts';
import { UnixConnection, transmit } from '../../src/sys/socket.ts';
import { Backlog } from './backlog.ts';
import { VmmDisplayError } from './errors.ts';
import { ReplyReader } from './reply-reader.ts';

const CHUNK = 4096;
const NO_BYTES = new Uint8Array(0);
const NO_FDS: readonly BorrowedFd[] = [];
const READ: PollEvents = { readable: true };
const READ_AND_WRITE: PollEvents = { readable: true, writable: true };

/** What the display hears of its socket; never while one of the socket's methods runs. */
export interface VmmSocketListener {
  /** `sentBytes` grew. */
  progressed(): void;
  /** The socket ended and is disposed. */
  closed(error: VmmDisplayError): void;
}

interface Expected {
  readonly request: number;
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: VmmDisplayError) => void;
}

interface QueuedFd {
  /** Position in the stream of the message it belongs to. */
  readonly at: number;
  readonly fd: OwnedFd;
}

/**
 * The vhost-user-gpu socket. Sending never blocks and never throws: what the kernel does not take
 * waits in memory of ours and goes out as the VMM reads, which tells `progressed`. Replies come in
 * the order of the requests.
 *
 * UnixConnection's own queue is not used: it allocates per message and does not tell when it is empty.
 */
export class VmmSocket implements Disposable {
  listener: VmmSocketListener | null = null;
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #chunk = new Uint8Array(CHUNK);
  readonly #replies = new ReplyReader();
  readonly #expected: Expected[] = [];
  readonly #backlog = new Backlog();
  readonly #queuedFds: QueuedFd[] = [];
  #acceptedBytes = 0;
  #sentBytes = 0;
  #isWaiting = false;
  #error: VmmDisplayError | null = null;
  #disposed = false;

  private constructor(connection: UnixConnection) {
    this.#connection = connection;
    this.#poll = Poll.watch(connection, READ, (ready) => this.#onReady(ready));
  }

  /** Consumes `fd`, a connected stream socket. SysError EMFILE, EPERM. */
  static open(fd: OwnedFd): VmmSocket {
    const connection = UnixConnection.adopt(fd);
    try {
      return new VmmSocket(connection);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes given to `send` and `sendRows` so far. */
  get acceptedBytes(): number {
    return this.#acceptedBytes;
  }

  /** How many of them the kernel has taken. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Why nothing is sent any more; null while the socket works. */
  get error(): VmmDisplayError | null {
    return this.#error;
  }

  /** Sends a whole message, with `fd` (borrowed) on its first byte. */
  send(message: Uint8Array, fd?: BorrowedFd): void {
    if (this.#isOver) return;
    try {
      const at = this.#accept(message.length);
      const fds = fd ? [fd] : NO_FDS;
      const sent = this.#backlog.length > 0 ? 0 : this.#transmit(message, 0, 0, fds);
      if (sent === message.length) return;
      if (fd && sent === 0) this.#queuedFds.push({ at, fd: dupFd(fd) });
      this.#backlog.append(message.subarray(sent));
      this.#wait();
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Sends `header` and `rows` rows of `rowBytes` bytes, tightly packed. The pixels have been read
   * when this returns: straight into the socket if they are contiguous and it takes them, else
   * into the backlog.
   */
  sendRows(header: Uint8Array, pixels: Mapping, offset: number, stride: number, rowBytes: number, rows: number): void {
    if (this.#isOver) return;
    try {
      const length = rowBytes * rows;
      this.#accept(header.length + length);
      const isContiguous = stride === rowBytes || rows === 1;
      const sent = this.#backlog.length > 0 || !isContiguous ? 0 : this.#transmit(header, pixels.address + offset, length, NO_FDS);
      if (sent === header.length + length) return;
      const wasIdle = this.#backlog.length === 0;
      const intoRows = Math.max(sent - header.length, 0);
      if (sent < header.length) this.#backlog.append(header.subarray(sent));
      if (isContiguous) this.#backlog.appendRows(pixels, offset + intoRows, length, length - intoRows, 1);
      else this.#backlog.appendRows(pixels, offset, stride, rowBytes, rows);
      if (wasIdle && !isContiguous) this.#flush();
      else this.#wait();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Sends a request; `onReply` gets the payload, valid during the call, unless the socket ends first. */
  request(message: Uint8Array, onReply: (payload: Uint8Array) => void): void {
    this.#expect(message, onReply, () => undefined);
  }

  /** Sends a request and resolves with the reply's payload; rejects with VmmDisplayError when the socket ends first. */
  ask(message: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#expect(message, (payload) => resolve(payload.slice()), reject);
    });
  }

  [Symbol.dispose](): void {
    this.#end(new VmmDisplayError('closed', 'the VMM display was disposed'));
  }

  get #isOver(): boolean {
    return this.#disposed || this.#error !== null;
  }

  #expect(message: Uint8Array, resolve: Expected['resolve'], reject: Expected['reject']): void {
    if (this.#error) {
      reject(this.#error);
      return;
    }
    const request = VhostUserGpuHeader.field.request.get(new DataView(message.buffer, message.byteOffset), 0);
    this.#expected.push({ request, resolve, reject });
    this.send(message);
  }

  #accept(length: number): number {
    const at = this.#acceptedBytes;
    this.#acceptedBytes += length;
    return at;
  }

  /** Bytes the kernel took, head first. */
  #transmit(head: Uint8Array, address: number, length: number, fds: readonly BorrowedFd[]): number {
    let sent = 0;
    while (sent < head.length + length) {
      const taken = transmit(this.#connection.fd, head, sent, address, length, sent === 0 ? fds : NO_FDS);
      if (taken === 0) break;
      sent += taken;
    }
    this.#sentBytes += sent;
    return sent;
  }

  #flush(): void {
    const backlog = this.#backlog;
    while (backlog.length > 0) {
      const first = this.#queuedFds[0];
      const isDue = first?.at === this.#sentBytes;
      // A descriptor goes with the first byte of its own message, so a call ends before the next one's.
      const next = isDue ? this.#queuedFds[1] : first;
      const length = next ? Math.min(backlog.length, next.at - this.#sentBytes) : backlog.length;
      const taken = transmit(this.#connection.fd, NO_BYTES, 0, backlog.address, length, isDue ? [first.fd] : NO_FDS);
      if (taken === 0) {
        this.#wait();
        return;
      }
      if (isDue) this.#queuedFds.shift()!.fd[Symbol.dispose]();
      this.#sentBytes += taken;
      backlog.consume(taken);
    }
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#poll.update(READ);
  }

  #wait(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#poll.update(READ_AND_WRITE);
  }

  #onReady(ready: PollEvents): void {
    if (this.#isOver) return;
    try {
      if (ready.writable) {
        this.#flush();
        this.listener?.progressed();
      }
      this.#receive();
    } catch (error) {
      this.#close(asDisplayError(error));
    }
  }

  #receive(): void {
    while (!this.#isOver) {
      const count = this.#connection.recv(this.#chunk, 0, CHUNK);
      if (count < 0) return;
      if (count === 0) throw new VmmDisplayError('closed', 'the VMM closed its display socket');
      // No reply carries one.
      while (this.#connection.fds.length > 0) this.#connection.fds.pop()![Symbol.dispose]();
      this.#replies.push(this.#chunk.subarray(0, count), this.#onReply);
    }
  }

  readonly #onReply = (request: number, payload: Uint8Array): void => {
    if (this.#isOver) return;
    const expected = this.#expected[0];
    if (expected?.request !== request) throw new VmmDisplayError('protocol', `reply to request ${request} where ${expected ? `one to ${expected.request}` : 'none'} was due`);
    this.#expected.shift();
    expected.resolve(payload);
  };

  /** The owner may be in the middle of a frame: he hears of it afterwards. */
  #fail(cause: unknown): void {
    const error = asDisplayError(cause);
    this.#error = error;
    queueMicrotask(() => this.#close(error));
  }

  #close(error: VmmDisplayError): void {
    if (this.#disposed) return;
    this.#end(error);
    this.listener?.closed(error);
  }

  #end(error: VmmDisplayError): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#error ??= error;
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
    this.#backlog[Symbol.dispose]();
    for (const { fd } of this.#queuedFds.splice(0)) fd[Symbol.dispose]();
    for (const { reject } of this.#expected.splice(0)) reject(error);
  }
}

function asDisplayError(error: unknown): VmmDisplayError {
  if (error instanceof VmmDisplayError) return error;
  return new VmmDisplayError('closed', `the VMM's display socket failed: ${String(error)}`, { cause: error });
}
