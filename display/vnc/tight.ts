import { TIGHT_EXPLICIT_FILTER, TIGHT_FILL, TIGHT_FILTER_PALETTE, TIGHT_MIN_COMPRESSED } from '../../protocols/rfb.ts';
import { Deflater } from './deflater.ts';
import { Palette } from './palette.ts';
import { type ByteShifts, putPixels } from './pixel-format.ts';

/** The zlib streams: one for each kind of data, because each kind compresses best with its like. */
const COLOURS = 0;
const TWO_COLOURS = 1;
const INDICES = 2;

/** Rectangles in the Tight encoding, without JPEG: nothing is lost. */
export class TightEncoder {
  readonly #palette = new Palette();
  readonly #streams: (Deflater | undefined)[] = [];

  /** The bytes of a rectangle of at most TIGHT_MAX_WIDTH. `scratch` has room for its pixels. */
  async encode(
    scratch: Uint8Array,
    pixels: Uint32Array,
    width: number,
    height: number,
    shifts: ByteShifts,
    level: number,
  ): Promise<Uint8Array[]> {
    const length = width * height;
    const palette = this.#palette;
    // Beyond that the palette costs more than it saves.
    const limit = Math.min(Palette.MAX, Math.max(2, length >> 3));
    if (!palette.collect(pixels, length, limit)) {
      const end = putPixels(scratch, 0, pixels, 0, length, shifts);
      return [Uint8Array.of(COLOURS << 4), ...(await this.#compress(COLOURS, scratch.subarray(0, end), level))];
    }
    const head = new Uint8Array(3 + palette.count * 4);
    if (palette.count === 1) {
      head[0] = TIGHT_FILL;
      return [head.subarray(0, putPixels(head, 1, pixels, 0, 1, shifts))];
    }
    const stream = palette.count === 2 ? TWO_COLOURS : INDICES;
    head.set([TIGHT_EXPLICIT_FILTER | (stream << 4), TIGHT_FILTER_PALETTE, palette.count - 1]);
    const headEnd = putPixels(head, 3, palette.colours, 0, palette.count, shifts);
    const end =
      stream === TWO_COLOURS
        ? this.#putBits(scratch, pixels, width, height)
        : this.#putIndices(scratch, pixels, length);
    return [head.subarray(0, headEnd), ...(await this.#compress(stream, scratch.subarray(0, end), level))];
  }

  close(): void {
    for (const stream of this.#streams) stream?.close();
  }

  async #compress(stream: number, bytes: Uint8Array, level: number): Promise<Uint8Array[]> {
    if (bytes.length < TIGHT_MIN_COMPRESSED) return [bytes.slice()];
    const compressed = await (this.#streams[stream] ??= new Deflater(level)).deflate(bytes, level);
    return [compactLength(compressed.length), compressed];
  }

  #putIndices(into: Uint8Array, pixels: Uint32Array, length: number): number {
    for (let i = 0; i < length; i++) into[i] = this.#palette.indexOf(pixels[i]!);
    return length;
  }

  #putBits(into: Uint8Array, pixels: Uint32Array, width: number, height: number): number {
    const second = this.#palette.colours[1]!;
    let at = 0;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x += 8) {
        let byte = 0;
        const end = Math.min(8, width - x);
        for (let bit = 0; bit < end; bit++) if (pixels[y * width + x + bit] === second) byte |= 0x80 >> bit;
        into[at++] = byte;
      }
    return at;
  }
}

/** 7 bits in each of the first two bytes, 8 in the third; at most 4 MiB. */
function compactLength(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  if (length < 0x4000) return Uint8Array.of((length & 0x7f) | 0x80, length >> 7);
  return Uint8Array.of((length & 0x7f) | 0x80, ((length >> 7) & 0x7f) | 0x80, length >> 14);
}
