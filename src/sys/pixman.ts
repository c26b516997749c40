/**
 * libpixman-1, when this machine has it: rectangle copies in one call, and format conversion.
 * All addresses, strides and rectangles are trusted here: callers have checked them.
 */
import koffi from 'koffi';
import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { SysError } from './errors.ts';

const PIXMAN_OP_SRC = 1;
const WORD = 4;

const TYPE_A = 1;
const TYPE_ARGB = 2;
const TYPE_ABGR = 3;
const TYPE_BGRA = 8;
const TYPE_RGBA = 9;

function format(bpp: number, type: number, a: number, r: number, g: number, b: number): number {
  return (bpp << 24) | (type << 16) | (a << 12) | (r << 8) | (g << 4) | b;
}

const A8 = format(8, TYPE_A, 8, 0, 0, 0);

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

type CreateBits = (format: number, width: number, height: number, bits: number, stride: number) => number;
type Composite = (
  op: number, src: number, mask: number, dst: number, srcX: number, srcY: number, maskX: number, maskY: number,
  dstX: number, dstY: number, width: number, height: number,
) => void;
type Unref = (image: number) => number;

/** Pixman's coordinates are 16 bits wide, with one to spare on each side. */
const MAX_COORDINATE = 0x7ffe;

/** More than the buffers a few screens flip between. */
const SLOTS = 16;

/**
 * Runs of memory as images whose pixels are bytes: those pixman copies row by row with memcpy,
 * which is faster than what it does with larger pixels. An image only says where memory is; one
 * whose memory is long gone does no harm.
 */
class RowImages {
  readonly #create: CreateBits;
  readonly #unref: Unref;
  readonly #addresses = new Float64Array(SLOTS);
  readonly #strides = new Float64Array(SLOTS);
  readonly #rows = new Float64Array(SLOTS);
  readonly #images = new Float64Array(SLOTS);
  #oldest = 0;
  #latest = 0;

  constructor(create: CreateBits, unref: Unref) {
    this.#create = create;
    this.#unref = unref;
  }

  /** 0 if it cannot be an image. Valid until the call after the next: a copy needs two. */
  get(address: number, stride: number, rows: number): number {
    for (let i = 0; i < SLOTS; i++) {
      if (this.#addresses[i] !== address || this.#strides[i] !== stride || this.#rows[i] !== rows) continue;
      this.#latest = i;
      return this.#images[i]!;
    }
    if ((address | stride) % WORD !== 0 || stride > MAX_COORDINATE || rows > MAX_COORDINATE) return 0;
    const image = this.#create(A8, stride, rows, address, stride);
    if (image === 0) return 0;
    const slot = this.#oldest === this.#latest ? (this.#oldest + 1) % SLOTS : this.#oldest;
    this.#oldest = (slot + 1) % SLOTS;
    this.#latest = slot;
    if (this.#images[slot] !== 0) this.#unref(this.#images[slot]!);
    this.#addresses[slot] = address;
    this.#strides[slot] = stride;
    this.#rows[slot] = rows;
    this.#images[slot] = image;
    return image;
  }
}

export class Pixman {
  readonly #createBits: CreateBits;
  readonly #composite: Composite;
  readonly #unref: Unref;
  readonly #rowImages: RowImages;

  /** Throws if the library or one of its symbols is missing; see `loadPixman`. */
  constructor() {
    const library = koffi.load('libpixman-1.so.0');
    const ints = (count: number): string[] => Array.from({ length: count }, () => 'int');
    this.#createBits = library.func('pixman_image_create_bits_no_clear', 'uintptr_t', ['uint', 'int', 'int', 'uintptr_t', 'int']) as CreateBits;
    this.#composite = library.func('pixman_image_composite32', 'void', ['int', 'uintptr_t', 'uintptr_t', 'uintptr_t', ...ints(8)]) as Composite;
    this.#unref = library.func('pixman_image_unref', 'int', ['uintptr_t']) as Unref;
    this.#rowImages = new RowImages(this.#createBits, this.#unref);
  }

  /**
   * Copies `rows` rows of `rowBytes` bytes between two runs of memory, addresses, lengths, offsets
   * and strides in bytes. False, with nothing copied, where pixman cannot. Allocates nothing for
   * runs it has seen lately.
   */
  copyRows(
    src: number, srcLength: number, srcOffset: number, srcStride: number,
    dst: number, dstLength: number, dstOffset: number, dstStride: number,
    rowBytes: number, rows: number,
  ): boolean {
    const srcX = srcOffset % srcStride;
    const srcY = Math.floor(srcOffset / srcStride);
    const dstX = dstOffset % dstStride;
    const dstY = Math.floor(dstOffset / dstStride);
    const srcRows = Math.floor(srcLength / srcStride);
    const dstRows = Math.floor(dstLength / dstStride);
    // What reaches beyond its image, pixman clips without a word.
    if (srcX + rowBytes > srcStride || srcY + rows > srcRows || dstX + rowBytes > dstStride || dstY + rows > dstRows) return false;
    const from = this.#rowImages.get(src, srcStride, srcRows);
    const to = this.#rowImages.get(dst, dstStride, dstRows);
    if (from === 0 || to === 0) return false;
    this.#composite(PIXMAN_OP_SRC, from, 0, to, srcX, srcY, 0, 0, dstX, dstY, rowBytes, rows);
    return true;
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
