import pixelmatch from 'pixelmatch';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { intersection, isMasked, type ComparedArea } from './compared-area.ts';

/** When two pixels count as different. */
export interface Measure {
  /** 0: when they are not equal. */
  readonly threshold: number;
  readonly ignoreAntialiasing: boolean;
}

/** Pixels that differ. */
export interface Difference {
  /** At least 1. */
  readonly count: number;
  readonly box: Rect;
}

/** Pixels marked as different, of part of a picture. */
export interface Marks {
  readonly bounds: Rect;
  /** One for each pixel of `bounds`, 0 where they do not differ. */
  readonly words: Uint32Array;
}

/** How far pixelmatch looks from a pixel to tell anti-aliasing: at neighbours, and at theirs. */
const ANTIALIASING_REACH = 2;

/**
 * What differs between pictures of one size; null if nothing does. Equal pictures cost a memcmp, equal
 * rows one each, and pixelmatch sees only the rows from the first that differs to the last.
 */
export function findDifference(expected: Picture, actual: Picture, area: ComparedArea, measure: Measure): Difference | null {
  const isWhole = area.region.width === expected.width && area.region.height === expected.height;
  if (isWhole && Buffer.compare(expected.data, actual.data) === 0) return null;
  const rows = differingRows(expected, actual, area.region);
  if (rows === null) return null;
  if (isExact(measure)) return exactDifference(expected, actual, rows, area);
  return markedDifference(markDifference(expected, actual, rows, area, measure));
}

/** The same, pixel by pixel. */
export function findMarks(expected: Picture, actual: Picture, area: ComparedArea, measure: Measure): Marks | null {
  const rows = differingRows(expected, actual, area.region);
  return rows && markDifference(expected, actual, rows, area, measure);
}

/** The pixels of `picture` as words 0xAABBGGRR; a view where they are aligned for that. */
export function wordsOf(picture: Picture): Uint32Array {
  const bytes = aligned(picture);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function aligned({ data }: Picture): Uint8Array {
  return data.byteOffset % 4 === 0 ? data : new Uint8Array(data);
}

function isExact({ threshold, ignoreAntialiasing }: Measure): boolean {
  return threshold === 0 && !ignoreAntialiasing;
}

/** The part of `region` from the first row that differs to the last, masked or not. */
function differingRows(expected: Picture, actual: Picture, region: Rect): Rect | null {
  const isSameRow = rowComparer(expected, actual, region);
  let top = region.y;
  let bottom = region.y + region.height;
  while (top < bottom && isSameRow(top)) top++;
  if (top === bottom) return null;
  while (isSameRow(bottom - 1)) bottom--;
  return { ...region, y: top, height: bottom - top };
}

/** Compares a row of the region at memcmp speed, without making an object for it. */
function rowComparer(expected: Picture, actual: Picture, { x, width }: Rect): (y: number) => boolean {
  const a = bufferOf(expected);
  const b = bufferOf(actual);
  const stride = expected.width * 4;
  return (y) => {
    const start = y * stride + x * 4;
    const end = start + width * 4;
    return a.compare(b, start, end, start, end) === 0;
  };
}

function bufferOf({ data }: Picture): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.length);
}

function exactDifference(expected: Picture, actual: Picture, rows: Rect, area: ComparedArea): Difference | null {
  const isSameRow = rowComparer(expected, actual, rows);
  const a = wordsOf(expected);
  const b = wordsOf(actual);
  const hasMasks = area.masks.length > 0;
  const bounds = new Bounds();
  let count = 0;
  for (let y = rows.y; y < rows.y + rows.height; y++) {
    if (isSameRow(y)) continue;
    const start = y * expected.width;
    let first = -1;
    let last = -1;
    for (let x = rows.x; x < rows.x + rows.width; x++) {
      if (a[start + x] === b[start + x] || (hasMasks && isMasked(area, x, y))) continue;
      if (first < 0) first = x;
      last = x;
      count++;
    }
    if (first >= 0) bounds.add(first, last, y);
  }
  return count === 0 ? null : { count, box: bounds.rect };
}

function markDifference(expected: Picture, actual: Picture, rows: Rect, area: ComparedArea, measure: Measure): Marks {
  const reach = measure.ignoreAntialiasing ? ANTIALIASING_REACH : 0;
  const bounds = intersection(area.region, { ...rows, y: rows.y - reach, height: rows.height + 2 * reach });
  const a = crop(expected, bounds);
  const b = area.masks.length === 0 ? crop(actual, bounds) : copyMasked(crop(expected, bounds), crop(actual, bounds), bounds, area);
  const words = new Uint32Array(bounds.width * bounds.height);
  if (isExact(measure)) {
    const [from, to] = [wordsOf(a), wordsOf(b)];
    for (let i = 0; i < words.length; i++) words[i] = from[i]! ^ to[i]!;
  } else {
    const output = new Uint8Array(words.buffer);
    const [from, to] = [aligned(a), aligned(b)];
    pixelmatch(from, to, output, bounds.width, bounds.height, { threshold: measure.threshold, includeAA: !measure.ignoreAntialiasing, diffMask: true });
  }
  return { bounds, words };
}

function markedDifference({ bounds, words }: Marks): Difference | null {
  const box = new Bounds();
  let count = 0;
  for (let y = 0, start = 0; y < bounds.height; y++, start += bounds.width) {
    let first = -1;
    let last = -1;
    for (let x = 0; x < bounds.width; x++) {
      if (words[start + x] === 0) continue;
      if (first < 0) first = x;
      last = x;
      count++;
    }
    if (first >= 0) box.add(bounds.x + first, bounds.x + last, bounds.y + y);
  }
  return count === 0 ? null : { count, box: box.rect };
}

/** Part of a picture: a view if it is of whole rows, else a copy. */
export function crop({ width, data }: Picture, { x, y, width: columns, height }: Rect): Picture {
  if (columns === width) return { width, height, data: data.subarray(y * width * 4, (y + height) * width * 4) };
  const part = new Uint8Array(columns * height * 4);
  for (let row = 0; row < height; row++) {
    const start = ((y + row) * width + x) * 4;
    part.set(data.subarray(start, start + columns * 4), row * columns * 4);
  }
  return { width: columns, height, data: part };
}

/** `actual` with the pixels of `expected` under the masks; both are the `bounds` of a picture. */
function copyMasked(expected: Picture, actual: Picture, bounds: Rect, { masks }: ComparedArea): Picture {
  const data = new Uint8Array(actual.data);
  for (const mask of masks) {
    const { x, y, width, height } = intersection(mask, bounds);
    for (let row = y - bounds.y; row < y - bounds.y + height; row++) {
      const start = (row * bounds.width + x - bounds.x) * 4;
      data.set(expected.data.subarray(start, start + width * 4), start);
    }
  }
  return { ...actual, data };
}

/** Grows row by row, from the top, around pixels. */
class Bounds {
  #left = Infinity;
  #right = -1;
  #top = -1;
  #bottom = -1;

  add(left: number, right: number, y: number): void {
    if (this.#top < 0) this.#top = y;
    this.#left = Math.min(this.#left, left);
    this.#right = Math.max(this.#right, right);
    this.#bottom = y;
  }

  get rect(): Rect {
    return { x: this.#left, y: this.#top, width: this.#right - this.#left + 1, height: this.#bottom - this.#top + 1 };
  }
}
