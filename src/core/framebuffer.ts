import type { BorrowedFd } from '../sys/fd.ts';
import type { Mapping } from '../sys/mapping.ts';
import type { PageRange } from '../sys/udmabuf.ts';
import type { Fourcc, Modifier } from '../../protocols/drm-fourcc.ts';

export type { PageRange };

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
  /** The guest shares these pages explicitly (a guest blob), so it relies on no transfers. */
  readonly isBlob: boolean;
  readonly ranges: readonly PageRange[];
  /**
   * All ranges as one read-only mapping, made by the first call. The source owns it and unmaps it
   * after `destroyed`. Throws SysError if the kernel refuses the mapping.
   */
  pixels(): Mapping;
}

/** Pixels in a dma-buf that holds all memory planes. The source owns the descriptor. */
export interface DmabufBacking {
  readonly kind: 'dmabuf';
  readonly dmabuf: BorrowedFd;
}

export type Backing = PagesBacking | DmabufBacking;

/** A guest's description of pixels it draws. Immutable; owned by the source until `destroyed`. */
export interface Framebuffer extends PixelLayout {
  readonly id: FramebufferId;
  readonly backing: Backing;
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
