import type { BorrowedFd } from '../sys/fd.ts';
import type { Mapping } from '../sys/mapping.ts';
import type { PageRange } from '../sys/udmabuf.ts';
import type { Fourcc, Modifier } from '../../protocols/drm-fourcc.ts';

export type { PageRange };

/** Identity of a framebuffer for caches; never reused while the process lives. */
export type FramebufferId = number & { readonly __brand: 'FramebufferId' };

/** Where one memory plane starts inside the backing and how far its rows are apart, in bytes. */
export interface MemoryPlane {
  readonly offset: number;
  readonly stride: number;
}

/** What pixels look like, whoever owns them. One memory plane for RGB, up to four for YUV. */
export interface PixelLayout {
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier: Modifier;
  readonly planes: readonly MemoryPlane[];
}


/** Pixels in pages of memfds (guest RAM, or a store of ours), in the order of the picture. */
export interface PagesBacking {
  readonly kind: 'pages';
  /** The guest shares these pages knowingly (a guest blob) and sends no transfers it relies on. */
  readonly isBlob: boolean;
  readonly ranges: readonly PageRange[];
  /**
   * All ranges as one read-only mapping, made on the first call and owned by the source; gone
   * after `destroyed`. Throws SysError when the kernel refuses the mapping.
   */
  pixels(): Mapping;
}

/** Pixels in a dma-buf; all memory planes lie in it. The source owns the fd. */
export interface DmabufBacking {
  readonly kind: 'dmabuf';
  readonly dmabuf: BorrowedFd;
}

export type Backing = PagesBacking | DmabufBacking;

/** What a guest said about pixels it draws. Immutable; owned by the source until `destroyed`. */
export interface Framebuffer extends PixelLayout {
  readonly id: FramebufferId;
  readonly backing: Backing;
}

let lastId = 0;

export function newFramebufferId(): FramebufferId {
  return ++lastId as FramebufferId;
}

/** The fourcc x modifier pairs something accepts. Immutable after construction. */
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
