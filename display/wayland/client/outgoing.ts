import { FIXED_ONE, LIBWAYLAND_MESSAGE_FDS, LIBWAYLAND_MESSAGE_SIZE, padded } from '../../../protocols/wayland/wire.ts';
import { type BorrowedFd, type OwnedFd, dupFd } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { transmit } from '../../../src/sys/socket.ts';
import type { ObjectMap, WaylandObject } from './object.ts';

const INITIAL_CAPACITY = 64 * 1024;
/** What may wait for a compositor that does not read. */
const MAX_CAPACITY = 1024 * 1024;
const MAX_FDS = 512;

const NO_BYTES = new Uint8Array(0);
const encoder = new TextEncoder();

export interface OutgoingOwner {
  readonly objects: ObjectMap;
  /** Something waits to be sent where nothing did. */
  pending(): void;
  /** There is no room. */
  flush(): void;
  /** There still is none; everything that waits is lost. */
  stalled(): void;
}

/** Bytes of a string argument. */
export function stringSize(text: string | null): number {
  return text === null ? 4 : 4 + padded(Buffer.byteLength(text) + 1);
}

/** Bytes of an array argument. */
export function arraySize(array: Uint8Array): number {
  return 4 + padded(array.length);
}

/**
 * Requests on their way to the compositor, encoded where sendmsg reads them. A request is
 * `begin`, its arguments in order, `end`; one that is not ended was never there.
 */
export class Outgoing implements Disposable {
  readonly #owner: OutgoingOwner;
  #memory = NativeBuffer.allocate(INITIAL_CAPACITY);
  #bytes = this.#memory.bytes;
  /** Host order is the wire's; uint and int are the same 32 bits. */
  #words = new Int32Array(this.#bytes.buffer);
  /** Whole requests lie between these, in bytes. */
  #start = 0;
  #end = 0;
  /** Where the next argument goes, in words. */
  #at = 0;
  readonly #fds: OwnedFd[] = [];
  /** Position in the stream of each descriptor's request, which it must not arrive after. */
  readonly #fdPositions: number[] = [];
  #sentBytes = 0;
  #isDropping = false;

  constructor(owner: OutgoingOwner) {
    this.#owner = owner;
  }

  /** Begins a request of `size` bytes, header included. RangeError for what libwayland does not read. */
  begin(id: number, opcode: number, size: number): this {
    if (size > LIBWAYLAND_MESSAGE_SIZE) throw new RangeError(`a request of ${size} bytes; compositors read ${LIBWAYLAND_MESSAGE_SIZE}`);
    if (this.#end + size > this.#memory.length || this.#fds.length >= MAX_FDS) this.#makeRoom(size);
    const word = this.#end >> 2;
    this.#words[word] = id;
    this.#words[word + 1] = (size << 16) | opcode;
    this.#at = word + 2;
    return this;
  }

  end(): void {
    if (this.#isDropping) return;
    const wasEmpty = this.#start === this.#end;
    this.#end = this.#at << 2;
    if (wasEmpty) this.#owner.pending();
  }

  int(value: number): void {
    if ((value | 0) !== value) throw new RangeError(`${value} is no 32-bit integer`);
    this.#words[this.#at++] = value;
  }

  uint(value: number): void {
    if (value >>> 0 !== value) throw new RangeError(`${value} is no unsigned 32-bit integer`);
    this.#words[this.#at++] = value;
  }

  /** Rounded to 1/256. */
  fixed(value: number): void {
    this.int(Math.round(value * FIXED_ONE));
  }

  object(object: WaylandObject | null): void {
    if (object !== null && (object.isDestroyed || object.connection.objects !== this.#owner.objects)) {
      throw new RangeError(`${String(object)} as an argument: it is ${object.isDestroyed ? 'destroyed' : 'of another connection'}`);
    }
    this.#words[this.#at++] = object === null ? 0 : object.id;
  }

  /** The id of the object made next. */
  newId(): void {
    this.#words[this.#at++] = this.#owner.objects.nextId;
  }

  string(text: string | null): void {
    if (text === null) {
      this.#words[this.#at++] = 0;
      return;
    }
    if (text.includes('\0')) throw new RangeError('a string with a zero byte');
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

  /** Duplicated: it is sent later, and the caller may close his at once. The last call before `end`. */
  fd(fd: BorrowedFd): void {
    if (this.#isDropping) return;
    this.#fds.push(dupFd(fd));
    this.#fdPositions.push(this.#sentBytes + this.#end - this.#start);
  }

  /** Sends what the socket takes; true if that was everything. SysError EPIPE, ECONNRESET, ETOOMANYREFS. */
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

  /** Forgets what waits and all that comes: there is nobody to send it to. */
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

  #pad(from: number, to: number): void {
    this.#bytes.fill(0, from, to);
    this.#at = to >> 2;
  }

  #closeFds(count: number): void {
    for (let i = 0; i < count; i++) this.#fds[i]![Symbol.dispose]();
    this.#fds.splice(0, count);
    this.#fdPositions.splice(0, count);
  }

  #makeRoom(size: number): void {
    this.#owner.flush();
    // What is left may begin inside a word; it stays there, so that requests begin at one.
    const sent = this.#start & ~3;
    this.#bytes.copyWithin(0, sent, this.#end);
    this.#start -= sent;
    this.#end -= sent;
    const isFull = this.#end + size > this.#memory.length;
    if (this.#fds.length < MAX_FDS && !isFull) return;
    if (this.#fds.length < MAX_FDS && this.#memory.length < MAX_CAPACITY) {
      this.#grow();
      return;
    }
    this.drop();
    this.#owner.stalled();
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
