import { FIXED_ONE, HEADER_SIZE, LIBWAYLAND_MESSAGE_FDS, padded } from '../../../protocols/wayland/wire.ts';
import { type BorrowedFd, type OwnedFd, dupFd } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { transmit } from '../../../src/sys/socket.ts';

const INITIAL_CAPACITY = 64 * 1024;
/** The most that may wait for a compositor that does not read. */
const MAX_CAPACITY = 1024 * 1024;
const MAX_FDS = 512;

const NO_BYTES = new Uint8Array(0);
const encoder = new TextEncoder();

/** Called with each complete request: its arguments without the header, and its file descriptors, both borrowed. */
export type RequestObserver = (objectId: number, opcode: number, body: Uint8Array, fds: readonly BorrowedFd[]) => void;

/** Size in bytes of a string argument. */
export function stringSize(text: string | null): number {
  return text === null ? 4 : 4 + padded(Buffer.byteLength(text) + 1);
}

/** Size in bytes of an array argument. */
export function arraySize(array: Uint8Array): number {
  return 4 + padded(array.length);
}

/**
 * Requests waiting to be sent, encoded in the memory that sendmsg reads. It knows ids, not objects: an `object` or
 * `new_id` argument is a `uint` here. A request is `begin`, its arguments in the order of the protocol (the file
 * descriptor last, because it takes no bytes), `end`. A request that was begun but not ended is overwritten by the
 * next one and is never sent, so an argument that throws needs no clean-up.
 */
export class Outgoing implements Disposable {
  #memory = NativeBuffer.allocate(INITIAL_CAPACITY);
  #bytes = this.#memory.bytes;
  /** The wire uses host byte order; uint and int are the same 32 bits. */
  #words = new Int32Array(this.#bytes.buffer);
  /** Byte range of the complete requests that wait. Only `#end` is always a multiple of 4: a send may be partial. */
  #start = 0;
  #end = 0;
  /** Index of the word that the next argument is written to. */
  #at = 0;
  readonly #fds: OwnedFd[] = [];
  /** For each descriptor, the stream position of its request, which the descriptor must not arrive after. */
  readonly #fdPositions: number[] = [];
  #sentBytes = 0;
  #isDropping = false;
  readonly #observer: RequestObserver | null;

  constructor(observer: RequestObserver | null) {
    this.#observer = observer;
  }

  /** True if a request of `size` bytes and a file descriptor fit without `makeRoom`. */
  hasRoom(size: number): boolean {
    return this.#end + size <= this.#memory.length && this.#fds.length < MAX_FDS;
  }

  /**
   * Makes room for a request of `size` bytes, at most LIBWAYLAND_MESSAGE_SIZE, by moving or enlarging the buffer.
   * False if a limit is reached: the compositor has left too many bytes or descriptors unread.
   */
  makeRoom(size: number): boolean {
    // A partial send may have ended inside a word. That whole word stays, so that requests remain aligned.
    const sent = this.#start & ~3;
    this.#bytes.copyWithin(0, sent, this.#end);
    this.#start -= sent;
    this.#end -= sent;
    if (this.#fds.length < MAX_FDS && this.#end + size > this.#memory.length && this.#memory.length < MAX_CAPACITY)
      this.#grow();
    return this.hasRoom(size);
  }

  /** Begins a request of `size` bytes, header included, for which there is room. */
  begin(objectId: number, opcode: number, size: number): this {
    const word = this.#end >> 2;
    this.#words[word] = objectId;
    this.#words[word + 1] = (size << 16) | opcode;
    this.#at = word + 2;
    return this;
  }

  /** Completes the request: the next `send` includes it. */
  end(): void {
    if (this.#isDropping) return;
    if (this.#observer !== null) this.#observe(this.#observer);
    this.#end = this.#at << 2;
  }

  /** RangeError unless `value` is a 32-bit integer. */
  int(value: number): void {
    if ((value | 0) !== value) throw new RangeError(`${value} is not a 32-bit integer`);
    this.#words[this.#at++] = value;
  }

  /** RangeError unless `value` is an unsigned 32-bit integer. */
  uint(value: number): void {
    if (value >>> 0 !== value) throw new RangeError(`${value} is not an unsigned 32-bit integer`);
    this.#words[this.#at++] = value;
  }

  /** Rounds to 1/256. RangeError if the result does not fit into 32 bits. */
  fixed(value: number): void {
    this.int(Math.round(value * FIXED_ONE));
  }

  /** RangeError if `text` contains a zero byte. Unpaired surrogates become U+FFFD. */
  string(text: string | null): void {
    if (text === null) {
      this.#words[this.#at++] = 0;
      return;
    }
    if (text.includes('\0')) throw new RangeError('a string argument contains a zero byte');
    const from = (this.#at + 1) << 2;
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(from));
    this.#words[this.#at] = written + 1;
    this.#pad(from + written, from + padded(written + 1));
  }

  array(array: Uint8Array): void {
    const from = (this.#at + 1) << 2;
    this.#words[this.#at] = array.length;
    this.#bytes.set(array, from);
    this.#pad(from + array.length, from + padded(array.length));
  }

  /** Duplicates `fd`, because it is sent later and the caller may close it at once. SysError EMFILE. */
  fd(fd: BorrowedFd): void {
    if (this.#isDropping) return;
    this.#fds.push(dupFd(fd));
    this.#fdPositions.push(this.#position);
  }

  /** Sends what the socket takes; true if nothing is left. SysError EPIPE, ECONNRESET, ETOOMANYREFS. */
  send(socket: BorrowedFd): boolean {
    const fds = this.#fds;
    while (this.#start < this.#end) {
      let length = this.#end - this.#start;
      let batch: readonly OwnedFd[] = fds;
      if (fds.length > LIBWAYLAND_MESSAGE_FDS) {
        batch = fds.slice(0, LIBWAYLAND_MESSAGE_FDS);
        length = this.#fdPositions[LIBWAYLAND_MESSAGE_FDS]! - this.#sentBytes;
      }
      const taken = transmit(socket.fd, NO_BYTES, 0, this.#memory.address + this.#start, length, batch);
      if (taken === 0) return false;
      this.#start += taken;
      this.#sentBytes += taken;
      if (batch.length > 0) this.#closeFds(batch.length);
    }
    this.#start = 0;
    this.#end = 0;
    return true;
  }

  /** Discards all waiting requests, and from now on every new one: the connection has failed. */
  drop(): void {
    this.#isDropping = true;
    this.#start = 0;
    this.#end = 0;
    this.#closeFds(this.#fds.length);
  }

  [Symbol.dispose](): void {
    this.drop();
    this.#memory[Symbol.dispose]();
  }

  /** Stream position of the request that is being encoded. */
  get #position(): number {
    return this.#sentBytes + this.#end - this.#start;
  }

  #observe(observer: RequestObserver): void {
    const word = this.#end >> 2;
    const fds = this.#fds.filter((_, i) => this.#fdPositions[i] === this.#position);
    observer(
      this.#words[word]! >>> 0,
      this.#words[word + 1]! & 0xffff,
      this.#bytes.subarray(this.#end + HEADER_SIZE, this.#at << 2),
      fds,
    );
  }

  #pad(from: number, to: number): void {
    this.#bytes.fill(0, from, to);
    this.#at = to >> 2;
  }

  #closeFds(count: number): void {
    for (let i = 0; i < count; i++) this.#fds[i]![Symbol.dispose]();
    this.#fds.splice(0, count);
    this.#fdPositions.splice(0, count);
  }

  #grow(): void {
    const larger = NativeBuffer.allocate(this.#memory.length * 2);
    larger.bytes.set(this.#bytes);
    this.#memory[Symbol.dispose]();
    this.#memory = larger;
    this.#bytes = larger.bytes;
    this.#words = new Int32Array(this.#bytes.buffer);
  }
}
