import { ftruncateSync, readSync, writeSync } from 'node:fs';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';

/** The driver's rings and buffers lie here, above any machine's memory. */
export const DRIVER_ADDRESS = 2 ** 46;
export const DRIVER_SIZE = 256 * 2 ** 20;

/** A run of guest physical memory, in bytes. */
export interface MemoryRegion {
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
  #regions: readonly MemoryRegion[];

  private constructor(fd: OwnedFd, size: number, regions: readonly MemoryRegion[]) {
    this.#fd = fd;
    this.#size = size;
    this.#regions = regions;
  }

  static create(regions: readonly MemoryRegion[]): SparseMemory {
    const size = endOf(regions);
    return new SparseMemory(createMemfd('guest-ram', size), size, regions);
  }

  /** Stays ours. Mapping it at a guest physical address maps that address. */
  get memfd(): BorrowedFd {
    return this.#fd;
  }

  get regions(): readonly MemoryRegion[] {
    return this.#regions;
  }

  /** Replaces the table; what is in both stays as it is. */
  setRegions(regions: readonly MemoryRegion[]): void {
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

  /** A copy. RangeError if the run reaches beyond `end`. */
  read(guestAddress: number, length: number): Uint8Array {
    this.#check(guestAddress, length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.#fd.fd, bytes, done, length - done, guestAddress + done);
      if (count === 0) break;
      done += count;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  #check(address: number, length: number): void {
    if (address >= 0 && address + length <= this.#size) return;
    throw new RangeError(`${length} bytes at 0x${address.toString(16)} are outside guest memory`);
  }
}

function endOf(regions: readonly MemoryRegion[]): number {
  let end = 0;
  for (const region of regions) end = Math.max(end, region.guestAddress + region.size);
  return Math.ceil(end / PAGE_SIZE) * PAGE_SIZE;
}
