import { fstatSync, ftruncateSync, writeSync } from 'node:fs';
import type { MemoryBudget } from '../../core/budget.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';

/** Where the driver's rings and buffers are: above the memory of any machine. */
export const DRIVER_ADDRESS = 2 ** 46;
export const DRIVER_SIZE = 256 * 2 ** 20;

/** A run of guest physical memory, in bytes. */
export interface DriverRegion {
  readonly guestAddress: number;
  readonly size: number;
}

/** Written memory is charged in steps of so many bytes. */
const CHARGE = 2 ** 20;

/**
 * Guest memory in one sparse memfd whose file offsets are the guest physical addresses. A region above 4 GiB costs
 * only the pages that are written, and contents survive a change of the table.
 */
export class SparseMemory implements Disposable {
  readonly #fd: OwnedFd;
  readonly #budget: MemoryBudget | null;
  #size: number;
  #regions: readonly DriverRegion[];
  /** Bytes charged to the budget, and the most that can be in use. */
  #charged = 0;
  #used = 0;

  private constructor(fd: OwnedFd, size: number, regions: readonly DriverRegion[], budget: MemoryBudget | null) {
    this.#fd = fd;
    this.#size = size;
    this.#regions = regions;
    this.#budget = budget;
  }

  /** Pages that are written are charged to `budget` until dispose. */
  static create(regions: readonly DriverRegion[], budget: MemoryBudget | null = null): SparseMemory {
    const size = endOf(regions);
    return new SparseMemory(createMemfd('guest-ram', size), size, regions, budget);
  }

  /** Borrowed. Its offset of a byte is the byte's guest physical address. */
  get memfd(): BorrowedFd {
    return this.#fd;
  }

  get regions(): readonly DriverRegion[] {
    return this.#regions;
  }

  /** Replaces the table. What is in both keeps its contents. */
  setRegions(regions: readonly DriverRegion[]): void {
    const size = endOf(regions);
    if (size > this.#size) {
      ftruncateSync(this.#fd.fd, size);
      this.#size = size;
    }
    this.#regions = regions;
  }

  /** One past the highest address that any table had. Gaps can be written too, but no device sees them. */
  get end(): number {
    return this.#size;
  }

  /** False, and nothing is written, if the budget has no room. RangeError if the bytes reach beyond `end`. */
  write(guestAddress: number, bytes: Uint8Array): boolean {
    this.#check(guestAddress, bytes.length);
    if (!this.#charge(bytes.length + 2 * PAGE_SIZE)) return false;
    for (let done = 0; done < bytes.length;)
      done += writeSync(this.#fd.fd, bytes, done, bytes.length - done, guestAddress + done);
    return true;
  }

  [Symbol.dispose](): void {
    this.#budget?.release(this.#charged);
    this.#charged = 0;
    this.#fd[Symbol.dispose]();
  }

  /** Makes sure that so many more bytes are charged. Most writes go to pages that are there: only the kernel knows. */
  #charge(growth: number): boolean {
    if (!this.#budget) return true;
    this.#used += growth;
    if (this.#used <= this.#charged) return true;
    this.#used = fstatSync(this.#fd.fd).blocks * 512 + growth;
    if (this.#used <= this.#charged) return true;
    const charge = Math.max(this.#used - this.#charged, CHARGE);
    if (!this.#budget.reserve(charge)) return false;
    this.#charged += charge;
    return true;
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

/** The log2 of the smallest size; smaller pieces do not deserve a class of their own. */
const MIN_CLASS = 6;

/**
 * Hands out pieces of a fixed range of memory, in size classes of powers of two. `take` and `give` allocate
 * nothing on the heap once every class has reached its high-water mark.
 */
export class BufferPool {
  readonly #end: number;
  /** Free pieces by log2 of their size. */
  readonly #free: number[][] = Array.from({ length: 32 }, () => []);
  #next: number;

  /** `start` and `end`, which is exclusive, are offsets in bytes. */
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

  /** Gives a piece back. `length` is what `take` was called with. */
  give(at: number, length: number): void {
    this.#free[classOf(length)]!.push(at);
  }
}

function classOf(length: number): number {
  return Math.max(MIN_CLASS, 32 - Math.clz32(Math.max(length, 1) - 1));
}

/** The driver's part of guest memory, mapped here. Byte 0 is at guest physical `address`. */
export interface DriverMemory {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly pool: BufferPool;
}
