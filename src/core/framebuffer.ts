import type { BorrowedFd } from '../sys/fd.ts';
import type { Memory, ScatteredMemory } from '../sys/copy-rect.ts';
import type { Mapping } from '../sys/mapping.ts';
import type { PageRuns } from '../sys/page-runs.ts';
import type { Fourcc, Modifier } from '../../protocols/drm-fourcc.ts';

/** Identifies a framebuffer in caches; never reused during the life of the process. */
export type FramebufferId = number & { readonly __brand: 'FramebufferId' };

/** Where a memory plane starts in the backing, and the distance between its rows, in bytes. */
export interface MemoryPlane {
  readonly offset: number;
  readonly stride: number;
}

/** How pixels are laid out in memory. One memory plane for RGB, up to four for YUV. */
export interface PixelLayout {
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier: Modifier;
  readonly planes: readonly MemoryPlane[];
}

/** Pixels in pages of memfds (guest RAM, or memory allocated for the guest), in the order of the picture. */
export interface PagesBacking {
  readonly kind: 'pages';
  /**
   * The guest means its screen to be these pages (a guest blob): it relies on no transfers, and draws into them again only
   * after the flush that took them off the screen is done. Of other pages it expects a copy at each flush.
   */
  readonly isBlob: boolean;
  /** Empty if the pages cannot be shared: `pixels` is the only way to them. */
  readonly ranges: PageRuns;
  /**
   * All ranges where this process reads them, in one piece or in several. The source owns the memory and unmaps it after
   * `destroyed`; ask again each time, because it may be mapped elsewhere meanwhile. Throws SysError if the kernel refuses
   * a mapping.
   */
  pixels(): Memory | ScatteredMemory;
}

/** Pixels in a dma-buf that holds all memory planes. The source owns the descriptor. */
export interface DmabufBacking {
  readonly kind: 'dmabuf';
  readonly dmabuf: BorrowedFd;
  /**
   * The dma-buf as a read-only mapping, made by the first call, for outputs that cannot import it. The source owns it and
   * unmaps it after `destroyed`. Throws SysError if the kernel refuses the mapping. Absent if the CPU cannot make sense of
   * the memory, which is laid out in tiles.
   */
  pixels?(): Mapping;
}

/**
 * Pixels in a memory file that its owner may shorten at any time. It is read by read(2) and never mapped, because a
 * program that touches a mapping beyond the end of its file dies.
 */
export interface FileBacking {
  readonly kind: 'file';
  /** Of a file that `getSeals` takes, which is read without waiting. The source owns it. */
  readonly file: BorrowedFd;
}

export type Backing = PagesBacking | DmabufBacking | FileBacking;

/** A guest's description of pixels it draws. Immutable; owned by the source until `destroyed`. */
export interface Framebuffer extends PixelLayout {
  readonly id: FramebufferId;
  readonly backing: Backing;
  /**
   * The first row in memory is the lowest of the picture, as OpenGL has it. Rectangles and damage count from the top all the
   * same. Default: the first row is the highest.
   */
  readonly isBottomUp?: boolean;
  /** 16 bytes: the guest's own id for the backing, which begins where the backing does. Absent if it gave none. */
  readonly uuid?: Uint8Array;
}

let lastId = 0;

export function newFramebufferId(): FramebufferId {
  return ++lastId as FramebufferId;
}

/** A set of fourcc and modifier pairs. Immutable after construction. */
export class FormatSet {
  readonly #pairs = new Map<Fourcc, Set<Modifier>>();

  constructor(pairs: Iterable<readonly [Fourcc, Modifier]> = []) {
    for (const [format, modifier] of pairs) {
      const modifiers = this.#pairs.get(format);
      if (modifiers) modifiers.add(modifier);
      else this.#pairs.set(format, new Set([modifier]));
    }
  }

  has(format: Fourcc, modifier: Modifier): boolean {
    return this.#pairs.get(format)?.has(modifier) ?? false;
  }

  get isEmpty(): boolean {
    return this.#pairs.size === 0;
  }

  formats(): Iterable<Fourcc> {
    return this.#pairs.keys();
  }

  modifiers(format: Fourcc): Iterable<Modifier> {
    return this.#pairs.get(format) ?? [];
  }
}
