import { ZRLE_PLAIN_RLE, ZRLE_TILE } from '../../protocols/rfb.ts';
import { Palette } from './palette.ts';
import { type ByteShifts, putPixels } from './pixel-format.ts';

const MAX_PACKED = 16;
const MAX_PALETTE = 127;

/** The tiles of ZRLE before they are compressed (RFC 6143, 7.7.6). */
export class ZrleTiles {
  readonly #tile = new Uint32Array(ZRLE_TILE * ZRLE_TILE);
  readonly #palette = new Palette();

  /** No tile is larger than its pixels and one byte. */
  static lengthOf(width: number, height: number): number {
    const tiles = Math.ceil(width / ZRLE_TILE) * Math.ceil(height / ZRLE_TILE);
    return width * height * 4 + tiles;
  }

  /** Writes the tiles of a rectangle to `into`, which is large enough, and returns how many bytes they have. */
  put(into: Uint8Array, pixels: Uint32Array, width: number, height: number, shifts: ByteShifts): number {
    let at = 0;
    for (let y = 0; y < height; y += ZRLE_TILE)
      for (let x = 0; x < width; x += ZRLE_TILE) {
        const tileWidth = Math.min(ZRLE_TILE, width - x);
        const tileHeight = Math.min(ZRLE_TILE, height - y);
        for (let row = 0; row < tileHeight; row++) {
          const from = (y + row) * width + x;
          this.#tile.set(pixels.subarray(from, from + tileWidth), row * tileWidth);
        }
        at = this.#putTile(into, at, tileWidth, tileHeight, shifts);
      }
    return at;
  }

  /** By the subencoding that needs the least bytes. */
  #putTile(into: Uint8Array, at: number, width: number, height: number, shifts: ByteShifts): number {
    const tile = this.#tile;
    const length = width * height;
    const unit = shifts.length;
    const palette = this.#palette;
    const hasPalette = palette.collect(tile, length, MAX_PALETTE);
    const colours = palette.count;
    if (hasPalette && colours === 1) {
      into[at++] = 1;
      return putPixels(into, at, tile, 0, 1, shifts);
    }
    const { runs, singles, extra } = this.#countRuns(length);
    const raw = length * unit;
    const plain = runs * (unit + 1) + extra;
    const indexed = hasPalette ? colours * unit + runs * 2 - singles + extra : Infinity;
    const bits = colours === 2 ? 1 : colours <= 4 ? 2 : 4;
    const packed =
      hasPalette && colours <= MAX_PACKED ? colours * unit + Math.ceil((width * bits) / 8) * height : Infinity;
    const best = Math.min(raw, plain, indexed, packed);
    if (best === raw) {
      into[at++] = 0;
      return putPixels(into, at, tile, 0, length, shifts);
    }
    if (best === plain) {
      into[at++] = ZRLE_PLAIN_RLE;
      return this.#putRuns(into, at, length, shifts);
    }
    into[at++] = best === packed ? colours : ZRLE_PLAIN_RLE + colours;
    at = putPixels(into, at, palette.colours, 0, colours, shifts);
    return best === packed ? this.#putPacked(into, at, width, height, bits) : this.#putRuns(into, at, length, null);
  }

  /** `extra`: bytes of lengths beyond the first. */
  #countRuns(length: number): { runs: number; singles: number; extra: number } {
    const tile = this.#tile;
    let runs = 0;
    let singles = 0;
    let extra = 0;
    for (let i = 0; i < length;) {
      const end = runEnd(tile, i, length);
      runs++;
      if (end - i === 1) singles++;
      extra += Math.floor((end - i - 1) / 255);
      i = end;
    }
    return { runs, singles, extra };
  }

  /** With colours, or with indices in the palette if `shifts` is null. */
  #putRuns(into: Uint8Array, at: number, length: number, shifts: ByteShifts | null): number {
    const tile = this.#tile;
    for (let i = 0; i < length;) {
      const end = runEnd(tile, i, length);
      let left = end - i - 1;
      if (shifts) {
        at = putPixels(into, at, tile, i, i + 1, shifts);
      } else {
        const index = this.#palette.indexOf(tile[i]!);
        into[at++] = left === 0 ? index : index + 128;
      }
      i = end;
      if (!shifts && left === 0) continue;
      for (; left >= 255; left -= 255) into[at++] = 255;
      into[at++] = left;
    }
    return at;
  }

  #putPacked(into: Uint8Array, at: number, width: number, height: number, bits: number): number {
    for (let y = 0; y < height; y++) {
      let byte = 0;
      let filled = 0;
      for (let x = 0; x < width; x++) {
        byte = (byte << bits) | this.#palette.indexOf(this.#tile[y * width + x]!);
        filled += bits;
        if (filled < 8) continue;
        into[at++] = byte;
        byte = 0;
        filled = 0;
      }
      if (filled > 0) into[at++] = byte << (8 - filled);
    }
    return at;
  }
}

function runEnd(pixels: Uint32Array, start: number, length: number): number {
  let end = start + 1;
  while (end < length && pixels[end] === pixels[start]) end++;
  return end;
}
