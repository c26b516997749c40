import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import {
  type ComparedArea,
  crop,
  type Difference,
  formatRect,
  formatSize,
  intersection,
  wordsOf,
} from './difference.ts';

/**
 * Describes a difference between pictures of one size in a sentence: how many pixels differ, where, and what it looks
 * like. Each known cause predicts the pixels of the actual picture; a cause is reported if its prediction holds for
 * nearly all of a sample of them.
 */
export function diagnose(expected: Picture, actual: Picture, area: ComparedArea, difference: Difference): string {
  const { count, box } = difference;
  const evidence = gather(expected, actual, area, difference);
  const first = evidence.differing[0]!;
  const x = area.region.x + (first % area.region.width);
  const y = area.region.y + Math.floor(first / area.region.width);
  const change = `${formatColour(evidence.actual[first]!)} instead of ${formatColour(evidence.expected[first]!)}`;
  if (count === 1) return `1 of ${area.pixels} pixels differs: ${x},${y} is ${change}`;
  const cause = colourChange(evidence) ?? movedPixels(evidence) ?? `the first at ${x},${y} is ${change}`;
  return `${count} of ${area.pixels} pixels differ${place(box, area.region)}: ${cause}`;
}

/** Where pixels differ; empty if everywhere in the region. */
function place(box: Rect, region: Rect): string {
  if (box.height === 1 && region.height > 1)
    return `, all in row ${box.y}${box.width === region.width ? '' : `, columns ${box.x} to ${box.x + box.width - 1}`}`;
  if (box.width === 1 && region.width > 1)
    return `, all in column ${box.x}${box.height === region.height ? '' : `, rows ${box.y} to ${box.y + box.height - 1}`}`;
  return box.width === region.width && box.height === region.height ? '' : `, all within ${formatRect(box)}`;
}

/**
 * The pixels by which causes are judged: those of the compared region, row by row without padding, as words
 * 0xAABBGGRR. A masked pixel is 0, which no opaque colour is.
 */
interface Evidence extends Size {
  readonly expected: Uint32Array;
  readonly actual: Uint32Array;
  /** Indices of pixels that differ: all of them, or an evenly spread sample. */
  readonly differing: Uint32Array;
  /** The same for all pixels in the box around those that differ. */
  readonly around: Uint32Array;
  /** The largest difference of a channel. */
  readonly levels: number;
}

/** More samples would cost more and not change the verdict. */
const MAX_SAMPLES = 4096;

/** The share of samples that a cause may leave unexplained: a clock advances while red and blue are swapped. */
const STRAY_SHARE = 0.05;

function gather(expected: Picture, actual: Picture, area: ComparedArea, { box }: Difference): Evidence {
  const { region } = area;
  const { width, height } = region;
  const [a, b] = [regionWords(expected, area), regionWords(actual, area)];
  const inside: Rect = { ...box, x: box.x - region.x, y: box.y - region.y };
  const rows = differingRows(a, b, width, inside);
  const count = countDiffering(a, b, rows, inside.width);
  return {
    width,
    height,
    expected: a,
    actual: b,
    differing: sampleDiffering(a, b, rows, inside.width, count),
    around: sampleAll(inside, width),
    levels: largestDifference(a, b, rows, inside.width),
  };
}

/** Whether a cause predicts nearly all samples. `holds` is null for a pixel that the cause predicts nothing about. */
function explains({ differing, around }: Evidence, holds: (index: number) => boolean | null): boolean {
  return isNearlyAll(differing, holds) && isNearlyAll(around, holds);
}

function isNearlyAll(indices: Uint32Array, holds: (index: number) => boolean | null): boolean {
  const allowed = Math.floor(indices.length * STRAY_SHARE);
  let strays = 0;
  let judged = 0;
  for (const index of indices) {
    const verdict = holds(index);
    if (verdict === null) continue;
    judged++;
    if (!verdict && ++strays > allowed) return false;
  }
  return judged * 4 >= indices.length;
}

function regionWords(picture: Picture, { region, masks }: ComparedArea): Uint32Array {
  const { buffer, byteOffset, length } = wordsOf(crop(picture, region));
  const words = new Uint32Array(buffer, byteOffset, length);
  if (masks.length === 0) return words;
  const masked = words.slice();
  for (const mask of masks) {
    const { x, y, width, height } = intersection(mask, region);
    for (let row = y - region.y; row < y - region.y + height; row++) {
      const start = row * region.width + x - region.x;
      masked.fill(0, start, start + width);
    }
  }
  return masked;
}

/** Where the rows of `box` begin in which pixels differ. */
function differingRows(a: Uint32Array, b: Uint32Array, stride: number, box: Rect): number[] {
  const [from, to] = [bytesOf(a), bytesOf(b)];
  const rows: number[] = [];
  for (let y = box.y; y < box.y + box.height; y++) {
    const start = y * stride + box.x;
    const [first, end] = [start * 4, (start + box.width) * 4];
    if (from.compare(to, first, end, first, end) !== 0) rows.push(start);
  }
  return rows;
}

/** How many pixels differ in rows of `width`. */
function countDiffering(a: Uint32Array, b: Uint32Array, rows: readonly number[], width: number): number {
  let count = 0;
  for (const start of rows) {
    for (let i = start; i < start + width; i++) if (a[i] !== b[i]) count++;
  }
  return count;
}

/** The largest difference of a channel in rows of `width`. */
function largestDifference(a: Uint32Array, b: Uint32Array, rows: readonly number[], width: number): number {
  let levels = 0;
  for (const start of rows) {
    for (let i = start; i < start + width; i++) {
      const from = a[i]!;
      const to = b[i]!;
      if (from === to) continue;
      for (let shift = 0; shift < 24; shift += 8)
        levels = Math.max(levels, Math.abs(((from >> shift) & 255) - ((to >> shift) & 255)));
      if (levels === 255) return levels;
    }
  }
  return levels;
}

/** Indices of at most MAX_SAMPLES of the `count` pixels that differ. */
function sampleDiffering(
  a: Uint32Array,
  b: Uint32Array,
  rows: readonly number[],
  width: number,
  count: number,
): Uint32Array {
  const wanted = sampledRanks(count);
  const samples = new Uint32Array(wanted.length);
  let rank = 0;
  let taken = 0;
  for (const start of rows) {
    for (let i = start; i < start + width && taken < samples.length; i++)
      if (a[i] !== b[i] && rank++ === wanted[taken]) samples[taken++] = i;
  }
  return samples;
}

/** Indices of at most MAX_SAMPLES of the pixels of `box`. */
function sampleAll(box: Rect, stride: number): Uint32Array {
  return sampledRanks(box.width * box.height).map(
    (rank) => (box.y + Math.floor(rank / box.width)) * stride + box.x + (rank % box.width),
  );
}

/**
 * At most MAX_SAMPLES of the numbers below `count`: one from each equal share, at a position in the share that varies, so
 * that no pattern in the picture is systematically missed.
 */
function sampledRanks(count: number): Uint32Array {
  const ranks = new Uint32Array(Math.min(count, MAX_SAMPLES));
  const share = count / ranks.length;
  for (let n = 1; n < ranks.length; n++)
    ranks[n] = Math.max(ranks[n - 1]! + 1, Math.floor((n + ((n * GOLDEN) % 1)) * share));
  return ranks;
}

/** The fractional parts of its multiples are evenly spread. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Differences of no more than this are rounding, compression or dithering. */
const FEW_LEVELS = 8;

/** Describes a change of all colours, such as `looks like red and blue are swapped`; null if no known change fits. */
function colourChange(evidence: Evidence): string | null {
  return (
    oneColour(evidence) ??
    permutation(evidence) ??
    inversion(evidence) ??
    replacement(evidence) ??
    offset(evidence) ??
    scale(evidence) ??
    alpha(evidence) ??
    fewLevels(evidence)
  );
}

function formatColour(word: number): string {
  const value = (red(word) << 16) | (green(word) << 8) | blue(word);
  if (value === 0) return 'black';
  return value === 0xffffff ? 'white' : `#${value.toString(16).padStart(6, '0')}`;
}

const red = (word: number): number => word & 255;
const green = (word: number): number => (word >>> 8) & 255;
const blue = (word: number): number => (word >>> 16) & 255;
const rgb = (r: number, g: number, b: number): number => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
const channels = [red, green, blue];

/** Whether nearly every pixel became what `predict` returns for it. */
function becomes(evidence: Evidence, predict: (word: number) => number): boolean {
  const { expected, actual } = evidence;
  return explains(evidence, (i) => (expected[i] === 0 ? null : predict(expected[i]!) === actual[i]));
}

/** One of the pictures has a single colour. */
function oneColour({ expected, actual }: Evidence): string | null {
  const is = onlyColour(actual);
  const was = onlyColour(expected);
  if (is !== null)
    return `looks ${formatColour(is)} everywhere${was === null ? '' : ` instead of ${formatColour(was)}`}`;
  return was === null ? null : `the expected picture is ${formatColour(was)} everywhere`;
}

function onlyColour(words: Uint32Array): number | null {
  let colour = 0;
  for (const word of words) {
    if (word === 0 || word === colour) continue;
    if (colour !== 0) return null;
    colour = word;
  }
  return colour;
}

const PERMUTATIONS: readonly { readonly text: string; readonly apply: (word: number) => number }[] = [
  { text: 'red and blue are swapped', apply: (w) => rgb(blue(w), green(w), red(w)) },
  { text: 'red and green are swapped', apply: (w) => rgb(green(w), red(w), blue(w)) },
  { text: 'green and blue are swapped', apply: (w) => rgb(red(w), blue(w), green(w)) },
  { text: 'red, green and blue are read as blue, red and green', apply: (w) => rgb(blue(w), red(w), green(w)) },
  { text: 'red, green and blue are read as green, blue and red', apply: (w) => rgb(green(w), blue(w), red(w)) },
];

function permutation(evidence: Evidence): string | null {
  const found = PERMUTATIONS.find(({ apply }) => becomes(evidence, apply));
  return found ? `looks like ${found.text}` : null;
}

function inversion(evidence: Evidence): string | null {
  return becomes(evidence, (w) => (w ^ 0xffffff) >>> 0) ? 'looks inverted' : null;
}

/** All differing pixels now have one colour. */
function replacement({ expected, actual, differing }: Evidence): string | null {
  const [from, to] = [expected[differing[0]!]!, actual[differing[0]!]!];
  if (!differing.every((i) => actual[i] === to)) return null;
  return `${differing.every((i) => expected[i] === from) ? `${formatColour(from)} ` : ''}became ${formatColour(to)}`;
}

/** Each pixel is lighter or darker by the same number of levels, clamped to black and full. */
function offset(evidence: Evidence): string | null {
  const [r, g, b] = channels.map((channel) => usualStep(evidence, channel)) as [number, number, number];
  const clamp = (value: number): number => Math.min(255, Math.max(0, value));
  if (!becomes(evidence, (w) => rgb(clamp(red(w) + r), clamp(green(w) + g), clamp(blue(w) + b)))) return null;
  if (r === g && g === b) return `looks ${r > 0 ? 'brighter' : 'darker'} by ${levelsText(Math.abs(r))}`;
  const parts = [`red ${signed(r)}`, `green ${signed(g)}`, `blue ${signed(b)}`];
  return `looks tinted: ${parts.join(', ')} levels of 255`;
}

const signed = (value: number): string => (value > 0 ? `+${value}` : String(value));
const levelsText = (levels: number): string => `${levels} ${levels === 1 ? 'level' : 'levels'} of 255`;

/** The most frequent increase of a channel among pixels that are not clamped to black or full. */
function usualStep({ expected, actual, differing }: Evidence, channel: (word: number) => number): number {
  const free = new Uint32Array(511);
  const any = new Uint32Array(511);
  for (const i of differing) {
    const is = channel(actual[i]!);
    const step = is - channel(expected[i]!);
    if (is > 0 && is < 255) free[step + 255]!++;
    if (step !== 0) any[step + 255]!++;
  }
  const counts = free.some((n) => n > 0) ? free : any;
  const most = Math.max(...counts);
  return most === 0 ? 0 : counts.indexOf(most) - 255;
}

/** One factor for all pixels: a dimmed screen, or a constant alpha multiplied in again. */
function scale(evidence: Evidence): string | null {
  const { expected, actual, differing } = evidence;
  let [from, to] = [0, 0];
  for (const i of differing) {
    for (const channel of channels) {
      const is = channel(actual[i]!);
      // A clamped channel does not show the factor.
      if (is === 255) continue;
      from += channel(expected[i]!);
      to += is;
    }
  }
  if (from === 0) return null;
  const factor = to / from;
  const isNear = (is: number, was: number): boolean => Math.abs(is - Math.min(255, was * factor)) <= 1;
  const holds = explains(evidence, (i) =>
    expected[i] === 0 ? null : channels.every((channel) => isNear(channel(actual[i]!), channel(expected[i]!))),
  );
  return holds ? `looks ${factor < 1 ? 'dimmed' : 'brightened'} to ${Math.round(factor * 100)} %` : null;
}

/**
 * Multiplying alpha in a second time darkens each pixel by its own factor and keeps its hue. Premultiplied white is a
 * grey of the value of alpha; there, squared values are the evidence.
 */
function alpha(evidence: Evidence): string | null {
  const { expected, actual, differing } = evidence;
  const again = explains(evidence, (i) => isScaled(expected[i]!, actual[i]!));
  const left = !again && explains(evidence, (i) => isScaled(actual[i]!, expected[i]!));
  if (!again && !left) return null;
  const [more, less] = again ? [expected, actual] : [actual, expected];
  let [hues, squares] = [0, 0];
  for (const i of differing) {
    if (hasHue(less[i]!)) hues++;
    if (channels.every((channel) => Math.abs(channel(less[i]!) - channel(more[i]!) ** 2 / 255) <= 1)) squares++;
  }
  if (Math.max(hues, squares) * 2 < differing.length) return null;
  return again ? 'looks like alpha was multiplied in twice' : 'looks like alpha was not multiplied in';
}

/** Far enough from grey that two colours do not have the same hue by accident. */
function hasHue(word: number): boolean {
  const values = channels.map((channel) => channel(word));
  return Math.max(...values) - Math.min(...values) >= 16;
}

/** Whether `less` is `more` times a factor from 0 to 1, within the rounding of both. */
function isScaled(more: number, less: number): boolean | null {
  if (more === 0) return null;
  const [top] = channels.toSorted((a, b) => b(more) - a(more));
  const factor = top!(more) === 0 ? 0 : top!(less) / top!(more);
  return factor <= 1 && channels.every((channel) => Math.abs(channel(less) - channel(more) * factor) <= 1);
}

function fewLevels({ levels }: Evidence): string | null {
  return levels <= FEW_LEVELS ? `by at most ${levelsText(levels)}` : null;
}

/** Fewer pixels than this fit elsewhere by chance. */
const FEWEST_PIXELS = 32;
/** How many pieces of the actual picture are searched for in the expected one. */
const MAX_PIECES = 6;
const MAX_PIECE_PIXELS = 32;
/** How many candidates for pieces are considered; the most varied are used. */
const MAX_CANDIDATES = 128;
/** How many occurrences of a piece are tried in each direction, nearest first; text repeats itself. */
const MAX_FINDS = 8;

/** The index of the expected pixel that is seen at x, y; -1 if unknown. */
type Origin = (x: number, y: number) => number;

/** Describes how all pixels moved, such as `looks shifted by 3,-2`; null if they did not. */
function movedPixels(evidence: Evidence): string | null {
  if (evidence.differing.length < FEWEST_PIXELS) return null;
  return mirrored(evidence) ?? moved(evidence);
}

function isFrom(evidence: Evidence, origin: Origin): boolean {
  const { width, expected, actual } = evidence;
  return explains(evidence, (i) => {
    const from = origin(i % width, Math.floor(i / width));
    if (from < 0 || from >= expected.length || expected[from] === 0 || actual[i] === 0) return null;
    return expected[from] === actual[i];
  });
}

function mirrored(evidence: Evidence): string | null {
  const { width, height } = evidence;
  if (isSwapped(evidence, (x, y) => (height - 1 - y) * width + x)) return 'looks upside down (rows from the bottom up)';
  if (isSwapped(evidence, (x, y) => y * width + width - 1 - x)) return 'looks mirrored left to right';
  return isSwapped(evidence, (x, y) => (height - 1 - y) * width + width - 1 - x) ? 'looks turned by 180 degrees' : null;
}

/** Whether pixels changed places in pairs. One direction is no evidence: black that replaces text can come from anywhere. */
function isSwapped(evidence: Evidence, other: (x: number, y: number) => number): boolean {
  const { width, expected, actual } = evidence;
  return explains(evidence, (i) => {
    const j = other(i % width, Math.floor(i / width));
    if (expected[i] === 0 || expected[j] === 0) return null;
    return expected[j] === actual[i] && expected[i] === actual[j];
  });
}

/**
 * Searches for pieces of the actual picture in the expected one. The place of an occurrence determines the shift, or
 * the wrong stride, that would have moved the piece; the other pixels then decide whether that happened.
 */
function moved(evidence: Evidence): string | null {
  for (const piece of pieces(evidence)) {
    for (const found of finds(evidence, piece)) {
      const verdict = shift(evidence, piece, found) ?? stride(evidence, piece, found);
      if (verdict !== null) return verdict;
    }
  }
  return null;
}

function shift(evidence: Evidence, to: number, from: number): string | null {
  const { width, height } = evidence;
  const dx = (to % width) - (from % width);
  const dy = Math.floor(to / width) - Math.floor(from / width);
  const isShifted = isFrom(evidence, (x, y) => {
    const [fromX, fromY] = [x - dx, y - dy];
    return fromX < 0 || fromX >= width || fromY < 0 || fromY >= height ? -1 : fromY * width + fromX;
  });
  return isShifted ? `looks shifted by ${dx},${dy}` : null;
}

/**
 * Memory with rows of one length, read as rows of another length:
 *
 *     rows of 4 read as 3      rows of 3 read as 4
 *       abc. def. ghi.           abcdefghi
 *       abc                      abcd
 *       .de                      efgh
 *       f.g                      i
 */
function stride(evidence: Evidence, to: number, from: number): string | null {
  const { width } = evidence;
  const text = (held: number, read: number): string =>
    `looks like rows of ${held} pixels were read as ${read}: wrong stride`;

  // Rows in memory are longer than those of the picture; their ends are unknown.
  const held = (to - (from % width)) / Math.floor(from / width);
  if (Number.isInteger(held) && held > width) {
    const isHeld = isFrom(evidence, (x, y) => {
      const at = y * width + x;
      const column = at % held;
      return column < width ? Math.floor(at / held) * width + column : -1;
    });
    if (isHeld) return text(held, width);
  }
  const read = (from - (to % width)) / Math.floor(to / width);
  const isRead = Number.isInteger(read) && read > 0 && read !== width && isFrom(evidence, (x, y) => y * read + x);
  return isRead ? text(width, read) : null;
}

/** The indices where varied pieces begin, each once: all pixels near the end of a row share its last piece. */
function pieces(evidence: Evidence): number[] {
  const { actual, differing, width } = evidence;
  const length = pieceLength(evidence);
  const step = Math.ceil(differing.length / MAX_CANDIDATES);
  const starts = new Set<number>();
  for (let i = 0; i < differing.length; i += step) {
    const at = differing[i]!;
    starts.add(at - (at % width) + Math.min(at % width, width - length));
  }
  const candidates: { start: number; changes: number }[] = [];
  for (const start of starts) {
    let changes = 0;
    for (let j = start + 1; j < start + length; j++) if (actual[j] !== actual[j - 1]) changes++;
    if (changes > 0) candidates.push({ start, changes });
  }
  return candidates
    .sort((a, b) => b.changes - a.changes)
    .slice(0, MAX_PIECES)
    .map(({ start }) => start);
}

/** Short enough that most pieces of a row stay whole in rows of another length. */
function pieceLength({ width }: Evidence): number {
  return Math.min(MAX_PIECE_PIXELS, Math.max(1, width >> 1));
}

/** Indices of the occurrences of a piece of the actual picture in the expected one, alternately after and before it. */
function* finds(evidence: Evidence, start: number): Generator<number> {
  const haystack = bytesOf(evidence.expected);
  const needle = bytesOf(evidence.actual).subarray(start * 4, (start + pieceLength(evidence)) * 4);
  let after = start * 4;
  let before = start * 4;
  for (let n = 0; n < MAX_FINDS; n++) {
    after = after < 0 ? after : nextPixel((at) => haystack.indexOf(needle, at), after + 4, 4);
    if (after >= 0) yield after / 4;
    before = before <= 0 ? -1 : nextPixel((at) => haystack.lastIndexOf(needle, at), before - 4, -4);
    if (before >= 0) yield before / 4;
  }
}

/** The next occurrence that begins at a pixel. */
function nextPixel(find: (from: number) => number, from: number, step: number): number {
  let at = find(from);
  while (at >= 0 && at % 4 !== 0) at = at + Math.sign(step) < 0 ? -1 : find(at + Math.sign(step));
  return at;
}

function bytesOf(words: Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

/** The length of the piece of the smaller picture that is searched for in the larger one. */
const PIECE_PIXELS = 32;
const MAX_ROWS = 64;
const MAX_MATCHES = 64;

/** Describes pictures of different sizes, and what they have in common. */
export function diagnoseSizes(expected: Picture, actual: Picture): string {
  const sizes = `the picture is ${formatSize(actual)} instead of ${formatSize(expected)}`;
  const relation =
    sharedCorner(expected, actual) ??
    otherRows(expected, actual) ??
    contained(expected, actual) ??
    enlarged(expected, actual) ??
    turned(expected, actual);
  return relation === null ? sizes : `${sizes}; ${relation}`;
}

function sharedCorner(expected: Picture, actual: Picture): string | null {
  const shared = { width: Math.min(expected.width, actual.width), height: Math.min(expected.height, actual.height) };
  return isPartAt(crop(expected, { x: 0, y: 0, ...shared }), actual, 0, 0)
    ? `the top left ${formatSize(shared)} are the same`
    : null;
}

function otherRows({ width, data }: Picture, actual: Picture): string | null {
  if (width === actual.width) return null;
  const common = Math.min(data.length, actual.data.length);
  const isSame = Buffer.compare(data.subarray(0, common), actual.data.subarray(0, common)) === 0;
  return isSame ? `it has the same pixels in rows of ${actual.width}: wrong width or stride` : null;
}

/** One picture is a part of the other. */
function contained(expected: Picture, actual: Picture): string | null {
  const inside = partOf(expected, actual);
  if (inside) return `it contains the expected picture at ${inside.x},${inside.y}`;
  const cut = partOf(actual, expected);
  return cut && `it is the part of the expected picture at ${cut.x},${cut.y}`;
}

function partOf(part: Picture, whole: Picture): { x: number; y: number } | null {
  if (part.width > whole.width || part.height > whole.height) return null;
  const piece = variedPiece(part);
  const length = Math.min(PIECE_PIXELS, part.width);
  const needle = part.data.subarray(piece * 4, (piece + length) * 4);
  const haystack = Buffer.from(whole.data.buffer, whole.data.byteOffset, whole.data.length);
  for (
    let finds = 0, at = haystack.indexOf(needle);
    at >= 0 && finds < MAX_MATCHES;
    finds++, at = haystack.indexOf(needle, at + 1)
  ) {
    if (at % 4 !== 0) continue;
    const x = ((at / 4) % whole.width) - (piece % part.width);
    const y = Math.floor(at / 4 / whole.width) - Math.floor(piece / part.width);
    if (isPartAt(part, whole, x, y)) return { x, y };
  }
  return null;
}

/** The index where the most varied piece begins, in a sample of rows. */
function variedPiece(picture: Picture): number {
  const words = wordsOf(picture);
  const length = Math.min(PIECE_PIXELS, picture.width);
  let [best, most] = [0, 0];
  for (let y = 0; y < picture.height; y += Math.ceil(picture.height / MAX_ROWS)) {
    for (let start = y * picture.width, end = start + picture.width - length; start <= end; start += length) {
      let changes = 0;
      for (let i = start + 1; i < start + length; i++) if (words[i] !== words[i - 1]) changes++;
      if (changes > most) [best, most] = [start, changes];
    }
  }
  return best;
}

function isPartAt(part: Picture, whole: Picture, x: number, y: number): boolean {
  if (x < 0 || y < 0 || x + part.width > whole.width || y + part.height > whole.height) return false;
  const bytes = Buffer.from(part.data.buffer, part.data.byteOffset, part.data.length);
  const stride = part.width * 4;
  for (let row = 0; row < part.height; row++) {
    const start = ((y + row) * whole.width + x) * 4;
    if (bytes.compare(whole.data, start, start + stride, row * stride, (row + 1) * stride) !== 0) return false;
  }
  return true;
}

function enlarged(expected: Picture, actual: Picture): string | null {
  const times = enlargement(expected, actual);
  if (times !== null) return `it is the expected picture enlarged ${times} times`;
  const reduced = enlargement(actual, expected);
  return reduced === null ? null : `it is the expected picture reduced ${reduced} times`;
}

/** By which factor `large` is `small` with each pixel enlarged; null if it is not. */
function enlargement(small: Picture, large: Picture): number | null {
  const times = large.width / small.width;
  if (!Number.isInteger(times) || times < 2 || large.height !== small.height * times) return null;
  return isMapped(large, small, (x, y) => Math.floor(y / times) * small.width + Math.floor(x / times)) ? times : null;
}

function turned(expected: Picture, actual: Picture): string | null {
  const { width, height } = expected;
  if (actual.width !== height || actual.height !== width) return null;
  if (isMapped(actual, expected, (x, y) => (height - 1 - x) * width + y))
    return 'it is the expected picture turned clockwise';
  return isMapped(actual, expected, (x, y) => x * width + width - 1 - y)
    ? 'it is the expected picture turned counter-clockwise'
    : null;
}

/** Whether each pixel of `to` is the pixel of `from` at the index that `origin` returns. */
function isMapped(to: Picture, from: Picture, origin: (x: number, y: number) => number): boolean {
  const [is, was] = [wordsOf(to), wordsOf(from)];
  for (let y = 0, i = 0; y < to.height; y++) {
    for (let x = 0; x < to.width; x++, i++) if (is[i] !== was[origin(x, y)]) return false;
  }
  return true;
}
