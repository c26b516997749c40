/**
 * libpixman-1, if it is installed: rectangle copies in one call, scaling, blending and format
 * conversion. Nothing here checks addresses, strides or rectangles: callers must have done so.
 */
import koffi from 'koffi';
import { pixman_box32, pixman_region32, pixmanOfFourcc } from '../../../protocols/pixman.ts';
import { SysError } from '../errors.ts';
import { NativeBuffer } from '../native-buffer.ts';
import { optionalLibrary } from './library.ts';

const PIXMAN_OP_CLEAR = 0;
const PIXMAN_OP_SRC = 1;
const PIXMAN_OP_OVER = 3;
const PIXMAN_FILTER_BILINEAR = 4;
const PIXMAN_REPEAT_PAD = 2;
/** 1.0 in pixman's 16.16 fixed point. */
const FIXED_ONE = 0x1_0000;
const WORD = 4;

/** PIXMAN_a8: 8 bits of alpha. */
const A8 = 0x0801_8000;

/** The `format` of PixmanBits for a DRM format; null if pixman has none. */
export const pixmanFormat = pixmanOfFourcc;

/** Pixels in memory; `address` and `stride` (bytes) are multiples of 4. */
export interface PixmanBits {
  readonly address: number;
  readonly stride: number;
  readonly format: number;
  readonly width: number;
  readonly height: number;
}

/** In whole pixels. */
export interface PixmanRect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

type CreateBits = (format: number, width: number, height: number, bits: number, stride: number) => number;
type Composite = (
  op: number,
  src: number,
  mask: number,
  dst: number,
  srcX: number,
  srcY: number,
  maskX: number,
  maskY: number,
  dstX: number,
  dstY: number,
  width: number,
  height: number,
) => void;
/** Rectangles, in the pixels of both sides of a copy. */
export interface Rects {
  readonly count: number;
  x(i: number): number;
  y(i: number): number;
  width(i: number): number;
  height(i: number): number;
}

type InitRects = (region: number, boxes: number, count: number) => number;
type FiniRegion = (region: number) => void;
type SetClip = (image: number, region: number) => number;
type Unref = (image: number) => number;
type SetTransform = (image: number, matrix: Uint8Array) => number;
type SetFilter = (image: number, filter: number, parameters: number, count: number) => number;
type SetRepeat = (image: number, repeat: number) => void;

/** pixman's coordinates are 16 bits wide, and it adds one on each side. */
const MAX_COORDINATE = 0x7ffe;

/** How many rectangles `copyRects` takes. */
const MAX_RECTS = 16;
const BOX_WORDS = pixman_box32.size / WORD;

/** More than the buffers that a few screens flip between. */
const SLOTS = 16;

/**
 * A cache of pixman images that describe runs of memory as pixels of one byte: pixman copies those
 * row by row with memcpy, which is faster than its code for larger pixels. An image only says where
 * memory is, so one whose memory has been freed does no harm while it is not used.
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

  /** 0 if pixman cannot describe it. Valid until the call after the next, because a copy needs two images. */
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
  readonly #setTransform: SetTransform;
  readonly #setFilter: SetFilter;
  readonly #setRepeat: SetRepeat;
  readonly #initRects: InitRects;
  readonly #finiRegion: FiniRegion;
  readonly #setClip: SetClip;
  readonly #rowImages: RowImages;
  readonly #region = NativeBuffer.allocate(pixman_region32.size);
  readonly #boxes = NativeBuffer.allocate(MAX_RECTS * pixman_box32.size);
  readonly #boxWords = new Int32Array(this.#boxes.bytes.buffer);

  /** Throws if the library or one of its symbols is missing; see `loadPixman`. */
  constructor() {
    const library = koffi.load('libpixman-1.so.0');
    const ints = (count: number): string[] => Array.from({ length: count }, () => 'int');
    this.#createBits = library.func('pixman_image_create_bits_no_clear', 'uintptr_t', [
      'uint',
      'int',
      'int',
      'uintptr_t',
      'int',
    ]) as CreateBits;
    this.#composite = library.func('pixman_image_composite32', 'void', [
      'int',
      'uintptr_t',
      'uintptr_t',
      'uintptr_t',
      ...ints(8),
    ]) as Composite;
    this.#unref = library.func('pixman_image_unref', 'int', ['uintptr_t']) as Unref;
    this.#setTransform = library.func('pixman_image_set_transform', 'int', ['uintptr_t', 'void *']) as SetTransform;
    this.#setFilter = library.func('pixman_image_set_filter', 'int', [
      'uintptr_t',
      'int',
      'uintptr_t',
      'int',
    ]) as SetFilter;
    this.#setRepeat = library.func('pixman_image_set_repeat', 'void', ['uintptr_t', 'int']) as SetRepeat;
    this.#initRects = library.func('pixman_region32_init_rects', 'int', ['uintptr_t', 'uintptr_t', 'int']) as InitRects;
    this.#finiRegion = library.func('pixman_region32_fini', 'void', ['uintptr_t']) as FiniRegion;
    this.#setClip = library.func('pixman_image_set_clip_region32', 'int', ['uintptr_t', 'uintptr_t']) as SetClip;
    this.#rowImages = new RowImages(this.#createBits, this.#unref);
  }

  /**
   * Copies `rows` rows of `rowBytes` bytes between two runs of memory. Lengths, offsets and strides
   * are in bytes. Returns false, with nothing copied, if pixman cannot do it. Allocates nothing for
   * runs used recently.
   */
  copyRows(
    src: number,
    srcLength: number,
    srcOffset: number,
    srcStride: number,
    dst: number,
    dstLength: number,
    dstOffset: number,
    dstStride: number,
    rowBytes: number,
    rows: number,
  ): boolean {
    const srcX = srcOffset % srcStride;
    const srcY = Math.floor(srcOffset / srcStride);
    const dstX = dstOffset % dstStride;
    const dstY = Math.floor(dstOffset / dstStride);
    const srcRows = Math.floor(srcLength / srcStride);
    const dstRows = Math.floor(dstLength / dstStride);
    // pixman would silently clip what reaches beyond its image.
    if (srcX + rowBytes > srcStride || srcY + rows > srcRows || dstX + rowBytes > dstStride || dstY + rows > dstRows)
      return false;
    const from = this.#rowImages.get(src, srcStride, srcRows);
    const to = this.#rowImages.get(dst, dstStride, dstRows);
    if (from === 0 || to === 0) return false;
    this.#composite(PIXMAN_OP_SRC, from, 0, to, srcX, srcY, 0, 0, dstX, dstY, rowBytes, rows);
    return true;
  }

  /**
   * Copies rectangles between two runs of memory in one call. Pixel 0, 0 of the destination is at its address, that of the
   * source at `srcOffset`. Pixels have `unit` bytes; the rest is as for `copyRows`. Pixels in several rectangles are copied
   * once.
   */
  copyRects(
    src: number,
    srcLength: number,
    srcOffset: number,
    srcStride: number,
    dst: number,
    dstLength: number,
    dstStride: number,
    unit: number,
    rects: Rects,
  ): boolean {
    const { count } = rects;
    if (count > MAX_RECTS) return false;
    const words = this.#boxWords;
    let right = 0;
    let bottom = 0;
    for (let i = 0, at = 0; i < count; i++, at += BOX_WORDS) {
      const x = rects.x(i) * unit;
      const y = rects.y(i);
      const x2 = x + rects.width(i) * unit;
      const y2 = y + rects.height(i);
      if (x < 0 || y < 0) return false;
      words[at] = x;
      words[at + 1] = y;
      words[at + 2] = x2;
      words[at + 3] = y2;
      if (x2 > right) right = x2;
      if (y2 > bottom) bottom = y2;
    }
    const srcX = srcOffset % srcStride;
    const srcY = Math.floor(srcOffset / srcStride);
    const srcRows = Math.floor(srcLength / srcStride);
    const dstRows = Math.floor(dstLength / dstStride);
    // Beyond its image pixman would silently clip, or copy zeros.
    if (srcX + right > srcStride || srcY + bottom > srcRows || right > dstStride || bottom > dstRows) return false;
    const from = this.#rowImages.get(src, srcStride, srcRows);
    const to = this.#rowImages.get(dst, dstStride, dstRows);
    if (from === 0 || to === 0) return false;
    const region = this.#region.address;
    if (this.#initRects(region, this.#boxes.address, count) === 0) return false;
    const isClipped = this.#setClip(to, region) !== 0;
    if (isClipped) this.#composite(PIXMAN_OP_SRC, from, 0, to, srcX, srcY, 0, 0, 0, 0, right, bottom);
    this.#setClip(to, 0);
    this.#finiRegion(region);
    return isClipped;
  }

  /**
   * Copies a rectangle and converts its format, clipped to both images. A source without alpha
   * counts as opaque. SysError EINVAL for bits that pixman does not accept.
   */
  convert(
    src: PixmanBits,
    srcX: number,
    srcY: number,
    dst: PixmanBits,
    dstX: number,
    dstY: number,
    width: number,
    height: number,
  ): void {
    const from = this.#create(src);
    try {
      const to = this.#create(dst);
      this.#composite(PIXMAN_OP_SRC, from, 0, to, srcX, srcY, 0, 0, dstX, dstY, width, height);
      this.#unref(to);
    } finally {
      this.#unref(from);
    }
  }

  /** Makes `area` black and, if `dst` has alpha, transparent. SysError EINVAL as for `convert`. */
  clear(dst: PixmanBits, area: PixmanRect): void {
    const to = this.#create(dst);
    this.#composite(PIXMAN_OP_CLEAR, to, 0, to, 0, 0, 0, 0, area.x, area.y, area.width, area.height);
    this.#unref(to);
  }

  /**
   * Draws rectangle `from` of `src` into rectangle `to` of `dst`, clipped to `area` and smoothly
   * scaled if the sizes differ. With `over` it blends premultiplied alpha; otherwise it replaces
   * pixels. SysError EINVAL as for `convert`.
   */
  draw(src: PixmanBits, from: PixmanRect, dst: PixmanBits, to: PixmanRect, area: PixmanRect, over: boolean): void {
    const x = Math.max(to.x, area.x);
    const y = Math.max(to.y, area.y);
    const width = Math.min(to.x + to.width, area.x + area.width) - x;
    const height = Math.min(to.y + to.height, area.y + area.height) - y;
    if (width <= 0 || height <= 0) return;
    const isScaled = from.width !== to.width || from.height !== to.height;
    const source = this.#create(src);
    try {
      if (isScaled) this.#scale(source, from, to);
      const target = this.#create(dst);
      const srcX = x - to.x + (isScaled ? 0 : from.x);
      const srcY = y - to.y + (isScaled ? 0 : from.y);
      this.#composite(over ? PIXMAN_OP_OVER : PIXMAN_OP_SRC, source, 0, target, srcX, srcY, 0, 0, x, y, width, height);
      this.#unref(target);
    } finally {
      this.#unref(source);
    }
  }

  /** Transforms `image` so that `from` appears at 0, 0 with the size of `to`. */
  #scale(image: number, from: PixmanRect, to: PixmanRect): void {
    const x = (from.width / to.width) * FIXED_ONE;
    const y = (from.height / to.height) * FIXED_ONE;
    const matrix = Int32Array.of(x, 0, from.x * FIXED_ONE, 0, y, from.y * FIXED_ONE, 0, 0, FIXED_ONE);
    this.#setTransform(image, new Uint8Array(matrix.buffer));
    this.#setFilter(image, PIXMAN_FILTER_BILINEAR, 0, 0);
    this.#setRepeat(image, PIXMAN_REPEAT_PAD);
  }

  #create({ format, width, height, address, stride }: PixmanBits): number {
    // pixman divides the stride by 4 without checking it.
    const image =
      stride % WORD === 0 && address % WORD === 0 ? this.#createBits(format, width, height, address, stride) : 0;
    if (image === 0) {
      throw new SysError(
        'pixman_image_create_bits_no_clear',
        'EINVAL',
        `${width}x${height}, stride ${stride}, format 0x${format.toString(16)}`,
      );
    }
    return image;
  }
}

/** The library, loaded once; null if it is not installed. */
export const loadPixman = optionalLibrary(() => new Pixman());
