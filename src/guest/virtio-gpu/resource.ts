import { fstatSync } from 'node:fs';
import { DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import {
  type Framebuffer,
  newFramebufferId,
  type PageRange,
  type PagesBacking,
  type PixelLayout,
} from '../../core/framebuffer.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import type { GuestMemory } from '../memory.ts';
import { VirtioGpuError } from './errors.ts';
import type { BackingEntry } from './tap.ts';

/** The backing that a guest attached to a resource: pieces of its memory, one after another. */
export class GuestPages {
  readonly entries: readonly BackingEntry[];
  /** The bytes of all entries together. */
  readonly length: number;
  /** Where each entry starts, in bytes from the start of the first one. */
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
   * The first `length` bytes as runs of whole pages, neighbours merged; null if they cannot be mapped side by
   * side. `length` is at most that of the entries, which lie inside `memory`.
   */
  runs(memory: GuestMemory, length: number): PageRange[] | null {
    const runs: { memfd: BorrowedFd; offset: number; length: number }[] = [];
    let left = length;
    for (const entry of this.entries) {
      if (left <= 0) break;
      // Something else may follow the picture on its last page.
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
 * Whether the file is of huge pages, which cannot be mapped in pieces of small ones; hugetlbfs reports its page
 * size as the block size. A udmabuf of such pieces is no way out: in Linux 6.12 it is right for mmap and DMA, but
 * its vmap shows the first small page of each huge one in place of all (fixed by a26fd92b7223). A driver that
 * reads with the CPU, like vkms, would show a wrong picture without an error.
 */
function isHuge(memfd: BorrowedFd): boolean {
  let isHuge = hugeness.get(memfd);
  if (isHuge === undefined) hugeness.set(memfd, (isHuge = fstatSync(memfd.fd).blksize > PAGE_SIZE));
  return isHuge;
}

/** A resource's pixels, mapped where the guest has them. */
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

/** A resource's pixels in host memory, where they cannot stay in the guest's pages. */
export class Store implements PagesBacking, Disposable {
  readonly kind = 'pages';
  readonly isBlob = false;
  readonly ranges: readonly PageRange[];
  readonly length: number;
  readonly #memfd: OwnedFd;
  readonly #mapping: Mapping;
  readonly #budget: MemoryBudget;

  private constructor(memfd: OwnedFd, mapping: Mapping, budget: MemoryBudget) {
    this.#memfd = memfd;
    this.#mapping = mapping;
    this.#budget = budget;
    this.length = mapping.length;
    this.ranges = [{ memfd, offset: 0, length: mapping.length }];
  }

  /**
   * A zeroed store. `bytes` are rounded up to whole pages and charged to `budget` until dispose. VirtioGpuError
   * out-of-memory beyond the budget; SysError of memfd_create, ftruncate or mmap.
   */
  static create(budget: MemoryBudget, bytes: number): Store {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    if (!budget.reserve(length))
      throw new VirtioGpuError(
        'out-of-memory',
        `${length} bytes for a resource, and ${budget.used} of ${budget.limit} are in use`,
      );
    let memfd: OwnedFd | null = null;
    try {
      memfd = createMemfd('scanout-resource', length);
      return new Store(memfd, Mapping.file(memfd, 0, length, 'read-write'), budget);
    } catch (error) {
      memfd?.[Symbol.dispose]();
      budget.release(length);
      throw error;
    }
  }

  get bytes(): Uint8Array {
    return this.#mapping.bytes;
  }

  pixels(): Mapping {
    return this.#mapping;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
    this.#budget.release(this.length);
  }
}

/** All eight virtio-gpu formats have one plane with four bytes per pixel. */
export const BYTES_PER_PIXEL = 4;

/** One plane of linear pixels. `set` describes another one without allocating. */
export class LinearLayout implements PixelLayout {
  width = 0;
  height = 0;
  format = 0 as Fourcc;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly [{ offset: number; stride: number }] = [{ offset: 0, stride: 0 }];

  set(width: number, height: number, format: Fourcc, offset: number, stride: number): this {
    this.width = width;
    this.height = height;
    this.format = format;
    this.planes[0].offset = offset;
    this.planes[0].stride = stride;
    return this;
  }

  copy(layout: PixelLayout): this {
    const { offset, stride } = layout.planes[0]!;
    return this.set(layout.width, layout.height, layout.format, offset, stride);
  }
}

export function sameLayout(a: PixelLayout, b: PixelLayout): boolean {
  return (
    a.width === b.width &&
    a.height === b.height &&
    a.format === b.format &&
    a.planes[0]!.offset === b.planes[0]!.offset &&
    a.planes[0]!.stride === b.planes[0]!.stride
  );
}

/** A 2D resource, which has a layout, or a guest blob, whose layout comes with each SET_SCANOUT_BLOB. */
export class Resource {
  readonly id: number;
  readonly layout: PixelLayout | null;
  /** The bytes its pixels take, from the start of the backing on. */
  readonly byteLength: number;
  /** The attached backing; null if there is none. */
  guest: GuestPages | null = null;
  /** The pixels: in the pages of `guest`, or saved from there; null if there are none. */
  pixels: MappedPages | Store | null = null;
  /** The framebuffers over `pixels`, oldest first. */
  framebuffers: Framebuffer[] = [];
  /** Something was transferred, so the pixels must outlive their backing. */
  isWritten = false;
  uuid: Uint8Array | null = null;

  constructor(id: number, byteLength: number, layout: PixelLayout | null) {
    this.id = id;
    this.byteLength = byteLength;
    this.layout = layout;
  }

  get isBlob(): boolean {
    return this.layout === null;
  }

  /** The framebuffer with this layout, the same object each time; null if there are no pixels. */
  framebuffer(layout: PixelLayout): Framebuffer | null {
    if (!this.pixels) return null;
    for (const known of this.framebuffers) if (sameLayout(known, layout)) return known;
    const { width, height, format, modifier, planes } = layout;
    const framebuffer: Framebuffer = {
      id: newFramebufferId(),
      width,
      height,
      format,
      modifier,
      planes: [{ ...planes[0]! }],
      backing: this.pixels,
    };
    this.framebuffers.push(framebuffer);
    return framebuffer;
  }
}
