import pixelmatch from 'pixelmatch';
import { UsageError } from '../../src/core/errors.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';

/** The part of a picture that is compared. */
export interface ComparedArea {
  /** Inside the picture, not empty. */
  readonly region: Rect;
  /** Parts of the region that are not compared. They do not overlap. */
  readonly masks: readonly Rect[];
  /** Pixels of the region that no mask covers; at least 1. */
  readonly pixels: number;
}

/** Throws UsageError if nothing is left to compare, or the region is not wholly inside the picture. */
export function comparedArea(
  { width, height }: Size,
  { region, masks = [] }: { readonly region?: Rect; readonly masks?: readonly Rect[] },
): ComparedArea {
  for (const rect of region ? [region, ...masks] : masks) {
    const isWhole = [rect.x, rect.y, rect.width, rect.height].every(Number.isInteger);
    if (!isWhole || rect.width < 0 || rect.height < 0)
      throw new UsageError(`${formatRect(rect)} is not a rectangle of whole pixels`);
  }
  const whole = { x: 0, y: 0, width, height };
  const inside = region ?? whole;
  if (areaOf(intersection(inside, whole)) !== areaOf(inside)) {
    throw new UsageError(
      `region ${formatRect(inside)} reaches beyond the ${width}x${height} picture; give one inside it`,
    );
  }
  const parts: Rect[] = [];
  for (const mask of masks) addDisjoint(parts, intersection(mask, inside));
  const pixels = parts.reduce((left, part) => left - areaOf(part), areaOf(inside));
  if (pixels === 0)
    throw new UsageError(`nothing is left to compare of ${formatRect(inside)}: give a larger region or smaller masks`);
  return { region: inside, masks: parts, pixels };
}

export function isMasked({ masks }: ComparedArea, x: number, y: number): boolean {
  for (const mask of masks) {
    if (x >= mask.x && y >= mask.y && x < mask.x + mask.width && y < mask.y + mask.height) return true;
  }
  return false;
}

export function formatRect({ x, y, width, height }: Rect): string {
  return `${width}x${height}${sign(x)}${x}${sign(y)}${y}`;
}

export function formatSize({ width, height }: Size): string {
  return `${width}x${height}`;
}

/** Empty if they have no pixel in common. */
export function intersection(a: Rect, b: Rect): Rect {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return { x, y, width: Math.max(0, width), height: Math.max(0, height) };
}

/** Adds the parts of `rect` that no rectangle in `parts` covers. */
function addDisjoint(parts: Rect[], rect: Rect): void {
  let rest = [rect];
  for (const part of parts) rest = rest.flatMap((piece) => without(piece, part));
  parts.push(...rest.filter((piece) => areaOf(piece) > 0));
}

/** `rect` without `hole`: the parts above, below, left and right of the hole. */
function without(rect: Rect, hole: Rect): Rect[] {
  const cut = intersection(rect, hole);
  if (areaOf(cut) === 0) return [rect];
  const below = cut.y + cut.height;
  const right = cut.x + cut.width;
  return [
    { ...rect, height: cut.y - rect.y },
    { ...rect, y: below, height: rect.y + rect.height - below },
    { ...cut, x: rect.x, width: cut.x - rect.x },
    { ...cut, x: right, width: rect.x + rect.width - right },
  ];
}

function areaOf({ width, height }: Rect): number {
  return width * height;
}

function sign(offset: number): string {
  return offset < 0 ? '' : '+';
}

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

/** How far from a pixel pixelmatch looks to detect anti-aliasing: at its neighbours and at theirs. */
const ANTIALIASING_REACH = 2;

/** Rows that pixelmatch gets at once: few enough that their marks stay in the processor's caches. */
const BAND_ROWS = 64;

/**
 * The difference between pictures of equal size; null if there is none. Equal pictures cost one memcmp, and equal rows
 * one each; pixelmatch is run only where rows differ.
 */
export function findDifference(
  expected: Picture,
  actual: Picture,
  area: ComparedArea,
  measure: Measure,
): Difference | null {
  const isWhole = area.region.width === expected.width && area.region.height === expected.height;
  if (isWhole && Buffer.compare(expected.data, actual.data) === 0) return null;
  return isExact(measure)
    ? exactDifference(expected, actual, area)
    : perceivedDifference(expected, actual, area, measure);
}

/**
 * The pixels of `picture` as words 0xAABBGGRR: a view if its bytes are aligned to words, else a copy. Signed, because V8
 * allocates a number for each opaque pixel that is unsigned until it has compiled the loop.
 */
export function wordsOf(picture: Picture): Int32Array {
  const bytes = aligned(picture);
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function aligned({ data }: Picture): Uint8Array {
  return data.byteOffset % 4 === 0 ? data : new Uint8Array(data);
}

function isExact({ threshold, ignoreAntialiasing }: Measure): boolean {
  return threshold === 0 && !ignoreAntialiasing;
}

/** Compares single rows of the region by memcmp, without allocating. */
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

function exactDifference(expected: Picture, actual: Picture, area: ComparedArea): Difference | null {
  const { region } = area;
  const isSameRow = rowComparer(expected, actual, region);
  const a = wordsOf(expected);
  const b = wordsOf(actual);
  const hasMasks = area.masks.length > 0;
  const bounds = new Bounds();
  let count = 0;
  for (let y = region.y; y < region.y + region.height; y++) {
    if (isSameRow(y)) continue;
    const start = y * expected.width;
    let first = -1;
    let last = -1;
    for (let x = region.x; x < region.x + region.width; x++) {
      if (a[start + x] === b[start + x] || (hasMasks && isMasked(area, x, y))) continue;
      if (first < 0) first = x;
      last = x;
      count++;
    }
    if (first >= 0) bounds.add(first, last, y);
  }
  return count === 0 ? null : { count, box: bounds.rect };
}

function perceivedDifference(
  expected: Picture,
  actual: Picture,
  area: ComparedArea,
  measure: Measure,
): Difference | null {
  const { x: left, width } = area.region;
  const box = new Bounds();
  let count = 0;
  markRows(expected, actual, area, measure, (y, marks, start) => {
    let first = -1;
    let last = -1;
    let marked = 0;
    for (let x = 0; x < width; x++) {
      if (marks[start + x] === 0) continue;
      if (first < 0) first = x;
      last = x;
      marked++;
    }
    if (first >= 0) box.add(left + first, left + last, y);
    count += marked;
  });
  return count === 0 ? null : { count, box: box.rect };
}

/**
 * Calls `visit` for each row of the region that is not equal, with a word for each of its pixels from `start` on: 0 if
 * the pixel does not differ. The marks are valid during the call.
 */
function markRows(
  expected: Picture,
  actual: Picture,
  area: ComparedArea,
  measure: Measure,
  visit: (y: number, marks: Uint32Array, start: number) => void,
): void {
  const { region } = area;
  const isSameRow = rowComparer(expected, actual, region);
  const end = region.y + region.height;
  const reach = measure.ignoreAntialiasing ? ANTIALIASING_REACH : 0;
  const marks = new Uint32Array((BAND_ROWS + 2 * reach) * region.width);
  for (let y = region.y; y < end;) {
    if (isSameRow(y)) {
      y++;
      continue;
    }
    let bottom = Math.min(y + BAND_ROWS, end);
    while (isSameRow(bottom - 1)) bottom--;
    const band = intersection(region, { ...region, y: y - reach, height: bottom - y + 2 * reach });
    const words = marks.subarray(0, band.width * band.height);
    markBand(expected, actual, band, area, measure, words);
    for (; y < bottom; y++) visit(y, words, (y - band.y) * band.width);
  }
}

function markBand(
  expected: Picture,
  actual: Picture,
  band: Rect,
  area: ComparedArea,
  measure: Measure,
  marks: Uint32Array,
): void {
  const a = crop(expected, band);
  const b =
    area.masks.length === 0 ? crop(actual, band) : copyMasked(crop(expected, band), crop(actual, band), band, area);
  if (isExact(measure)) {
    const [from, to] = [wordsOf(a), wordsOf(b)];
    for (let i = 0; i < marks.length; i++) marks[i] = from[i]! ^ to[i]!;
    return;
  }
  marks.fill(0);
  const output = new Uint8Array(marks.buffer, 0, marks.byteLength);
  pixelmatch(aligned(a), aligned(b), output, band.width, band.height, {
    threshold: measure.threshold,
    includeAA: !measure.ignoreAntialiasing,
    diffMask: true,
  });
}

/** A part of a picture, which must lie inside it: a view if it consists of whole rows, else a copy. */
export function crop({ width, data }: Picture, { x, y, width: columns, height }: Rect): Picture {
  if (columns === width) return { width, height, data: data.subarray(y * width * 4, (y + height) * width * 4) };
  const part = new Uint8Array(columns * height * 4);
  for (let row = 0; row < height; row++) {
    const start = ((y + row) * width + x) * 4;
    part.set(data.subarray(start, start + columns * 4), row * columns * 4);
  }
  return { width: columns, height, data: part };
}

/** A copy of `actual` with the pixels of `expected` under the masks. Both are the part `bounds` of a picture. */
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

/** The bounding box of pixels that are added row by row from the top. */
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

/** Words 0xAABBGGRR. */
const RED = 0xff0000ff;
const HATCH_DARK = 0xffb0a8a0;
const HATCH_LIGHT = 0xffd8d0c8;
/** How much of the actual picture's contrast remains. */
const PALE = 0.3;

/** See `diffPicture`. `area` is null if the sizes differ. */
export function drawDifference(
  expected: Picture,
  actual: Picture,
  area: ComparedArea | null,
  measure: Measure,
): Picture {
  return area === null ? drawSizes(expected, actual) : drawMarks(expected, actual, area, measure);
}

function drawMarks(expected: Picture, actual: Picture, area: ComparedArea, measure: Measure): Picture {
  const { width, height } = actual;
  const from = wordsOf(actual);
  const words = new Uint32Array(width * height);
  const { region, masks } = area;
  for (let y = 0, i = 0; y < height; y++) {
    const isRow = y >= region.y && y < region.y + region.height;
    for (let x = 0; x < width; x++, i++) {
      const isCompared =
        isRow && x >= region.x && x < region.x + region.width && (masks.length === 0 || !isMasked(area, x, y));
      words[i] = isCompared ? pale(from[i]!) : (x + y) & 4 ? HATCH_DARK : HATCH_LIGHT;
    }
  }
  markRows(expected, actual, area, measure, (y, marks, start) => {
    const row = y * width + region.x;
    for (let x = 0; x < region.width; x++) if (marks[start + x] !== 0) words[row + x] = RED;
  });
  return { width, height, data: new Uint8Array(words.buffer) };
}

function drawSizes(expected: Picture, actual: Picture): Picture {
  const width = Math.max(expected.width, actual.width);
  const height = Math.max(expected.height, actual.height);
  const shared = intersection({ x: 0, y: 0, ...expected }, { x: 0, y: 0, ...actual });
  const [a, b] = [wordsOf(crop(expected, shared)), wordsOf(crop(actual, shared))];
  const words = new Uint32Array(width * height).fill(RED);
  for (let y = 0, i = 0; y < shared.height; y++) {
    for (let x = 0; x < shared.width; x++, i++) if (a[i] === b[i]) words[y * width + x] = pale(b[i]!);
  }
  return { width, height, data: new Uint8Array(words.buffer) };
}

/** A grey near white, by the colour's brightness (ITU-R BT.601). */
function pale(word: number): number {
  const brightness = 0.299 * (word & 255) + 0.587 * ((word >> 8) & 255) + 0.114 * ((word >> 16) & 255);
  const level = Math.round(255 - (255 - brightness) * PALE);
  return ((0xff << 24) | (level << 16) | (level << 8) | level) >>> 0;
}
