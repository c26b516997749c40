import type { ConsoleFont } from '../../../../display/picture/psf.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { type Colour, draw, noise } from './pictures.ts';

export interface FontSize {
  readonly width: number;
  readonly height: number;
}

/** Glyphs of noise, all different, but for a blank one: the space. */
export function noiseGlyphs({ width, height }: FontSize, count: number, seed: number): Uint8Array[] {
  const next = noise(seed);
  const stride = Math.ceil(width / 8);
  return Array.from({ length: count }, (_, i) => {
    const glyph = new Uint8Array(stride * height);
    if (i === 0x20) return glyph;
    for (let at = 0; at < glyph.length; at++) {
      const pixels = at % stride === stride - 1 && width % 8 > 0 ? width % 8 : 8;
      glyph[at] = next() & (0xff << (8 - pixels));
    }
    return glyph;
  });
}

/** A PSF 1 file; `table` has the characters of each glyph, in which \ufffe starts a sequence. */
export function psf1(height: number, glyphs: readonly Uint8Array[], table?: readonly string[]): Buffer {
  const mode = (glyphs.length === 512 ? 1 : 0) | (table ? 2 : 0);
  const words = table?.map((characters) => Buffer.from(`${characters}\uffff`, 'utf16le')) ?? [];
  return Buffer.concat([Buffer.of(0x36, 0x04, mode, height), ...glyphs, ...words]);
}

/** The same as PSF 2. */
export function psf2({ width, height }: FontSize, glyphs: readonly Uint8Array[], table?: readonly string[]): Buffer {
  const header = Buffer.alloc(32);
  [0x864ab572, 0, 32, table ? 1 : 0, glyphs.length, glyphs[0]!.length, height, width].forEach((word, i) =>
    header.writeUInt32LE(word, i * 4),
  );
  const lines = table?.flatMap((characters) => [
    ...characters.split('\ufffe').flatMap((part, i) => [...(i > 0 ? [Buffer.of(0xfe)] : []), Buffer.from(part)]),
    Buffer.of(0xff),
  ]);
  return Buffer.concat([header, ...glyphs, ...(lines ?? [])]);
}

export interface DrawnText {
  readonly font: ConsoleFont;
  /** Indices of glyphs, row by row. */
  readonly rows: readonly (readonly number[])[];
  /** Of the cell at a column and a row: foreground and background. */
  readonly colours?: (column: number, row: number) => readonly [Colour, Colour];
  /** Pixels at the right and at the bottom that are no cells. */
  readonly margin?: number;
  /** The cell whose lowest rows are inverted. */
  readonly cursor?: { readonly column: number; readonly row: number; readonly rows: number };
}

/** A console, drawn as the kernel does it. */
export function drawConsole({ font, rows, colours, margin = 0, cursor }: DrawnText): Picture {
  const { width, height } = font;
  const stride = Math.ceil(width / 8);
  const columns = rows[0]!.length;
  return draw(columns * width + margin, rows.length * height + margin, (x, y) => {
    const [column, row] = [Math.floor(x / width), Math.floor(y / height)];
    const [foreground, background] = colours?.(column, row) ?? [
      [170, 170, 170],
      [0, 0, 0],
    ];
    const glyph = rows[row]?.[column];
    if (glyph === undefined) return [0, 0, 0];
    const [px, py] = [x % width, y % height];
    const isSet = ((font.glyphs[(glyph * height + py) * stride + (px >> 3)]! << (px & 7)) & 0x80) !== 0;
    const isInverted = cursor?.column === column && cursor.row === row && py >= height - cursor.rows;
    return isSet !== isInverted ? foreground : background;
  });
}
