import { copyRect } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';

const MIN_CAPACITY = 256 * 1024;

/**
 * Bytes that wait for the socket, first in, first out. The memory grows to the largest backlog
 * there was and is then reused; who appends bounds it (SysError ENOMEM).
 */
export class Backlog implements Disposable {
  #memory: Mapping | null = null;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Of the first byte; only while there is one. */
  get address(): number {
    return this.#memory!.address + this.#start;
  }

  append(bytes: Uint8Array): void {
    const memory = this.#reserve(bytes.length);
    memory.bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** `rows` rows of `rowBytes` bytes, tightly packed. */
  appendRows(pixels: Mapping, offset: number, stride: number, rowBytes: number, rows: number): void {
    const memory = this.#reserve(rowBytes * rows);
    copyRect(memory, this.#end, rowBytes, pixels, offset, stride, rowBytes, rows);
    this.#end += rowBytes * rows;
  }

  /** The first `count` bytes have gone. */
  consume(count: number): void {
    this.#start += count;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
  }

  [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
    this.#memory = null;
    this.#start = 0;
    this.#end = 0;
  }

  #reserve(count: number): Mapping {
    const memory = this.#memory;
    if (memory && this.#end + count <= memory.length) return memory;
    const { length } = this;
    if (memory && length + count <= memory.length) {
      memory.bytes.copyWithin(0, this.#start, this.#end);
    } else {
      const larger = Mapping.anonymous(2 ** Math.ceil(Math.log2(Math.max(length + count, MIN_CAPACITY))));
      if (memory) copyRect(larger, 0, length, memory, this.#start, length, length, 1);
      memory?.[Symbol.dispose]();
      this.#memory = larger;
    }
    this.#start = 0;
    this.#end = length;
    return this.#memory!;
  }
}
