import type { DecodedPng } from 'fast-png';
import { COLOUR_TYPES, PngError, type PngHeader } from './png-chunks.ts';

const INDEXED = 3;

/**
 * The pixels of a PNG as a screen shows them, 8 bits of R, G, B and an A of 255: a PNG's alpha is
 * straight, and what it lets through is black.
 */
export function shownPixels(header: PngHeader, png: DecodedPng): Uint8Array {
  const { width, height, depth, colourType } = header;
  const samples = depth < 8 ? unpack(header, png.data) : png.data;
  const shown = new Uint8Array(width * height * 4).fill(255);
  const { palette } = png;
  if (colourType === INDEXED) {
    if (!palette) throw new PngError('format', 'a PNG with a palette, without the palette');
    samples.forEach((index, i) => blend(shown, i * 4, paletteColour(palette, index)));
    return shown;
  }
  const { channels } = COLOUR_TYPES[colourType]!;
  const [isGrey, hasAlpha] = [channels < 3, channels % 2 === 0];
  const unit = 255 / (2 ** depth - 1);
  const transparent = png.transparency ?? [];
  for (let from = 0, to = 0; to < shown.length; from += channels, to += 4) {
    const [red, green, blue] = isGrey ? [samples[from]!, samples[from]!, samples[from]!] : [samples[from]!, samples[from + 1]!, samples[from + 2]!];
    const isHole = transparent.length > 0 && red === transparent[0] && (isGrey || (green === transparent[1] && blue === transparent[2]));
    const alpha = isHole ? 0 : hasAlpha ? samples[from + channels - 1]! * unit / 255 : 1;
    shown[to] = Math.round(red * unit * alpha);
    shown[to + 1] = Math.round(green * unit * alpha);
    shown[to + 2] = Math.round(blue * unit * alpha);
  }
  return shown;
}

function paletteColour(palette: NonNullable<DecodedPng['palette']>, index: number): readonly number[] {
  const colour = palette[index];
  if (!colour) throw new PngError('format', `a PNG with a pixel of colour ${index}, of which its palette has ${palette.length}`);
  return colour;
}

function blend(to: Uint8Array, at: number, [red, green, blue, alpha = 255]: readonly number[]): void {
  to[at] = Math.round((red! * alpha) / 255);
  to[at + 1] = Math.round((green! * alpha) / 255);
  to[at + 2] = Math.round((blue! * alpha) / 255);
}

/** One sample a byte, of rows that hold several in one and end with a whole byte. */
function unpack({ width, height, depth }: PngHeader, packed: ArrayLike<number>): Uint8Array {
  const samples = new Uint8Array(width * height);
  const stride = Math.ceil((width * depth) / 8);
  const mask = 2 ** depth - 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const bit = x * depth;
      samples[i] = (packed[y * stride + (bit >> 3)]! >> (8 - depth - (bit & 7))) & mask;
    }
  }
  return samples;
}
