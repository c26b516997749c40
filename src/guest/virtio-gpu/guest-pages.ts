import { fstatSync } from 'node:fs';
import type { PageRange, PagesBacking } from '../../core/framebuffer.ts';
import type { BorrowedFd } from '../../sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../sys/mapping.ts';
import type { GuestMemory } from '../memory.ts';
import type { BackingEntry } from './tap.ts';

/** What a guest attached to a resource: pieces of its memory, one after another. */
export class GuestPages {
  readonly entries: readonly BackingEntry[];
  /** Bytes of all entries together. */
  readonly length: number;
  /** Where each entry starts, in bytes from the first one's start. */
  readonly #starts: Float64Array;

  constructor(entries: readonly BackingEntry[]) {
    this.entries = entries;
    this.#starts = new Float64Array(entries.length);
    let length = 0;
    entries.forEach((entry, index) => {
      this.#starts[index] = length;
      length += entry.length;
    });
    this.length = length;
  }

  isInside(memory: GuestMemory): boolean {
    return this.entries.every(({ address, length }) => memory.covers(address, length));
  }

  /**
   * The first `length` bytes as runs of whole pages, neighbours merged; null when they cannot be
   * mapped side by side. `length` is at most that of the entries, which lie inside `memory`.
   */
  runs(memory: GuestMemory, length: number): PageRange[] | null {
    const runs: { memfd: BorrowedFd; offset: number; length: number }[] = [];
    let left = length;
    for (const entry of this.entries) {
      if (left <= 0) break;
      // The last page of the picture may be shared with whatever follows it.
      const wanted = Math.ceil(Math.min(entry.length, left) / PAGE_SIZE) * PAGE_SIZE;
      if (wanted > entry.length && left > entry.length) return null;
      const range = memory.range(entry.address, wanted);
      if (!range || range.offset % PAGE_SIZE !== 0 || isHuge(range.memfd)) return null;
      left -= wanted;
      const last = runs.at(-1);
      if (last?.memfd === range.memfd && last.offset + last.length === range.offset) last.length += wanted;
      else runs.push({ memfd: range.memfd, offset: range.offset, length: wanted });
    }
    return runs;
  }

  /** Copies `length` bytes from `at` on, all inside the entries. Allocates nothing. */
  read(memory: GuestMemory, at: number, into: Uint8Array, intoAt: number, length: number): void {
    let index = this.#entryAt(at);
    while (length > 0) {
      const entry = this.entries[index]!;
      const skip = at - this.#starts[index]!;
      const count = Math.min(entry.length - skip, length);
      memory.copyOut(entry.address + skip, count, into, intoAt);
      at += count;
      intoAt += count;
      length -= count;
      index++;
    }
  }

  /** The last entry that starts at or before `at`. */
  #entryAt(at: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

const hugeness = new WeakMap<BorrowedFd, boolean>();

/**
 * Files of huge pages cannot be mapped in pieces of small ones; hugetlbfs tells its page size here.
 * Nor can the pieces be shared instead: Linux 6.12 takes them into a udmabuf and has them right in
 * mmap and for DMA, but its vmap shows the first page of each huge one in place of all (mended by
 * a26fd92b7223). A driver that reads by the CPU, as vkms does, shows a wrong picture then, and
 * nobody gets an error.
 */
function isHuge(memfd: BorrowedFd): boolean {
  let isHuge = hugeness.get(memfd);
  if (isHuge === undefined) hugeness.set(memfd, (isHuge = fstatSync(memfd.fd).blksize > PAGE_SIZE));
  return isHuge;
}

/** A resource's pixels where the guest has them. */
export class MappedPages implements PagesBacking, Disposable {
  readonly kind = 'pages';
  readonly isBlob: boolean;
  readonly ranges: readonly PageRange[];
  #mapping: Mapping | null = null;

  /** `ranges` are whole pages; their memfds need not outlive the first call of `pixels`. */
  constructor(ranges: readonly PageRange[], isBlob: boolean) {
    this.ranges = ranges;
    this.isBlob = isBlob;
  }

  pixels(): Mapping {
    return (this.#mapping ??= Mapping.linear(
      this.ranges.map(({ memfd, offset, length }) => ({ fd: memfd, offset, length })),
      'read',
    ));
  }

  [Symbol.dispose](): void {
    this.#mapping?.[Symbol.dispose]();
    this.#mapping = null;
  }
}
