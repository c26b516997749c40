/**
 * libpixman-1, when this machine has it: rectangle copies in one call, and format conversion.
 * All addresses, strides and rectangles are trusted here: callers have checked them.
 */
import koffi from 'koffi';
import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { SysError } from './errors.ts';

const PIXMAN_OP_SRC = 1;
const WORD = 4;

const TYPE_ARGB = 2;
const TYPE_ABGR = 3;
const TYPE_BGRA = 8;
const TYPE_RGBA = 9;

function format(bpp: number, type: number, a: number, r: number, g: number, b: number): number {
  return (bpp << 24) | (type << 16) | (a << 12) | (r << 8) | (g << 4) | b;
}

/* pixman_format_code_t by DRM format: both name components from the highest bit of a word down. */
const formats = new Map<Fourcc, number>([
  [DRM_FORMAT.ARGB8888, format(32, TYPE_ARGB, 8, 8, 8, 8)],
  [DRM_FORMAT.XRGB8888, format(32, TYPE_ARGB, 0, 8, 8, 8)],
  [DRM_FORMAT.ABGR8888, format(32, TYPE_ABGR, 8, 8, 8, 8)],
  [DRM_FORMAT.XBGR8888, format(32, TYPE_ABGR, 0, 8, 8, 8)],
  [DRM_FORMAT.BGRA8888, format(32, TYPE_BGRA, 8, 8, 8, 8)],
  [DRM_FORMAT.BGRX8888, format(32, TYPE_BGRA, 0, 8, 8, 8)],
  [DRM_FORMAT.RGBA8888, format(32, TYPE_RGBA, 8, 8, 8, 8)],
  [DRM_FORMAT.RGBX8888, format(32, TYPE_RGBA, 0, 8, 8, 8)],
  [DRM_FORMAT.RGB888, format(24, TYPE_ARGB, 0, 8, 8, 8)],
  [DRM_FORMAT.BGR888, format(24, TYPE_ABGR, 0, 8, 8, 8)],
  [DRM_FORMAT.RGB565, format(16, TYPE_ARGB, 0, 5, 6, 5)],
]);

/** The `format` of PixmanBits for a DRM format; null if pixman has none. */
export function pixmanFormat(fourcc: Fourcc): number | null {
  return formats.get(fourcc) ?? null;
}

/** Pixels in memory; `address` and `stride` (bytes) are multiples of 4. */
export interface PixmanBits {
  readonly address: number;
  readonly stride: number;
  readonly format: number;
  readonly width: number;
  readonly height: number;
}

type Blt = (
  src: number, dst: number, srcStride: number, dstStride: number, srcBpp: number, dstBpp: number,
  srcX: number, srcY: number, dstX: number, dstY: number, width: number, height: number,
) => number;
type CreateBits = (format: number, width: number, height: number, bits: number, stride: number) => number;
type Composite = (
  op: number, src: number, mask: number, dst: number, srcX: number, srcY: number, maskX: number, maskY: number,
  dstX: number, dstY: number, width: number, height: number,
) => void;
type Unref = (image: number) => number;

export class Pixman {
  readonly #blt: Blt;
  readonly #createBits: CreateBits;
  readonly #composite: Composite;
  readonly #unref: Unref;

  /** Throws if the library or one of its symbols is missing; see `loadPixman`. */
  constructor() {
    const library = koffi.load('libpixman-1.so.0');
    const ints = (count: number): string[] => Array.from({ length: count }, () => 'int');
    this.#blt = library.func('pixman_blt', 'int', ['uintptr_t', 'uintptr_t', ...ints(10)]) as Blt;
    this.#createBits = library.func('pixman_image_create_bits_no_clear', 'uintptr_t', ['uint', 'int', 'int', 'uintptr_t', 'int']) as CreateBits;
    this.#composite = library.func('pixman_image_composite32', 'void', ['int', 'uintptr_t', 'uintptr_t', 'uintptr_t', ...ints(8)]) as Composite;
    this.#unref = library.func('pixman_image_unref', 'int', ['uintptr_t']) as Unref;
  }

  /**
   * Copies a rectangle of 2 or 4 byte pixels, strides in bytes and multiples of 4. False, with
   * nothing copied, where pixman has no fast path. Allocates nothing.
   */
  blit(
    srcAddress: number, srcStride: number, dstAddress: number, dstStride: number, bytesPerPixel: 2 | 4,
    srcX: number, srcY: number, dstX: number, dstY: number, width: number, height: number,
  ): boolean {
    const bpp = bytesPerPixel * 8;
    return this.#blt(srcAddress, dstAddress, srcStride / WORD, dstStride / WORD, bpp, bpp, srcX, srcY, dstX, dstY, width, height) !== 0;
  }

  /**
   * Copies a rectangle and converts its format; alpha that the source lacks reads as opaque.
   * Clipped to both. SysError EINVAL for bits pixman cannot take.
   */
  convert(src: PixmanBits, srcX: number, srcY: number, dst: PixmanBits, dstX: number, dstY: number, width: number, height: number): void {
    const from = this.#create(src);
    try {
      const to = this.#create(dst);
      this.#composite(PIXMAN_OP_SRC, from, 0, to, srcX, srcY, 0, 0, dstX, dstY, width, height);
      this.#unref(to);
    } finally {
      this.#unref(from);
    }
  }

  #create({ format, width, height, address, stride }: PixmanBits): number {
    // pixman divides the stride by 4 without a look.
    const image = stride % WORD === 0 && address % WORD === 0 ? this.#createBits(format, width, height, address, stride) : 0;
    if (image === 0) {
      throw new SysError('pixman_image_create_bits_no_clear', 'EINVAL', `${width}x${height}, stride ${stride}, format 0x${format.toString(16)}`);
    }
    return image;
  }
}

let loaded: Pixman | null | undefined;

/** The library, loaded once; null if it is not installed. */
export function loadPixman(): Pixman | null {
  if (loaded === undefined) {
    try {
      loaded = new Pixman();
    } catch {
      loaded = null;
    }
  }
  return loaded;
}
