import { VncError } from './errors.ts';

/** How a viewer wants pixels (RFC 6143, 7.4). Each `max` is 2^n - 1; `shift` counts from the lowest bit. */
export interface PixelFormat {
  readonly bitsPerPixel: 8 | 16 | 32;
  /** Only tells whether bits beside the colours may be left out. */
  readonly depth: number;
  readonly isBigEndian: boolean;
  readonly redMax: number;
  readonly greenMax: number;
  readonly blueMax: number;
  readonly redShift: number;
  readonly greenShift: number;
  readonly blueShift: number;
}

/** On the wire, with 3 bytes of padding. */
export const PIXEL_FORMAT_LENGTH = 16;

/** XRGB8888: the server's own, which needs no conversion. */
export const XRGB: PixelFormat = {
  bitsPerPixel: 32,
  depth: 24,
  isBigEndian: false,
  redMax: 255,
  greenMax: 255,
  blueMax: 255,
  redShift: 16,
  greenShift: 8,
  blueShift: 0,
};

/** What a viewer with a colour map of 256 entries gets: the map is filled with these colours. */
export const MAPPED: PixelFormat = {
  bitsPerPixel: 8,
  depth: 8,
  isBigEndian: false,
  redMax: 7,
  greenMax: 7,
  blueMax: 3,
  redShift: 0,
  greenShift: 3,
  blueShift: 6,
};

/** Returns MAPPED for a colour map. Throws VncError `protocol` for a format that makes no sense, `unsupported` for a map with pixels of another size. */
export function decodePixelFormat(bytes: Buffer, at: number): PixelFormat {
  const bitsPerPixel = bytes[at]!;
  const isTrueColour = bytes[at + 3] !== 0;
  if (!isTrueColour) {
    if (bitsPerPixel === 8) return MAPPED;
    throw new VncError('unsupported', `a colour map for ${bitsPerPixel} bits per pixel; use 8, or true colour`);
  }
  const format = {
    depth: bytes[at + 1]!,
    isBigEndian: bytes[at + 2] !== 0,
    redMax: bytes.readUInt16BE(at + 4),
    greenMax: bytes.readUInt16BE(at + 6),
    blueMax: bytes.readUInt16BE(at + 8),
    redShift: bytes[at + 10]!,
    greenShift: bytes[at + 11]!,
    blueShift: bytes[at + 12]!,
  };
  const { redMax, greenMax, blueMax, redShift, greenShift, blueShift } = format;
  const isPossible =
    (bitsPerPixel === 8 || bitsPerPixel === 16 || bitsPerPixel === 32) &&
    fits(redMax, redShift, bitsPerPixel) &&
    fits(greenMax, greenShift, bitsPerPixel) &&
    fits(blueMax, blueShift, bitsPerPixel);
  if (!isPossible)
    throw new VncError(
      'protocol',
      `no pixel format: ${bitsPerPixel} bits, red ${redMax} << ${redShift}, green ${greenMax} << ${greenShift}, blue ${blueMax} << ${blueShift}`,
    );
  return { bitsPerPixel, ...format };
}

function fits(max: number, shift: number, bits: number): boolean {
  return max > 0 && (max & (max + 1)) === 0 && max * 2 ** shift < 2 ** bits;
}

export function encodePixelFormat(format: PixelFormat): Buffer {
  const bytes = Buffer.alloc(PIXEL_FORMAT_LENGTH);
  bytes.set([format.bitsPerPixel, format.depth, Number(format.isBigEndian), 1]);
  bytes.writeUInt16BE(format.redMax, 4);
  bytes.writeUInt16BE(format.greenMax, 6);
  bytes.writeUInt16BE(format.blueMax, 8);
  bytes.set([format.redShift, format.greenShift, format.blueShift], 10);
  return bytes;
}

/** SetColourMapEntries' colours of MAPPED: red, green and blue of each, 16 bits. */
export function mappedColours(): Buffer {
  const bytes = Buffer.alloc(256 * 6);
  for (let pixel = 0; pixel < 256; pixel++) {
    bytes.writeUInt16BE(Math.round(((pixel & 7) * 0xffff) / 7), pixel * 6);
    bytes.writeUInt16BE(Math.round((((pixel >> 3) & 7) * 0xffff) / 7), pixel * 6 + 2);
    bytes.writeUInt16BE(Math.round(((pixel >> 6) * 0xffff) / 3), pixel * 6 + 4);
  }
  return bytes;
}

/** Fewer pixels are written byte by byte: they do not pay for a view of the words. */
const MANY = 64;

/** The bytes of one pixel in the order they are sent: how far to shift the pixel to the right for each. */
export type ByteShifts = readonly number[];

/** Turns XRGB pixels into those of a viewer, and tells how they are sent. */
export class PixelConverter {
  /** PIXEL of RFC 6143. */
  readonly pixel: ByteShifts;
  /** CPIXEL of ZRLE, without a byte that has no colour. */
  readonly compressed: ByteShifts;
  /** TPIXEL of Tight: red, green and blue if each is a byte. */
  readonly tight: ByteShifts;
  /** Of each value of a colour, its bits in the pixel; null if pixels stay as they are. */
  readonly #tables: readonly [red: Uint32Array, green: Uint32Array, blue: Uint32Array] | null;

  constructor(format: PixelFormat) {
    const { bitsPerPixel, depth, isBigEndian, redMax, greenMax, blueMax, redShift, greenShift, blueShift } = format;
    const isWide = bitsPerPixel === 32;
    const ordered = (shifts: number[]): number[] => (isBigEndian ? shifts.reverse() : shifts);
    this.pixel = ordered([0, 8, 16, 24].slice(0, bitsPerPixel / 8));
    const used = [redMax * 2 ** redShift, greenMax * 2 ** greenShift, blueMax * 2 ** blueShift];
    const isLow = used.every((bits) => bits < 2 ** 24);
    const isHigh = Math.min(redShift, greenShift, blueShift) >= 8;
    const isCompressed = isWide && depth <= 24 && (isLow || isHigh);
    this.compressed = isCompressed ? ordered(isLow ? [0, 8, 16] : [8, 16, 24]) : this.pixel;
    const isBytes = redMax === 255 && greenMax === 255 && blueMax === 255;
    this.tight = isWide && depth === 24 && isBytes ? [redShift, greenShift, blueShift] : this.pixel;
    this.#tables =
      isWide && isBytes && redShift === 16 && greenShift === 8 && blueShift === 0
        ? null
        : [table(redMax, redShift), table(greenMax, greenShift), table(blueMax, blueShift)];
  }

  /** In place; the highest byte of each pixel has to be 0. */
  convert(pixels: Uint32Array, count: number): void {
    if (!this.#tables) return;
    const [red, green, blue] = this.#tables;
    for (let i = 0; i < count; i++) {
      const pixel = pixels[i]!;
      pixels[i] = red[pixel >>> 16]! | green[(pixel >>> 8) & 0xff]! | blue[pixel & 0xff]!;
    }
  }
}

function table(max: number, shift: number): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, value) => Math.round((value * max) / 255) * 2 ** shift);
}

/** Writes pixels from `start` to `end` to `into` and returns where it ended. */
export function putPixels(
  into: Uint8Array,
  at: number,
  pixels: Uint32Array,
  start: number,
  end: number,
  shifts: ByteShifts,
): number {
  const [first = 0, second = 0, third = 0, fourth = 0] = shifts;
  switch (shifts.length) {
    case 1:
      for (let i = start; i < end; i++) into[at++] = pixels[i]!;
      return at;
    case 2:
      for (let i = start; i < end; i++) {
        const pixel = pixels[i]!;
        into[at++] = pixel >>> first;
        into[at++] = pixel >>> second;
      }
      return at;
    case 3: {
      const packed = packTriples(into, at, pixels, start, end, shifts);
      at += 3 * packed;
      for (let i = start + packed; i < end; i++) {
        const pixel = pixels[i]!;
        into[at++] = pixel >>> first;
        into[at++] = pixel >>> second;
        into[at++] = pixel >>> third;
      }
      return at;
    }
    default:
      for (let i = start; i < end; i++) {
        const pixel = pixels[i]!;
        into[at++] = pixel >>> first;
        into[at++] = pixel >>> second;
        into[at++] = pixel >>> third;
        into[at++] = pixel >>> fourth;
      }
      return at;
  }
}

/**
 * Writes pixels of three bytes, four of them as three words, and returns how many it has written: up to three are left.
 * None if there are few, or if `at` is not that of a word.
 */
function packTriples(
  into: Uint8Array,
  at: number,
  pixels: Uint32Array,
  start: number,
  end: number,
  [first = 0, second = 0, third = 0]: ByteShifts,
): number {
  const offset = into.byteOffset + at;
  const count = end - start;
  if (count < MANY || offset % 4 !== 0) return 0;
  const words = new Uint32Array(into.buffer, offset, (count >> 2) * 3);
  let i = start;
  for (let to = 0; to < words.length; to += 3) {
    const a = pixels[i++]!;
    const b = pixels[i++]!;
    const c = pixels[i++]!;
    const d = pixels[i++]!;
    words[to] =
      ((a >>> first) & 255) | (((a >>> second) & 255) << 8) | (((a >>> third) & 255) << 16) | ((b >>> first) << 24);
    words[to + 1] =
      ((b >>> second) & 255) | (((b >>> third) & 255) << 8) | (((c >>> first) & 255) << 16) | ((c >>> second) << 24);
    words[to + 2] =
      ((c >>> third) & 255) | (((d >>> first) & 255) << 8) | (((d >>> second) & 255) << 16) | ((d >>> third) << 24);
  }
  return i - start;
}
