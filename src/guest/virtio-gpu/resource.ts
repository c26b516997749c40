import { fstatSync } from 'node:fs';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import { type Framebuffer, newFramebufferId, type PagesBacking, type PixelLayout } from '../../core/framebuffer.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { type Memory, ScatteredMemory } from '../../sys/copy-rect.ts';
import { SysError } from '../../sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { PageRuns } from '../../sys/page-runs.ts';
import type { GuestMemory, MemoryRegion } from '../memory.ts';
import { VirtioGpuError } from './errors.ts';
import type { LinearView, LinearViews } from './linear-views.ts';

/**
 * The backing that a guest attached to a resource: pieces of its memory, one after another. There may be thousands of
 * backings of thousands of entries, so they are kept in typed arrays, which lie outside V8's heap.
 */
export class GuestPages {
  /** The guest physical address of each entry. */
  readonly #addresses: Float64Array;
  /** Where each entry ends, in bytes from the start of the first one. */
  readonly #ends: Float64Array;

  /** Takes over the arrays, which have one element for each entry. */
  constructor(addresses: Float64Array, ends: Float64Array) {
    this.#addresses = addresses;
    this.#ends = ends;
  }

  /** How many entries it has. */
  get count(): number {
    return this.#addresses.length;
  }

  /** The bytes of all entries together. */
  get length(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** The host memory it takes, in bytes. */
  get cost(): number {
    return this.#addresses.byteLength + this.#ends.byteLength;
  }

  isInside(memory: GuestMemory): boolean {
    for (let i = 0; i < this.count; i++)
      if (!memory.covers(this.#addresses[i]!, this.#ends[i]! - this.#startOf(i))) return false;
    return true;
  }

  /**
   * The first `length` bytes as whole pages, charged to `budget`; null if they are not whole pages, or of files whose pages
   * cannot be shared. `length` is at most that of the entries, which lie inside `memory`. VirtioGpuError out-of-memory
   * beyond the budget.
   */
  map(
    memory: GuestMemory,
    length: number,
    isBlob: boolean,
    budget: MemoryBudget,
    views: LinearViews,
  ): MappedPages | null {
    const runs = new PageRuns(this.count);
    const regions: MemoryRegion[] = [];
    let left = length;
    for (let i = 0; i < this.count && left > 0; i++) {
      const entryLength = this.#ends[i]! - this.#startOf(i);
      // Something else may follow the picture on its last page.
      const wanted = Math.ceil(Math.min(entryLength, left) / PAGE_SIZE) * PAGE_SIZE;
      if (wanted > entryLength && left > entryLength) return null;
      const region = memory.region(this.#addresses[i]!, wanted);
      if (!region) return null;
      const offset = region.fileOffsetOf(this.#addresses[i]!);
      if ((offset & (PAGE_SIZE - 1)) !== 0 || isHuge(region.fd)) return null;
      left -= wanted;
      runs.add(region.fd, offset, wanted);
      if (regions.length < runs.memfds.length) regions.push(region);
    }
    return new MappedPages(runs.trim(), regions, isBlob, budget, views);
  }

  /** The guest physical address of byte `at`, which is inside the entries. */
  addressOf(at: number): number {
    const index = this.#entryAt(at);
    return this.#addresses[index]! + (at - this.#startOf(index));
  }

  /** How many bytes of its entry there are from byte `at` on, which is inside the entries. */
  restOf(at: number): number {
    return this.#ends[this.#entryAt(at)]! - at;
  }

  /** Copies `length` bytes from `at` on, all inside the entries. Allocates nothing. */
  read(memory: GuestMemory, at: number, into: Uint8Array, intoAt: number, length: number): void {
    for (let index = this.#entryAt(at); length > 0; index++) {
      const count = Math.min(this.#ends[index]! - at, length);
      memory.copyOut(this.#addresses[index]! + (at - this.#startOf(index)), count, into, intoAt);
      at += count;
      intoAt += count;
      length -= count;
    }
  }

  #startOf(index: number): number {
    return index === 0 ? 0 : this.#ends[index - 1]!;
  }

  /** The entry with byte `at`. */
  #entryAt(at: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const hugeness = new WeakMap<BorrowedFd, boolean>();

/**
 * Whether the file is of huge pages, which cannot be mapped in pieces of small ones. A udmabuf of such pieces is no way
 * out: in Linux 6.12 it is right for mmap and DMA, but its vmap shows the first small page of each huge one in place of
 * all (fixed by a26fd92b7223). A driver that reads with the CPU, like vkms, would show a wrong picture without an error.
 */
function isHuge(memfd: BorrowedFd): boolean {
  let isHuge = hugeness.get(memfd);
  if (isHuge === undefined) hugeness.set(memfd, (isHuge = !mapsSmallPages(memfd)));
  return isHuge;
}

/**
 * hugetlbfs reports the size of its pages as the block size, but so does tmpfs where it may use transparent huge pages,
 * and any small page of those can be mapped.
 */
function mapsSmallPages(memfd: BorrowedFd): boolean {
  const { blksize, size } = fstatSync(memfd.fd);
  if (blksize <= PAGE_SIZE || size < 2 * PAGE_SIZE) return true;
  try {
    Mapping.file(memfd, PAGE_SIZE, PAGE_SIZE, 'read')[Symbol.dispose]();
    return true;
  } catch (error) {
    if (error instanceof SysError && error.code === 'EINVAL') return false;
    throw error;
  }
}

/** A resource's pixels where the guest has them. */
export class MappedPages implements PagesBacking, Disposable {
  readonly kind = 'pages';
  readonly isBlob: boolean;
  readonly ranges: PageRuns;
  readonly #regions: readonly MemoryRegion[];
  readonly #budget: MemoryBudget;
  readonly #views: LinearViews;
  /** The pages in the mappings of the guest's memory. */
  readonly #inPlace: Memory | ScatteredMemory;
  #view: LinearView | null = null;
  #reads = 0;
  #isDisposed = false;

  /** `ranges.memfds[i]` is that of `regions[i]`, which it holds until dispose. VirtioGpuError out-of-memory. */
  constructor(
    ranges: PageRuns,
    regions: readonly MemoryRegion[],
    isBlob: boolean,
    budget: MemoryBudget,
    views: LinearViews,
  ) {
    if (!budget.reserve(ranges.cost))
      throw new VirtioGpuError('out-of-memory', `${budget.used} of ${budget.limit} bytes are in use`);
    this.ranges = ranges;
    this.isBlob = isBlob;
    this.#budget = budget;
    this.#views = views;
    this.#regions = regions.map((region) => region.retain());
    const bases = Float64Array.from(regions, (region) => region.fileAddress);
    this.#inPlace =
      ranges.count === 1
        ? { address: bases[0]! + ranges.offset(0), length: ranges.length }
        : new ScatteredMemory(ranges, bases);
  }

  /** Those of a picture that is read more than once may move into a linear view. */
  pixels(): Memory | ScatteredMemory {
    if (this.#isDisposed) throw new SysError('mmap', 'ENOENT', "the guest's pages are gone");
    if (this.#view?.mapping) return this.#view.mapping;
    if (this.#inPlace instanceof ScatteredMemory && ++this.#reads === 2) this.#view = this.#views.begin(this.ranges);
    return this.#inPlace;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#view?.[Symbol.dispose]();
    for (const region of this.#regions) region[Symbol.dispose]();
    this.#budget.release(this.ranges.cost);
  }
}

/** A resource's pixels in host memory, where they cannot stay in the guest's pages. */
export class Store implements PagesBacking, Disposable {
  readonly kind = 'pages';
  readonly isBlob = false;
  readonly ranges: PageRuns;
  readonly length: number;
  readonly #memfd: OwnedFd | null;
  readonly #mapping: Mapping;
  readonly #budget: MemoryBudget;

  private constructor(memfd: OwnedFd | null, mapping: Mapping, budget: MemoryBudget) {
    this.#memfd = memfd;
    this.#mapping = mapping;
    this.#budget = budget;
    this.length = mapping.length;
    this.ranges = memfd ? PageRuns.of([{ memfd, offset: 0, length: mapping.length }]) : PageRuns.none;
  }

  /** It has a descriptor, and outputs may share its pages. */
  get isShareable(): boolean {
    return this.#memfd !== null;
  }

  /**
   * A zeroed store. `bytes` are rounded up to whole pages and charged to `budget` until dispose. VirtioGpuError
   * out-of-memory beyond the budget; SysError of memfd_create, ftruncate or mmap.
   */
  static create(budget: MemoryBudget, bytes: number, isShareable: boolean): Store {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    if (!budget.reserve(length))
      throw new VirtioGpuError(
        'out-of-memory',
        `${length} bytes for a resource, and ${budget.used} of ${budget.limit} are in use`,
      );
    let memfd: OwnedFd | null = null;
    try {
      if (!isShareable) return new Store(null, Mapping.anonymous(length), budget);
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
    this.#memfd?.[Symbol.dispose]();
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
  /** The memory table in which `guest` was last looked up. */
  generation = 0;
  /** The pixels: in the pages of `guest`, or saved from there; null if there are none. */
  pixels: MappedPages | Store | null = null;
  /** The framebuffers over `pixels`, oldest first. */
  framebuffers: Framebuffer[] = [];
  /** Something was transferred, so the pixels must outlive their backing. */
  isWritten = false;
  /** What the guest exports it by; null if it does not. */
  uuid: Uint8Array | null = null;
  /** All of `pixels`, while the guest exports them. */
  exported: Framebuffer | null = null;

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
      ...(this.uuid && { uuid: this.uuid }),
    };
    this.framebuffers.push(framebuffer);
    return framebuffer;
  }

  /** Sets `exported`. */
  export(): void {
    const { uuid, pixels, byteLength } = this;
    this.exported = uuid &&
      pixels && {
        id: newFramebufferId(),
        width: byteLength,
        height: 1,
        format: DRM_FORMAT.R8,
        modifier: DRM_FORMAT_MOD_LINEAR,
        planes: [{ offset: 0, stride: byteLength }],
        backing: pixels,
        uuid,
      };
  }
}
