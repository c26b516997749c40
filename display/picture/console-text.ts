/**
 * Reads the text on a Linux console by its own font.
 *
 * A console is a grid of cells from the left upper corner on, each with one glyph in one colour on another. Each cell
 * becomes a bitmap: which pixels are not of the colour of its first one. A font fits if its glyphs, or their negatives,
 * are those bitmaps. Because whole bitmaps are compared there are no reading errors, only glyphs that stand for several
 * characters.
 */
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { wordsOf } from './difference.ts';
import type { ConsoleFont } from './psf.ts';

export interface ConsoleText {
  /** Lines without the blanks at their ends; no empty lines at the end. '\ufffd' is a cell with no glyph of the font. */
  readonly text: string;
  /** The name of the first font that fits; null if there are blanks only. */
  readonly font: string | null;
  /** How many cells have no glyph of the font. */
  readonly unread: number;
}

/** The share of cells that may have no glyph: a logo is shown beside the messages of a boot. */
const STRANGE_SHARE = 0.25;
const UNKNOWN = '\ufffd';

/** Reads screens with a set of fonts, and expects the next one to have the font of the last. */
export class ConsoleReader {
  readonly #fonts: readonly ConsoleFont[];
  #last: GlyphIndex | null = null;

  /** Of fonts with the same glyphs the first is named. */
  constructor(fonts: readonly ConsoleFont[]) {
    // In the cells of a large font two small ones may fit as well, such as lines of tables.
    this.#fonts = fonts.toSorted((a, b) => b.width * b.height - a.width * a.height);
  }

  /** The text in cells whose middles lie in the region; null if that is not text of any of the fonts. */
  read(picture: Picture, region?: Rect): ConsoleText | null {
    const inside = region ?? { x: 0, y: 0, width: picture.width, height: picture.height };
    if (this.#last) {
      const grid = new Grid(picture, this.#last.font, inside);
      if (grid.misses(this.#last, 0) === 0) return grid.read(this.#last);
    }
    let best: { grid: Grid; index: GlyphIndex; misses: number } | null = null;
    let grid: Grid | null = null;
    for (const font of this.#fonts) {
      if (font.width !== grid?.font.width || font.height !== grid.font.height) grid = new Grid(picture, font, inside);
      // In pixels, so that cells of different sizes count the same.
      const area = font.width * font.height;
      const limit = Math.min(grid.patterned * STRANGE_SHARE, best ? best.misses / area : Infinity);
      if (grid.isBlank || grid.strange > limit) continue;
      const index = new GlyphIndex(font);
      const misses = grid.misses(index, limit);
      if (misses > limit || (best && misses * area >= best.misses)) continue;
      best = { grid, index, misses: misses * area };
      if (misses === 0) break;
    }
    if (best) {
      this.#last = best.index;
      return best.grid.read(best.index);
    }
    return isPlain(picture, inside) ? { text: '', font: null, unread: 0 } : null;
  }
}

function isPlain(picture: Picture, { x, y, width, height }: Rect): boolean {
  const words = wordsOf(picture);
  const first = words[y * picture.width + x];
  for (let row = y; row < y + height; row++) {
    for (let at = row * picture.width + x; at < row * picture.width + x + width; at++) {
      if (words[at] !== first) return false;
    }
  }
  return true;
}

/** The bits of a cell or a glyph, one character for eight, so that they can be the key of a map. */
type Bitmap = string;

function bitmapOf(bits: Uint8Array): Bitmap {
  return Buffer.from(bits.buffer, bits.byteOffset, bits.length).toString('latin1');
}

interface Glyph {
  readonly character: string;
  /** Its first pixel is of the foreground, so that its bitmap is inverted. */
  readonly isNegative: boolean;
}

/** Finds glyphs by their bitmaps. */
class GlyphIndex {
  readonly font: ConsoleFont;
  readonly #glyphs = new Map<Bitmap, Glyph[]>();

  constructor(font: ConsoleFont) {
    this.font = font;
    const bytes = Math.ceil(font.width / 8) * font.height;
    font.characters.forEach((character, i) => {
      const bits = font.glyphs.slice(i * bytes, (i + 1) * bytes);
      trim(bits, font);
      const isNegative = (bits[0]! & 0x80) !== 0;
      if (isNegative) invert(bits, font);
      this.#add(bitmapOf(bits), { character, isNegative });
    });
  }

  /** Glyphs with that bitmap or its negative: one, or two such as the upper and the lower half of a block. */
  find(bitmap: Bitmap): readonly Glyph[] {
    return this.#glyphs.get(bitmap) ?? [];
  }

  #add(bitmap: Bitmap, glyph: Glyph): void {
    const others = this.#glyphs.get(bitmap);
    if (!others) {
      this.#glyphs.set(bitmap, [glyph]);
      return;
    }
    const same = others.findIndex(({ isNegative }) => isNegative === glyph.isNegative);
    if (same < 0) others.push(glyph);
    else if (rank(glyph.character) < rank(others[same]!.character)) others[same] = glyph;
  }
}

/** Of characters that look the same the one of lower rank is read. */
function rank(character: string): number {
  return character === UNKNOWN ? 2 : character < '\x7f' ? 0 : 1;
}

/** The bits of each row's last byte that are pixels. */
function lastByte(width: number): number {
  return width % 8 === 0 ? 0xff : (0xff << (8 - (width % 8))) & 0xff;
}

/** Clears what is behind the pixels of each row. */
function trim(bits: Uint8Array, { width }: Size): void {
  const stride = Math.ceil(width / 8);
  for (let at = stride - 1; at < bits.length; at += stride) bits[at]! &= lastByte(width);
}

/** Inverts the rows from `top` on. */
function invert(bits: Uint8Array, size: Size, top = 0): void {
  const stride = Math.ceil(size.width / 8);
  for (let at = top * stride; at < bits.length; at++) bits[at]! ^= 0xff;
  trim(bits, size);
}

/** A cell of one colour, of more than two, or of two, of which `first` is that of its first pixel. */
type Cell = 'plain' | 'strange' | { readonly bitmap: Bitmap; readonly first: number; readonly second: number };

/** A picture in the cells of a font size. */
class Grid {
  readonly font: Size;
  /** How many cells are not of one colour. */
  readonly patterned: number;
  /** How many cells have more than two colours. */
  readonly strange: number;
  readonly #columns: number;
  readonly #cells: readonly Cell[];
  /** How often each bitmap occurs. */
  readonly #bitmaps = new Map<Bitmap, number>();
  /** The colour that most plain cells have. */
  readonly #background: number;

  constructor(picture: Picture, font: Size, region: Rect) {
    this.font = { width: font.width, height: font.height };
    const [left, right] = cellsIn(region.x, region.width, font.width, picture.width);
    const [top, bottom] = cellsIn(region.y, region.height, font.height, picture.height);
    const words = wordsOf(picture);
    const cells: Cell[] = [];
    const colours = new Map<number, number>();
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        const at = row * font.height * picture.width + column * font.width;
        const cell = cellAt(words, at, picture.width, font);
        cells.push(cell);
        if (cell === 'plain') countIn(colours, words[at]!);
        else if (cell !== 'strange') countIn(this.#bitmaps, cell.bitmap);
      }
    }
    this.#cells = cells;
    this.#columns = Math.max(0, right - left);
    this.patterned = cells.filter((cell) => cell !== 'plain').length;
    this.strange = cells.filter((cell) => cell === 'strange').length;
    this.#background = [...colours].reduce((most, next) => (next[1] > most[1] ? next : most), [0, 0])[0];
  }

  /** There is nothing to recognise a font by. */
  get isBlank(): boolean {
    return this.patterned === 0;
  }

  /** How many cells have no glyph; any number above `limit` if there are more than that. */
  misses(index: GlyphIndex, limit: number): number {
    let misses = this.strange;
    let missed: Bitmap | null = null;
    for (const [bitmap, count] of this.#bitmaps) {
      if (index.find(bitmap).length > 0) continue;
      misses += count;
      missed = bitmap;
      if (misses > limit + 1) return misses;
    }
    // It can be the cursor's.
    return misses === 1 && missed !== null && this.#underCursor(missed, index).length > 0 ? 0 : misses;
  }

  read(index: GlyphIndex): ConsoleText {
    let unread = 0;
    const characters = this.#cells.map((cell) => {
      const character = this.#characterOf(cell, index);
      if (character === null) unread++;
      return character ?? UNKNOWN;
    });
    const lines: string[] = [];
    for (let at = 0; at < characters.length; at += this.#columns) {
      const line = characters.slice(at, at + this.#columns).join('');
      lines.push(line.trimEnd());
    }
    return { text: lines.join('\n').trimEnd(), font: this.isBlank ? null : index.font.name, unread };
  }

  #characterOf(cell: Cell, index: GlyphIndex): string | null {
    // A full block in one colour looks the same.
    if (cell === 'plain') return ' ';
    if (cell === 'strange') return null;
    const { bitmap, first, second } = cell;
    const own = index.find(bitmap);
    const glyphs = own.length > 0 ? own : this.#underCursor(bitmap, index);
    const likely = glyphs.find(({ isNegative }) => (isNegative ? second : first) === this.#background);
    return (likely ?? glyphs[0])?.character ?? null;
  }

  /** Glyphs whose lowest rows are inverted, as the kernel's cursor does it (drivers/video/fbdev/core/softcursor.c). */
  #underCursor(bitmap: Bitmap, index: GlyphIndex): readonly Glyph[] {
    for (let top = this.font.height - 1; top > 0; top--) {
      const bits = Buffer.from(bitmap, 'latin1');
      invert(bits, this.font, top);
      const glyphs = index.find(bitmapOf(bits));
      if (glyphs.length > 0) return glyphs;
    }
    return [];
  }
}

function countIn<T>(counts: Map<T, number>, key: T): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** The cells of which the middle lies in a range of pixels. */
function cellsIn(start: number, length: number, side: number, total: number): [first: number, end: number] {
  const first = Math.max(0, Math.ceil((start - side / 2) / side));
  const end = Math.min(Math.floor(total / side), Math.ceil((start + length - side / 2) / side));
  return [first, Math.max(first, end)];
}

function cellAt(words: Int32Array, at: number, stride: number, { width, height }: Size): Cell {
  const first = words[at]!;
  let second = first;
  const rowBytes = Math.ceil(width / 8);
  let bits: Uint8Array | null = null;
  for (let y = 0; y < height; y++) {
    const row = at + y * stride;
    for (let x = 0; x < width; x++) {
      const word = words[row + x]!;
      if (word === first) continue;
      if (!bits) [bits, second] = [new Uint8Array(rowBytes * height), word];
      if (word !== second) return 'strange';
      bits[y * rowBytes + (x >> 3)]! |= 0x80 >> (x & 7);
    }
  }
  return bits ? { bitmap: bitmapOf(bits), first, second } : 'plain';
}
