import {
  VHOST_USER_GPU,
  VHOST_USER_GPU_MSG_FLAG_REPLY,
  VhostUserGpuHeader,
  VhostUserGpuU64,
} from '../../protocols/vhost-user-gpu.ts';
import { virtio_gpu_resp_display_info, virtio_gpu_resp_edid } from '../../protocols/virtio-gpu.ts';
import { copyRect, type Memory, ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { Poll, type PollEvents } from '../../src/sys/poll.ts';
import { transmit, UnixConnection } from '../../src/sys/socket.ts';
import type { MemoryBudget } from '../../src/core/budget.ts';
import { VmmDisplayError } from './errors.ts';

const CHUNK = 4096;
/** Pixels of one message, which a VMM shows in one step: up to a picture of 3840x2160, and less than 32 MiB with its header. */
const MAX_BAND = 32 * 2 ** 20 - 4096;
/** A VMM answers at once, unless it is busy with something that stops its guest as well. */
const ANSWER_MS = 30_000;
const NO_BYTES = new Uint8Array(0);
const NO_FDS: readonly BorrowedFd[] = [];
const READ: PollEvents = { readable: true };
const READ_AND_WRITE: PollEvents = { readable: true, writable: true };

/** Events of the socket; never emitted from inside one of its methods. */
export interface VmmSocketListener {
  /** `sentBytes` has grown. */
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
 * waits in a Backlog and is sent as the VMM reads, which `progressed` reports. Replies arrive in the
 * order of the requests.
 *
 * UnixConnection's own queue is not used, because it allocates for each message and does not report
 * when it is empty.
 */
export class VmmSocket implements Disposable {
  listener: VmmSocketListener | null = null;
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #chunk = new Uint8Array(CHUNK);
  readonly #replies = new ReplyReader();
  readonly #expected: Expected[] = [];
  readonly #backlog: Backlog;
  readonly #queuedFds: QueuedFd[] = [];
  #acceptedBytes = 0;
  #sentBytes = 0;
  #isWaiting = false;
  #error: VmmDisplayError | null = null;
  #disposed = false;

  private constructor(connection: UnixConnection, budget: MemoryBudget | null) {
    this.#connection = connection;
    this.#backlog = new Backlog(budget);
    this.#poll = Poll.watch(connection, READ, (ready) => this.#onReady(ready));
  }

  /** Consumes `fd`, a connected stream socket. What waits for the VMM is charged to `budget`. SysError EMFILE, ENOTSOCK. */
  static open(fd: OwnedFd, budget: MemoryBudget | null = null): VmmSocket {
    const connection = UnixConnection.adopt(fd);
    try {
      // Fails for anything but a socket, before it is polled: polling a file may wait for the process that serves it.
      transmit(connection.fd, NO_BYTES, 0, 0, 0, NO_FDS);
      return new VmmSocket(connection, budget);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  /** Number of bytes given to `send` and `sendRows` so far. */
  get acceptedBytes(): number {
    return this.#acceptedBytes;
  }

  /** How many of them the kernel has taken. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Why nothing is sent any longer; null while the socket works. */
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
   * How many bytes of pixels, at most `bytes`, one `sendRows` may send now. 0 while too many wait: `progressed`
   * follows. Otherwise at least a row of any picture.
   */
  room(bytes: number): number {
    return this.#isOver ? 0 : this.#backlog.room(Math.min(bytes, MAX_BAND));
  }

  /**
   * Sends `header` and `rows` rows of `rowBytes` bytes, tightly packed. When this returns the pixels
   * have been read: straight into the socket if they are contiguous and it takes them, otherwise
   * into the backlog.
   */
  sendRows(
    header: Uint8Array,
    pixels: Memory | ScatteredMemory,
    offset: number,
    stride: number,
    rowBytes: number,
    rows: number,
  ): void {
    if (this.#isOver) return;
    try {
      const length = rowBytes * rows;
      this.#accept(header.length + length);
      const isContiguous = stride === rowBytes || rows === 1;
      const start = isContiguous && !(pixels instanceof ScatteredMemory) ? pixels.address + offset : null;
      const sent = this.#backlog.length > 0 || start === null ? 0 : this.#transmit(header, start, length, NO_FDS);
      if (sent === header.length + length) return;
      const wasIdle = this.#backlog.length === 0;
      const intoRows = Math.max(sent - header.length, 0);
      if (sent < header.length) this.#backlog.append(header.subarray(sent));
      if (isContiguous) this.#backlog.appendRows(pixels, offset + intoRows, length, length - intoRows, 1);
      else this.#backlog.appendRows(pixels, offset, stride, rowBytes, rows);
      if (wasIdle && start === null) this.#flush();
      else this.#wait();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Sends a request. Calls `onReply` with the payload, valid during the call, unless the socket ends first. */
  request(message: Uint8Array, onReply: (payload: Uint8Array) => void): void {
    this.#expect(message, onReply, () => undefined);
  }

  /**
   * Sends a request and resolves with the reply's payload. Rejects with VmmDisplayError when the socket ends first; a
   * VMM that does not answer for 30 seconds ends it.
   */
  async ask(message: Uint8Array): Promise<Uint8Array> {
    const timeout = setTimeout(() => {
      this.#fail(new VmmDisplayError('stalled', `the VMM has not answered for ${ANSWER_MS / 1000} seconds`));
    }, ANSWER_MS);
    try {
      return await new Promise((resolve, reject) => {
        this.#expect(message, (payload) => resolve(payload.slice()), reject);
      });
    } finally {
      clearTimeout(timeout);
    }
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

  /** Returns how many bytes the kernel took, head first. */
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
      // A descriptor is sent with the first byte of its own message, so a call ends before the next such message.
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
      // No reply carries a descriptor.
      while (this.#connection.fds.length > 0) this.#connection.fds.pop()![Symbol.dispose]();
      this.#replies.push(this.#chunk.subarray(0, count), this.#onReply);
    }
  }

  readonly #onReply = (request: number, payload: Uint8Array): void => {
    if (this.#isOver) return;
    const expected = this.#expected[0];
    if (expected?.request !== request)
      throw new VmmDisplayError(
        'protocol',
        `reply to request ${request}, expected ${expected ? `one to ${expected.request}` : 'none'}`,
      );
    this.#expected.shift();
    expected.resolve(payload);
  };

  /** The owner may be in the middle of a frame, so it is told afterwards. */
  #fail(cause: unknown): void {
    const error = asDisplayError(cause);
    this.#error ??= error;
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

const MIN_CAPACITY = 256 * 1024;
/** For the header of the pixels and small messages behind them. */
const HEADROOM = 4096;
/** A band, and many times the small messages that can wait behind it. */
const MAX_CAPACITY = 64 * 2 ** 20;
/** Memory that was not needed for this long is freed. */
const KEPT_MS = 1000;

/**
 * Bytes that wait for the socket, first in, first out. The memory grows to the largest backlog of late and is reused;
 * it is charged to `budget` where that has room. The caller asks for `room` before it appends pixels. SysError ENOMEM;
 * VmmDisplayError `stalled` if more than 64 MiB wait.
 */
export class Backlog implements Disposable {
  readonly #budget: MemoryBudget | null;
  #memory: Mapping | null = null;
  #charged = 0;
  #start = 0;
  #end = 0;
  #idle: NodeJS.Timeout | null = null;

  constructor(budget: MemoryBudget | null = null) {
    this.#budget = budget;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** How many of `bytes`, at most MAX_BAND, may be appended: all, or fewer while nothing waits; otherwise none. */
  room(bytes: number): number {
    const { length } = this;
    const budget = this.#budget;
    const capacity = capacityFor(length + bytes);
    const isFree = !budget || budget.used - this.#charged + capacity <= budget.limit;
    if (isFree && length + bytes <= MAX_BAND) return bytes;
    return length > 0 ? 0 : Math.min(bytes, Math.max(this.#memory?.length ?? 0, MIN_CAPACITY) - HEADROOM);
  }

  /** Address of the first byte; only while there is one. */
  get address(): number {
    return this.#memory!.address + this.#start;
  }

  append(bytes: Uint8Array): void {
    const memory = this.#reserve(bytes.length);
    memory.bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Appends `rows` rows of `rowBytes` bytes, tightly packed. */
  appendRows(pixels: Memory | ScatteredMemory, offset: number, stride: number, rowBytes: number, rows: number): void {
    const memory = this.#reserve(rowBytes * rows);
    copyRect(memory, this.#end, rowBytes, pixels, offset, stride, rowBytes, rows);
    this.#end += rowBytes * rows;
  }

  /** Removes the first `count` bytes. */
  consume(count: number): void {
    this.#start += count;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
    if (this.#idle) this.#idle.refresh();
    else this.#idle = setTimeout(this.#shrink, KEPT_MS).unref();
  }

  [Symbol.dispose](): void {
    if (this.#idle) clearTimeout(this.#idle);
    this.#start = 0;
    this.#end = 0;
    this.#free();
  }

  readonly #shrink = (): void => {
    if (this.length === 0) this.#free();
  };

  #free(): void {
    this.#memory?.[Symbol.dispose]();
    this.#memory = null;
    this.#budget?.release(this.#charged);
    this.#charged = 0;
  }

  #reserve(count: number): Mapping {
    const memory = this.#memory;
    if (memory && this.#end + count <= memory.length) return memory;
    const { length } = this;
    if (memory && length + count <= memory.length) {
      memory.bytes.copyWithin(0, this.#start, this.#end);
    } else {
      const capacity = capacityFor(length + count);
      if (capacity > MAX_CAPACITY)
        throw new VmmDisplayError('stalled', `the VMM has stopped reading: ${length} bytes wait for it`);
      const larger = Mapping.anonymous(capacity);
      if (memory && length > 0) copyRect(larger, 0, length, memory, this.#start, length, length, 1);
      this.#free();
      this.#memory = larger;
      if (this.#budget?.reserve(capacity)) this.#charged = capacity;
    }
    this.#start = 0;
    this.#end = length;
    return this.#memory!;
  }
}

function capacityFor(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(bytes + HEADROOM, MIN_CAPACITY)));
}

/** Payload size of each kind of reply, in bytes. */
const REPLY_SIZE: ReadonlyMap<number, number> = new Map([
  [VHOST_USER_GPU.GET_PROTOCOL_FEATURES, VhostUserGpuU64.size],
  [VHOST_USER_GPU.GET_DISPLAY_INFO, virtio_gpu_resp_display_info.size],
  [VHOST_USER_GPU.GET_EDID, virtio_gpu_resp_edid.size],
  [VHOST_USER_GPU.DMABUF_UPDATE, 0],
]);

const HEADER_SIZE = VhostUserGpuHeader.size;
const MAX_SIZE = HEADER_SIZE + Math.max(...REPLY_SIZE.values());

/** Splits a byte stream into replies, wherever the chunks begin and end. Its memory has a fixed size. */
export class ReplyReader {
  readonly #bytes = new Uint8Array(MAX_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  #length = 0;
  /** Size of the message being read; the header's size until the header is complete. */
  #wanted = HEADER_SIZE;

  /**
   * Calls `onReply` for each reply that ends in `chunk`; `payload` is valid during the call. Throws
   * VmmDisplayError `protocol` for anything but a reply; the stream cannot be used after that.
   */
  push(chunk: Uint8Array, onReply: (request: number, payload: Uint8Array) => void): void {
    for (let at = 0; at < chunk.length;) {
      const count = Math.min(this.#wanted - this.#length, chunk.length - at);
      this.#bytes.set(chunk.subarray(at, at + count), this.#length);
      this.#length += count;
      at += count;
      if (this.#length === HEADER_SIZE && this.#wanted === HEADER_SIZE) this.#wanted += this.#payloadSize();
      if (this.#length < this.#wanted) continue;
      const payload = this.#bytes.subarray(HEADER_SIZE, this.#wanted);
      this.#length = 0;
      this.#wanted = HEADER_SIZE;
      onReply(VhostUserGpuHeader.field.request.get(this.#view, 0), payload);
    }
  }

  #payloadSize(): number {
    const { request, flags, size } = VhostUserGpuHeader.get(this.#view, 0);
    const expected = REPLY_SIZE.get(request);
    if (expected === undefined || (flags & VHOST_USER_GPU_MSG_FLAG_REPLY) === 0) {
      throw new VmmDisplayError(
        'protocol',
        `message ${request} with flags 0x${flags.toString(16)} is not a vhost-user-gpu reply`,
      );
    }
    if (size !== expected)
      throw new VmmDisplayError('protocol', `vhost-user-gpu reply ${request} has ${size} bytes instead of ${expected}`);
    return size;
  }
}
