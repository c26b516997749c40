import { FIXED_ONE, HEADER_SIZE, padded } from '../../../protocols/wayland/wire.ts';
import type { BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { receiveAt } from '../../../src/sys/socket.ts';
import { Malformed } from './errors.ts';

/** The 16-bit size field allows messages up to 65532 bytes. */
const CAPACITY = 64 * 1024;
/**
 * Descriptors arrive with the message they belong to, or slightly earlier: more than libwayland sends with one sendmsg
 * would only use up those of this process.
 */
const MAX_UNCLAIMED_FDS = 64;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Events received from the compositor. Splits the stream into messages and reads the current message's arguments:
 * call the readers in the order of the protocol, then `end`. It knows ids, not objects: an `object` or `new_id`
 * argument is a `uint` here. Everything that breaks the wire format throws Malformed.
 */
export class Incoming implements Disposable {
  /** Object id and opcode of the current message. */
  objectId = 0;
  opcode = 0;
  readonly #memory = NativeBuffer.allocate(CAPACITY);
  readonly #bytes = this.#memory.bytes;
  /** The wire uses host byte order. */
  readonly #words = new Int32Array(this.#bytes.buffer);
  /** Byte range that was received but not split into messages yet. */
  #start = 0;
  #end = 0;
  /** Word range of the current message's arguments that were not read yet. */
  #at = 0;
  #limit = 0;
  readonly #fds: OwnedFd[] = [];
  /** How many of `#fds` the current message has claimed. */
  #claimed = 0;

  /**
   * Calls recvmsg once, after `next` returned false. Returns the number of bytes, 0 at the end of the stream, -1 if
   * nothing has arrived. SysError, also if the process is out of file descriptors.
   */
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

  /** Goes to the next message; false if it has not arrived completely. */
  next(): boolean {
    if (this.#fds.length > MAX_UNCLAIMED_FDS)
      throw new Malformed(`${this.#fds.length} file descriptors belong to no message`);
    if (this.#end - this.#start < HEADER_SIZE) return false;
    const word = this.#start >> 2;
    this.objectId = this.#words[word]! >>> 0;
    this.opcode = this.#words[word + 1]! & 0xffff;
    const size = this.#words[word + 1]! >>> 16;
    if (size < HEADER_SIZE || (size & 3) !== 0) throw new Malformed(`its size is given as ${size} bytes`);
    if (this.#end - this.#start < size) return false;
    this.#start += size;
    this.#at = word + 2;
    this.#limit = this.#start >> 2;
    return true;
  }

  /** The object of the message behind the current one; 0 if that has not arrived. */
  get nextObjectId(): number {
    return this.#end - this.#start < HEADER_SIZE ? 0 : this.#words[this.#start >> 2]! >>> 0;
  }

  /** What is left to read of the current message, valid until the next `receive`. For traces. */
  get body(): Uint8Array {
    return this.#bytes.subarray(this.#at << 2, this.#limit << 2);
  }

  /**
   * The descriptors that have arrived and were not claimed by earlier messages, the current message's first. Borrowed,
   * for traces.
   */
  get fds(): readonly BorrowedFd[] {
    return this.#fds;
  }

  /**
   * Ends the reading of a message. The descriptors that `fd` returned belong to the caller from here on; before, they
   * are closed with `this`, so a message that turns out to be malformed leaks nothing.
   */
  end(): void {
    if (this.#at !== this.#limit) throw new Malformed(`it is ${(this.#limit - this.#at) * 4} bytes too long`);
    if (this.#claimed > 0) this.#fds.splice(0, this.#claimed);
    this.#claimed = 0;
  }

  int(): number {
    if (this.#at >= this.#limit) throw new Malformed('it is too short');
    return this.#words[this.#at++]!;
  }

  uint(): number {
    return this.int() >>> 0;
  }

  fixed(): number {
    return this.int() / FIXED_ONE;
  }

  string(): string {
    const length = this.uint();
    if (length === 0) throw new Malformed('a string is null that must not be');
    return this.#string(length);
  }

  nullableString(): string | null {
    const length = this.uint();
    return length === 0 ? null : this.#string(length);
  }

  /** A copy. */
  array(): Uint8Array {
    const length = this.uint();
    const from = this.#skip(length);
    return this.#bytes.slice(from, from + length);
  }

  fd(): OwnedFd {
    const fd = this.#fds[this.#claimed];
    if (!fd) throw new Malformed('its file descriptor did not arrive with it');
    this.#claimed++;
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) fd[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  #string(length: number): string {
    const from = this.#skip(length);
    const last = from + length - 1;
    if (this.#bytes.indexOf(0, from) !== last) throw new Malformed('a string does not end with its only zero byte');
    try {
      return decoder.decode(this.#bytes.subarray(from, last));
    } catch {
      throw new Malformed('a string is not valid UTF-8');
    }
  }

  /** Skips `length` bytes and their padding, and returns where they begin. */
  #skip(length: number): number {
    const from = this.#at << 2;
    if (length > (this.#limit << 2) - from)
      throw new Malformed(`a string or array of ${length} bytes runs past the end of the message`);
    this.#at += padded(length) >> 2;
    return from;
  }
}
