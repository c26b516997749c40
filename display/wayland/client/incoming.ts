import { FIXED_ONE, HEADER_SIZE, padded } from '../../../protocols/wayland/wire.ts';
import type { BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { receiveAt } from '../../../src/sys/socket.ts';
import { Malformed } from './errors.ts';
import type { ObjectMap, WaylandClass, WaylandObject } from './object.ts';

/** The largest message there can be, and a bit. */
const CAPACITY = 64 * 1024;
/** Descriptors come with the message they belong to, or a little earlier. */
const MAX_UNCLAIMED_FDS = 1024;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Events as they come from the compositor: cuts the stream into messages and reads the arguments
 * of the one at hand, in order, then `end`. Everything that is not as it should be is Malformed.
 */
export class Incoming implements Disposable {
  /** Of the message at hand. */
  objectId = 0;
  opcode = 0;
  readonly #objects: ObjectMap;
  readonly #memory = NativeBuffer.allocate(CAPACITY);
  readonly #bytes = this.#memory.bytes;
  /** Host order is the wire's. */
  readonly #words = new Int32Array(this.#bytes.buffer);
  /** Received and not read yet, in bytes. */
  #start = 0;
  #end = 0;
  /** The message's arguments not read yet, in words. */
  #at = 0;
  #limit = 0;
  readonly #fds: OwnedFd[] = [];
  /** How many of `#fds` the message at hand has claimed. */
  #claimed = 0;

  constructor(objects: ObjectMap) {
    this.#objects = objects;
  }

  /** One recvmsg, after `next` said false. Its count; 0 at the end of the stream; -1 if there is nothing. SysError. */
  receive(socket: BorrowedFd): number {
    if (this.#start > 0) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    const count = receiveAt(socket.fd, this.#memory.address + this.#end, CAPACITY - this.#end, this.#fds);
    if (count > 0) this.#end += count;
    return count;
  }

  /** Goes to the next message; false if it is not there in full. */
  next(): boolean {
    if (this.#fds.length > MAX_UNCLAIMED_FDS) throw new Malformed(`${this.#fds.length} file descriptors that belong to no message`);
    if (this.#end - this.#start < HEADER_SIZE) return false;
    const word = this.#start >> 2;
    this.objectId = this.#words[word]! >>> 0;
    this.opcode = this.#words[word + 1]! & 0xffff;
    const size = this.#words[word + 1]! >>> 16;
    if (size < HEADER_SIZE || (size & 3) !== 0) throw new Malformed(`a message of ${size} bytes`);
    if (this.#end - this.#start < size) return false;
    this.#start += size;
    this.#at = word + 2;
    this.#limit = this.#start >> 2;
    return true;
  }

  /** All arguments are read: what they brought now belongs to the event's receiver. */
  end(): void {
    if (this.#at !== this.#limit) throw new Malformed(`${(this.#limit - this.#at) * 4} bytes too many`);
    for (; this.#claimed > 0; this.#claimed--) this.#fds.shift();
  }

  /** Refuses the message at hand. */
  unknown(): never {
    throw new Malformed(`there is no event ${this.opcode}`);
  }

  int(): number {
    if (this.#at >= this.#limit) throw new Malformed('the message is too short');
    return this.#words[this.#at++]!;
  }

  uint(): number {
    return this.int() >>> 0;
  }

  fixed(): number {
    return this.int() / FIXED_ONE;
  }

  /** Null if it was destroyed by us. */
  object<T extends WaylandObject>(type: WaylandClass<T>): T | null {
    return this.#object(this.#nonZero('object'), type);
  }

  nullableObject<T extends WaylandObject>(type: WaylandClass<T>): T | null {
    const id = this.uint();
    return id === 0 ? null : this.#object(id, type);
  }

  newObject<T extends WaylandObject>(type: WaylandClass<T>, version: number): T {
    return this.#objects.adopt(type, this.uint(), version);
  }

  string(): string {
    return this.#string(this.#nonZero('string'));
  }

  nullableString(): string | null {
    const length = this.uint();
    return length === 0 ? null : this.#string(length);
  }

  array(): Uint8Array {
    const length = this.uint();
    const from = this.#skip(length);
    return this.#bytes.slice(from, from + length);
  }

  fd(): OwnedFd {
    const fd = this.#fds[this.#claimed];
    if (!fd) throw new Malformed('its file descriptor did not come with it');
    this.#claimed++;
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) fd[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  #object<T extends WaylandObject>(id: number, type: WaylandClass<T>): T | null {
    const object = this.#objects.get(id);
    if (!(object instanceof type)) throw new Malformed(`argument ${object === null ? `#${id} is nobody` : String(object)} instead of a ${type.interface.name}`);
    return object.isDestroyed ? null : object;
  }

  #nonZero(what: string): number {
    const value = this.uint();
    if (value === 0) throw new Malformed(`a null ${what} where there must be one`);
    return value;
  }

  #string(length: number): string {
    const from = this.#skip(length);
    const last = from + length - 1;
    if (this.#bytes.indexOf(0, from) !== last) throw new Malformed('a string that does not end with its only zero byte');
    try {
      return decoder.decode(this.#bytes.subarray(from, last));
    } catch {
      throw new Malformed('a string that is no UTF-8');
    }
  }

  /** Passes `length` bytes and their padding. */
  #skip(length: number): number {
    const from = this.#at << 2;
    if (length > (this.#limit << 2) - from) throw new Malformed(`${length} bytes of a string or array that run past the message's end`);
    this.#at += padded(length) >> 2;
    return from;
  }
}
