import { ftruncateSync, writeSync } from 'node:fs';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';

/** The driver's rings and buffers lie here, above any machine's memory. */
export const DRIVER_ADDRESS = 2 ** 46;
export const DRIVER_SIZE = 256 * 2 ** 20;

/** A run of guest physical memory, in bytes. */
export interface DriverRegion {
  readonly guestAddress: number;
  readonly size: number;
}

/**
 * Guest memory in one sparse memfd whose file offsets are the guest physical addresses: a region
 * above 4 GiB costs only the pages that are written, and contents survive a change of the table.
 */
export class SparseMemory implements Disposable {
  readonly #fd: OwnedFd;
  #size: number;
  #regions: readonly DriverRegion[];

  private constructor(fd: OwnedFd, size: number, regions: readonly DriverRegion[]) {
    this.#fd = fd;
    this.#size = size;
    this.#regions = regions;
  }

  static create(regions: readonly DriverRegion[]): SparseMemory {
    const size = endOf(regions);
    return new SparseMemory(createMemfd('guest-ram', size), size, regions);
  }

  /** Stays ours. Mapping it at a guest physical address maps that address. */
  get memfd(): BorrowedFd {
    return this.#fd;
  }

  get regions(): readonly DriverRegion[] {
    return this.#regions;
  }

  /** Replaces the table; what is in both stays as it is. */
  setRegions(regions: readonly DriverRegion[]): void {
    const size = endOf(regions);
    if (size > this.#size) {
      ftruncateSync(this.#fd.fd, size);
      this.#size = size;
    }
    this.#regions = regions;
  }

  /** One past the highest address there ever was a region for; what lies in gaps is kept, but no device sees it. */
  get end(): number {
    return this.#size;
  }

  /** RangeError if the run reaches beyond `end`. */
  write(guestAddress: number, bytes: Uint8Array): void {
    this.#check(guestAddress, bytes.length);
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd.fd, bytes, done, bytes.length - done, guestAddress + done);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  #check(address: number, length: number): void {
    if (address >= 0 && address + length <= this.#size) return;
    throw new RangeError(`${length} bytes at 0x${address.toString(16)} are outside guest memory`);
  }
}

function endOf(regions: readonly DriverRegion[]): number {
  let end = 0;
  for (const region of regions) end = Math.max(end, region.guestAddress + region.size);
  return Math.ceil(end / PAGE_SIZE) * PAGE_SIZE;
}

/** Smaller pieces are not worth a class of their own. */
const MIN_CLASS = 6;

/**
 * Pieces of a fixed range of memory, in classes of powers of two. Taking and giving back
 * allocate nothing once every class has reached its high-water mark.
 */
export class BufferPool {
  readonly #end: number;
  /** Free pieces by log2 of their size. */
  readonly #free: number[][] = Array.from({ length: 32 }, () => []);
  #next: number;

  /** `start` to `end`, exclusive, are offsets in bytes. */
  constructor(start: number, end: number) {
    this.#next = Math.ceil(start / 64) * 64;
    this.#end = end;
  }

  /** The offset of a piece of at least `length` bytes, 64-byte aligned; -1 if there is none. */
  take(length: number): number {
    const order = classOf(length);
    const reused = this.#free[order]!.pop();
    if (reused !== undefined) return reused;
    const at = this.#next;
    if (at + 2 ** order > this.#end) return -1;
    this.#next = at + 2 ** order;
    return at;
  }

  /** `length` as it was given to `take`. */
  give(at: number, length: number): void {
    this.#free[classOf(length)]!.push(at);
  }
}

function classOf(length: number): number {
  return Math.max(MIN_CLASS, 32 - Math.clz32(Math.max(length, 1) - 1));
}

/** The driver's part of memory, as mapped here: byte 0 is at guest physical `address`. */
export interface DriverMemory {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly pool: BufferPool;
}
