import { RFB_ENCODING, TIGHT_MAX_WIDTH, ZRLE_TILE } from '../../protocols/rfb.ts';
import { Deflater } from './deflater.ts';
import { PixelConverter, type PixelFormat, putPixels } from './pixel-format.ts';
import { TightEncoder } from './tight.ts';
import { ZrleTiles } from './zrle.ts';

/** Premultiplied ARGB pixels, shared by the threads. */
export interface CursorImage {
  readonly width: number;
  readonly height: number;
  readonly hotspotX: number;
  readonly hotspotY: number;
  readonly pixels: Uint32Array;
}

/** A cursor that is part of the picture. */
export interface PaintedCursor {
  readonly image: CursorImage;
  readonly x: number;
  readonly y: number;
}

/** What a viewer needs of a picture. */
export interface EncodeRequest {
  readonly viewer: number;
  /** XRGB pixels in rows without gaps, shared by the threads: they do not change until the answer. */
  readonly canvas: Uint32Array;
  readonly canvasWidth: number;
  readonly format: PixelFormat;
  readonly encoding: number;
  /** Of zlib. */
  readonly level: number;
  /** x, y, width and height of each rectangle, which lies within the canvas. */
  readonly rects: Int32Array;
  readonly painted: PaintedCursor | null;
  /** The viewer's new pointer, of which 0x0 pixels are none; null: the one it has. */
  readonly shape: CursorImage | null;
}

/** The rectangles of an update, and how many they are. */
export interface Encoded {
  readonly viewer: number;
  readonly rects: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Pixels that are encoded at once; a rectangle of more is sent in several. */
const PIECE = TIGHT_MAX_WIDTH * ZRLE_TILE;
const RECT_HEADER = 12;
const OPAQUE = 128;

const pixels = new Uint32Array(PIECE);
const scratch = new Uint8Array(ZrleTiles.lengthOf(TIGHT_MAX_WIDTH, ZRLE_TILE) * 2);
const zrleTiles = new ZrleTiles();

/** Encodes for one viewer, whose zlib streams it has. One request at a time. */
export class ViewerEncoder {
  #converter!: PixelConverter;
  #zrle: Deflater | undefined;
  readonly #tight = new TightEncoder();

  async encode(request: EncodeRequest): Promise<Encoded> {
    const { rects, shape, viewer, format } = request;
    this.#converter = new PixelConverter(format);
    const parts: Uint8Array[] = [];
    let count = 0;
    if (shape) {
      parts.push(...this.#shape(shape));
      count++;
    }
    for (let at = 0; at < rects.length; at += 4) {
      const [left = 0, top = 0, width = 0, height = 0] = rects.subarray(at, at + 4);
      for (let x = 0; x < width; x += TIGHT_MAX_WIDTH) {
        const pieceWidth = Math.min(TIGHT_MAX_WIDTH, width - x);
        const rows = Math.floor(PIECE / pieceWidth / ZRLE_TILE) * ZRLE_TILE;
        for (let y = 0; y < height; y += rows) {
          const pieceHeight = Math.min(rows, height - y);
          parts.push(rectHeader(left + x, top + y, pieceWidth, pieceHeight, request.encoding));
          parts.push(...(await this.#piece(request, left + x, top + y, pieceWidth, pieceHeight)));
          count++;
        }
      }
    }
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let end = 0;
    for (const part of parts) {
      bytes.set(part, end);
      end += part.length;
    }
    return { viewer, rects: count, bytes };
  }

  close(): void {
    this.#zrle?.close();
    this.#tight.close();
  }

  async #piece(request: EncodeRequest, x: number, y: number, width: number, height: number): Promise<Uint8Array[]> {
    const { canvas, canvasWidth, encoding, level, painted } = request;
    for (let row = 0; row < height; row++) {
      const from = (y + row) * canvasWidth + x;
      const to = row * width;
      for (let column = 0; column < width; column++) pixels[to + column] = canvas[from + column]! & 0xff_ffff;
    }
    if (painted) paint(painted, x, y, width, height);
    const length = width * height;
    this.#converter.convert(pixels, length);
    const { pixel, compressed, tight } = this.#converter;
    if (encoding === RFB_ENCODING.TIGHT) return await this.#tight.encode(scratch, pixels, width, height, tight, level);
    if (encoding === RFB_ENCODING.ZRLE) {
      const end = zrleTiles.put(scratch, pixels, width, height, compressed);
      const zlib = await (this.#zrle ??= new Deflater(level)).deflate(scratch.subarray(0, end), level);
      const head = Buffer.alloc(4);
      head.writeUInt32BE(zlib.length);
      return [head, zlib];
    }
    return [scratch.slice(0, putPixels(scratch, 0, pixels, 0, length, pixel))];
  }

  /** The Cursor pseudo-encoding has pixels that are opaque or not there, and colours that are not premultiplied. */
  #shape({ width, height, hotspotX, hotspotY, pixels: image }: CursorImage): Uint8Array[] {
    const length = width * height;
    const colours = new Uint32Array(length);
    const stride = Math.ceil(width / 8);
    const mask = new Uint8Array(stride * height);
    for (let i = 0; i < length; i++) {
      const alpha = image[i]! >>> 24;
      if (alpha < OPAQUE) continue;
      const x = i % width;
      mask[((i - x) / width) * stride + (x >> 3)]! |= 0x80 >> (x & 7);
      const straight = (shift: number): number =>
        Math.min(255, Math.round((((image[i]! >>> shift) & 0xff) * 255) / alpha)) << shift;
      colours[i] = straight(16) | straight(8) | straight(0);
    }
    this.#converter.convert(colours, length);
    const bytes = new Uint8Array(length * this.#converter.pixel.length);
    putPixels(bytes, 0, colours, 0, length, this.#converter.pixel);
    return [rectHeader(hotspotX, hotspotY, width, height, RFB_ENCODING.CURSOR), bytes, mask];
  }
}

export function rectHeader(x: number, y: number, width: number, height: number, encoding: number): Buffer {
  const head = Buffer.alloc(RECT_HEADER);
  head.writeUInt16BE(x, 0);
  head.writeUInt16BE(y, 2);
  head.writeUInt16BE(width, 4);
  head.writeUInt16BE(height, 6);
  head.writeInt32BE(encoding, 8);
  return head;
}

/** Premultiplied OVER the pixels of a piece. */
function paint({ image, x, y }: PaintedCursor, left: number, top: number, width: number, height: number): void {
  const firstColumn = Math.max(x, left);
  const lastColumn = Math.min(x + image.width, left + width);
  const lastRow = Math.min(y + image.height, top + height);
  for (let row = Math.max(y, top); row < lastRow; row++)
    for (let column = firstColumn; column < lastColumn; column++) {
      const source = image.pixels[(row - y) * image.width + column - x]!;
      const at = (row - top) * width + column - left;
      const under = pixels[at]!;
      const through = 255 - (source >>> 24);
      pixels[at] =
        (over(source >>> 16, under >>> 16, through) << 16) |
        (over(source >>> 8, under >>> 8, through) << 8) |
        over(source, under, through);
    }
}

/** As `display/headless` composes, so that both give the same picture. */
function over(source: number, under: number, through: number): number {
  const t = (under & 0xff) * through + 128;
  return Math.min(255, (source & 0xff) + ((t + (t >> 8)) >> 8));
}
