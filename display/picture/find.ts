/**
 * Finds a picture inside another.
 *
 * Equal pixels are looked for first. A scan over the screen asks a few pixels of the pattern, its rarest colour first;
 * a place where all of them agree is compared whole. The pixel that refutes such a place is asked at once at the next
 * ones, so patterns that are nearly on screen many times (text, tables, checks) do not cost more than others.
 *
 * Similar pixels are looked for if that is allowed: the place with the least mean squared error of grey, blurred
 * pictures. This is the measure of os-autoinst (tinycv), by which the `match` of its needles was chosen. A reduced
 * picture gives a candidate in a few milliseconds; where it is not good enough, every place is judged, by sums of its
 * pixels, then by those of highest contrast, until its error is too large.
 */
import { contains, type Rect, sameRect, type Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { crop, intersection, wordsOf } from './difference.ts';

interface Position {
  readonly x: number;
  readonly y: number;
}

/** Where a pattern is, or comes nearest to being. */
export interface Spot extends Position {
  /** The mean squared error of its blurred grey pixels, in levels of 255; 0 if all pixels are equal. */
  readonly error: number;
}

/** What a search asks for. */
export interface Wanted {
  /** Where the left upper corner of the pattern may be: positions, so a rectangle of 1x1 is a single one. */
  readonly positions: Rect;
  /** Of equally good places the nearest to this one is taken; by default the first, row by row. */
  readonly near?: Position | undefined;
  /** The largest error that is accepted; 0: every pixel has to be equal. */
  readonly allowed: number;
}

/** How many pixels are asked before a place is compared whole. */
const PROBES = 8;
/** From at most so many pixels of a pattern those that are asked first are chosen. */
const SAMPLES = 4096;
/** How many candidates of a reduced picture are looked at in the whole one, and the pixels of a pattern for which that costs too much. */
const SHORTLISTED = 8;
const LARGE = 2 ** 16;
/** How many pixels rank the places of which none is good enough. */
const RANKING = 256;
/** Side of the boxes whose sums rule out places, and how many places have to be judged for the sums to pay. */
const BOX = 8;
const MANY = 2048;

/** A rectangle of a picture that is looked for in others. Prepared once; the picture must not change. */
export class Pattern implements Size {
  readonly width: number;
  readonly height: number;
  readonly #picture: Picture;
  readonly #area: Rect;
  /** In pixels of the pattern. */
  readonly #excluded: readonly Rect[];
  readonly #words: Int32Array;
  /** Runs of pixels that count, as triples: row, first column, end column. */
  readonly #runs: Int32Array;
  /** Which runs have one colour. A mismatch in one rules out all places up to it. */
  readonly #isPlain: readonly boolean[];
  /** Indices of the pixels that are asked first. */
  readonly #probes: Int32Array;
  #greys: GreyPattern | null = null;

  /** `area` lies within the picture and is not empty. Pixels in `excluded`, in the same coordinates, may have any colour; a pattern without any other pixel must not be looked for. */
  constructor(picture: Picture, area: Rect, excluded: readonly Rect[] = []) {
    this.width = area.width;
    this.height = area.height;
    this.#picture = picture;
    this.#area = area;
    this.#words = wordsOf(crop(picture, area));
    this.#excluded = excluded
      .map((rect) => intersection(rect, area))
      .filter(({ width, height }) => width > 0 && height > 0)
      .map((rect) => ({ ...rect, x: rect.x - area.x, y: rect.y - area.y }));
    this.#runs = runsOf(area, this.#excluded);
    this.#isPlain = plainRuns(this.#words, this.width, this.#runs);
    this.#probes = chooseProbes(this.#words, this.width, this.#runs);
  }

  /** All pixels are excluded. */
  get isEmpty(): boolean {
    return this.#runs.length === 0;
  }

  /** A place that is good enough: with equal pixels, else the one with the least error. Null if there is none. */
  find(searched: SearchedPicture, { positions, near, allowed }: Wanted): Spot | null {
    const window = this.#positionsOn(searched.picture, positions);
    if (!window) return null;
    const equal = this.#findEqual(searched.picture, window, near);
    if (equal || allowed === 0) return equal;
    const greys = this.#greyPattern();
    return greys.candidate(searched, window, allowed) ?? greys.least(searched, window, allowed, near);
  }

  /** The place that is most similar, or one nearly so. Null if the pattern is nowhere wholly on the screen. */
  nearest(searched: SearchedPicture, positions: Rect): Spot | null {
    const window = this.#positionsOn(searched.picture, positions);
    return window && this.#greyPattern().nearest(searched, window);
  }

  /** Null if the pattern is nowhere wholly on the screen. */
  #positionsOn({ width, height }: Size, positions: Rect): Rect | null {
    const all = { x: 0, y: 0, width: width - this.width + 1, height: height - this.height + 1 };
    const window = intersection(all, positions);
    return window.width > 0 && window.height > 0 ? window : null;
  }

  #greyPattern(): GreyPattern {
    this.#greys ??= new GreyPattern(this.#picture, this.#area, this.#excluded);
    return this.#greys;
  }

  #findEqual(screen: Picture, { x: left, y: top, width, height }: Rect, near: Position | undefined): Spot | null {
    const words = wordsOf(screen);
    const stride = screen.width;
    const pattern = this.#words;
    const offsetOf = (index: number): number => Math.floor(index / this.width) * stride + (index % this.width);
    const offsets = this.#probes.map(offsetOf);
    const colours = Int32Array.from(this.#probes, (index) => pattern[index]!);
    const [offset, colour] = [offsets[0]!, colours[0]!];
    const count = offsets.length;
    let found: Spot | null = null;
    let distance = Infinity;
    for (let y = top; y < top + height; y++) {
      const row = y * stride;
      const end = row + left + width;
      scan: for (let at = row + left; at < end; at++) {
        if (words[at + offset] !== colour) continue;
        for (let probe = 1; probe < count; probe++) {
          if (words[at + offsets[probe]!] !== colours[probe]) continue scan;
        }
        const run = this.#differingRun(words, at, stride);
        if (run < 0) {
          const x = at - row;
          if (!near) return { x, y, error: 0 };
          const away = (x - near.x) ** 2 + (y - near.y) ** 2;
          if (away < distance) [found, distance] = [{ x, y, error: 0 }, away];
          continue;
        }
        const column = this.#differingColumn(words, at, stride, run);
        const wrong = this.#runs[run]! * this.width + column;
        if (this.#isPlain[run / 3]!) at += column - this.#runs[run + 1]!;
        if (count === 1) continue;
        offsets.copyWithin(2, 1, count - 1);
        colours.copyWithin(2, 1, count - 1);
        offsets[1] = offsetOf(wrong);
        colours[1] = pattern[wrong]!;
      }
    }
    return found;
  }

  /** The index of a run that differs; -1 if none does. */
  #differingRun(words: Int32Array, at: number, stride: number): number {
    const runs = this.#runs;
    for (let run = 0; run < runs.length; run += 3) {
      const from = runs[run]! * this.width;
      const to = at + runs[run]! * stride;
      for (let x = runs[run + 1]!; x < runs[run + 2]!; x++) {
        if (words[to + x] !== this.#words[from + x]) return run;
      }
    }
    return -1;
  }

  /** The last column of the run that differs. */
  #differingColumn(words: Int32Array, at: number, stride: number, run: number): number {
    const from = this.#runs[run]! * this.width;
    const to = at + this.#runs[run]! * stride;
    let x = this.#runs[run + 2]! - 1;
    while (words[to + x] === this.#words[from + x]) x--;
    return x;
  }
}

function runsOf({ width, height }: Size, excluded: readonly Rect[]): Int32Array {
  const runs: number[] = [];
  for (let y = 0; y < height; y++) {
    const holes = excluded.filter((rect) => y >= rect.y && y < rect.y + rect.height).sort((a, b) => a.x - b.x);
    let x = 0;
    for (const hole of holes) {
      if (hole.x > x) runs.push(y, x, hole.x);
      x = Math.max(x, hole.x + hole.width);
    }
    if (x < width) runs.push(y, x, width);
  }
  return Int32Array.from(runs);
}

function plainRuns(words: Int32Array, width: number, runs: Int32Array): boolean[] {
  return Array.from({ length: runs.length / 3 }, (_, i) => {
    const [y, start, end] = [runs[i * 3]!, runs[i * 3 + 1]!, runs[i * 3 + 2]!];
    const row = words.subarray(y * width + start, y * width + end);
    return row.every((word) => word === row[0]);
  });
}

/** Evenly spread indices of pixels that count, at most SAMPLES. */
function samplesOf(width: number, runs: Int32Array): number[] {
  let total = 0;
  for (let run = 0; run < runs.length; run += 3) total += runs[run + 2]! - runs[run + 1]!;
  // A step that has no divisor in common with the usual widths, or whole columns would never be taken.
  const step = total > SAMPLES ? total / SAMPLES + Math.SQRT2 / 2 : 1;
  const samples: number[] = [];
  let before = 0;
  let next = 0;
  for (let run = 0; run < runs.length; run += 3) {
    const [y, start, end] = [runs[run]!, runs[run + 1]!, runs[run + 2]!];
    for (; next < before + end - start; next += step) samples.push(y * width + start + Math.floor(next) - before);
    before += end - start;
  }
  return samples;
}

/** First a pixel of the rarest colour in the pattern, which is likely to be rare on screens, then evenly spread ones. */
function chooseProbes(words: Int32Array, width: number, runs: Int32Array): Int32Array {
  const samples = samplesOf(width, runs);
  const counts = new Map<number, number>();
  for (const index of samples) counts.set(words[index]!, (counts.get(words[index]!) ?? 0) + 1);
  if (samples.length === 0) return new Int32Array(0);
  let rarest = samples[0]!;
  for (const index of samples) if (counts.get(words[index]!)! < counts.get(words[rarest]!)!) rarest = index;
  const spread = Array.from(
    { length: Math.min(PROBES, samples.length) - 1 },
    (_, i) => samples[Math.floor(((i + 1) * (samples.length - 1)) / (PROBES - 1))]!,
  );
  return Int32Array.from([rarest, ...spread]);
}

/** Levels of grey. */
interface Grey extends Size {
  readonly levels: Uint8Array;
}

/** A pattern in grey, for places that are similar. */
class GreyPattern implements Size {
  readonly width: number;
  readonly height: number;
  readonly #grey: Grey;
  readonly #runs: Int32Array;
  /** Indices of pixels, those of highest contrast first, and their levels. */
  readonly #contrasts: Int32Array;
  readonly #contrastLevels: Uint8Array;
  /** Indices of the first pixels of boxes, in the same order, and their sums. */
  readonly #boxes: Int32Array;
  readonly #boxSums: Uint16Array;
  /** Where the pixels and the boxes are from the first pixel in a picture of a stride. */
  #offsets = { stride: 0, pixels: new Int32Array(0), boxes: new Int32Array(0) };
  /** How many pixels become one in the reduced pictures in which a candidate is looked for. */
  readonly #block: Size;
  readonly #reduced: Grey;

  constructor(picture: Picture, area: Rect, excluded: readonly Rect[]) {
    this.width = area.width;
    this.height = area.height;
    this.#grey = blurredGrey(picture, area);
    this.#runs = unmixedRuns(picture, area, excluded);
    const usual = usualLevel(this.#grey, this.#runs);
    this.#contrasts = contrastsOf(this.#grey, this.#runs, usual);
    this.#contrastLevels = Uint8Array.from(this.#contrasts, (index) => this.#grey.levels[index]!);
    const sums = boxSums(this.#grey);
    this.#boxes = boxesOf(this.#grey, this.#runs, sums, usual);
    this.#boxSums = Uint16Array.from(this.#boxes, (index) => sums[index]!);
    this.#block = { width: blockSide(this.width), height: blockSide(this.height) };
    this.#reduced = reducedGrey(picture, area, this.#block);
  }

  /** The best position around the best ones of reduced pictures; null if its error is larger than `allowed`. */
  candidate(searched: SearchedPicture, window: Rect, allowed: number): Spot | null {
    let best: Spot | null = null;
    let least = allowed;
    for (const around of this.#promising(searched, window)) {
      const found = this.least(searched, around, least, undefined);
      if (found) [best, least] = [found, found.error];
    }
    return best;
  }

  /** A position that is nearly as good as any around the best ones of reduced pictures, however bad. */
  nearest(searched: SearchedPicture, window: Rect): Spot {
    let best: Position = window;
    let least = Infinity;
    for (const around of this.#promising(searched, window)) {
      const { grey, at, place } = this.#highestRanked(searched, around);
      const error = squaredError(grey, at, this.#grey, this.#runs, least);
      if (error < least) [best, least] = [place, error];
    }
    return { x: best.x, y: best.y, error: least / (this.width * this.height) };
  }

  /** Where the best places of reduced pictures are in the whole one. At least one. */
  #promising(searched: SearchedPicture, window: Rect): readonly Rect[] {
    const before = searched.promising.get(this);
    if (before && sameRect(before.window, window)) return before.places;
    const places = this.#judgeReduced(searched, window);
    searched.promising.set(this, { window, places });
    return places;
  }

  #judgeReduced(searched: SearchedPicture, window: Rect): Rect[] {
    const { width: dx, height: dy } = this.#block;
    const seen = this.#seenFrom(window);
    const reduced = reducedGrey(searched.picture, seen, this.#block);
    const runs = runsOf(this.#reduced, []);
    const shortlist = new Shortlist(this.width * this.height > LARGE ? 1 : SHORTLISTED);
    for (let y = 0; y * dy < window.height && y + this.#reduced.height <= reduced.height; y++) {
      for (let x = 0; x * dx < window.width && x + this.#reduced.width <= reduced.width; x++) {
        const error = squaredError(reduced, y * reduced.width + x, this.#reduced, runs, shortlist.limit);
        if (error < shortlist.limit) shortlist.add({ x, y, error });
      }
    }
    const { spots } = shortlist;
    // Blurred at once where that is less than each of them.
    if (seen.width * seen.height <= spots.length * (this.width + 2 * dx) * (this.height + 2 * dy))
      searched.blurred(seen);
    return spots.map(({ x, y }) => {
      const from = { x: window.x + (x - 1) * dx, y: window.y + (y - 1) * dy };
      return intersection({ ...from, width: 2 * dx + 1, height: 2 * dy + 1 }, window);
    });
  }

  /** The position that differs least in some of the pixels, of all contrasts. */
  #highestRanked(
    searched: SearchedPicture,
    window: Rect,
  ): { readonly grey: Grey; readonly at: number; readonly place: Position } {
    const { grey, origin } = searched.blurred(this.#seenFrom(window));
    const { levels, width: stride } = grey;
    const { pixels: offsets } = this.#offsetsFor(stride);
    const contrasts = this.#contrastLevels;
    const step = Math.ceil(offsets.length / RANKING);
    let best = { grey, at: 0, place: window };
    let least = Infinity;
    for (let y = 0; y < window.height; y++) {
      for (let x = 0; x < window.width; x++) {
        const at = (window.y - origin.y + y) * stride + window.x - origin.x + x;
        let error = 0;
        for (let i = 0; i < offsets.length && error < least; i += step) {
          const off = levels[at + offsets[i]!]! - contrasts[i]!;
          error += off * off;
        }
        if (error >= least) continue;
        least = error;
        best = { grey, at, place: { ...window, x: window.x + x, y: window.y + y } };
      }
    }
    return best;
  }

  /** The position with the least error; null if that is larger than `allowed`. */
  least(searched: SearchedPicture, window: Rect, allowed: number, near: Position | undefined): Spot | null {
    const region = searched.blurred(this.#seenFrom(window));
    const { grey, origin } = region;
    const { levels, width: stride } = grey;
    const { pixels: offsets, boxes } = this.#offsetsFor(stride);
    const contrasts = this.#contrastLevels;
    const sums = boxes.length > 0 && window.width * window.height >= MANY ? region.boxSums : null;
    const pixels = this.width * this.height;
    let best: Position | null = null;
    let least = allowed * pixels;
    for (let y = 0; y < window.height; y++) {
      places: for (let x = 0; x < window.width; x++) {
        const at = (window.y - origin.y + y) * stride + window.x - origin.x + x;
        let error = 0;
        if (sums) {
          // The squares of n differences are at least the square of their sum by n.
          const limit = least * BOX * BOX;
          for (let i = 0; i < boxes.length; i++) {
            const off = sums[at + boxes[i]!]! - this.#boxSums[i]!;
            error += off * off;
            if (error > limit) continue places;
          }
          error = 0;
        }
        for (let i = 0; i < offsets.length; i++) {
          const off = levels[at + offsets[i]!]! - contrasts[i]!;
          error += off * off;
          if (error > least) continue places;
        }
        error = squaredError(grey, at, this.#grey, this.#runs, least);
        const place = { x: window.x + x, y: window.y + y };
        if (error > least || (error === least && best && !isNearer(near, place, best))) continue;
        best = place;
        least = error;
      }
    }
    return best && { ...best, error: least / pixels };
  }

  #offsetsFor(stride: number): { readonly pixels: Int32Array; readonly boxes: Int32Array } {
    if (this.#offsets.stride !== stride) {
      const offsetOf = (index: number): number => Math.floor(index / this.width) * stride + (index % this.width);
      this.#offsets = { stride, pixels: this.#contrasts.map(offsetOf), boxes: this.#boxes.map(offsetOf) };
    }
    return this.#offsets;
  }

  /** What the pattern covers at the positions of a window. */
  #seenFrom({ x, y, width, height }: Rect): Rect {
    return { x, y, width: width + this.width - 1, height: height + this.height - 1 };
  }
}

/** A region of a picture in blurred grey, which begins at `origin`. */
class BlurredRegion {
  readonly origin: Rect;
  readonly grey: Grey;
  #boxSums: Uint16Array | null = null;

  constructor(picture: Picture, origin: Rect) {
    this.origin = origin;
    this.grey = blurredGrey(picture, origin);
  }

  get boxSums(): Uint16Array {
    return (this.#boxSums ??= boxSums(this.grey));
  }
}

/** A picture in which patterns are looked for, with what looking has found out about it; it must not change meanwhile. */
export class SearchedPicture {
  readonly picture: Picture;
  /** The best places of reduced pictures, for the window in which each pattern was looked for last. */
  readonly promising = new Map<GreyPattern, { readonly window: Rect; readonly places: readonly Rect[] }>();
  #last: BlurredRegion | null = null;

  constructor(picture: Picture) {
    this.picture = picture;
  }

  /** The region in blurred grey, or a larger one. */
  blurred(region: Rect): BlurredRegion {
    if (!this.#last || !contains(this.#last.origin, region)) this.#last = new BlurredRegion(this.picture, region);
    return this.#last;
  }
}

/** The best spots that are not neighbours of each other, best first. */
class Shortlist {
  readonly spots: Spot[] = [];
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
  }

  /** The error that a further spot must be below. */
  get limit(): number {
    return this.spots.length < this.#length ? Infinity : this.spots[this.#length - 1]!.error;
  }

  add(spot: Spot): void {
    const { spots } = this;
    const rival = spots.findIndex(({ x, y }) => Math.abs(x - spot.x) <= 1 && Math.abs(y - spot.y) <= 1);
    if (rival >= 0 && spots[rival]!.error <= spot.error) return;
    if (rival >= 0) spots.splice(rival, 1);
    const before = spots.findIndex(({ error }) => error > spot.error);
    spots.splice(before < 0 ? spots.length : before, 0, spot);
    if (spots.length > this.#length) spots.pop();
  }
}

/** Runs of pixels into which blurring has mixed only what belongs to the pattern; all that count if there are none. */
function unmixedRuns(picture: Size, area: Rect, excluded: readonly Rect[]): Int32Array {
  const mixed = excluded.map(({ x, y, width, height }) => ({
    x: x - 1,
    y: y - 1,
    width: width + 2,
    height: height + 2,
  }));
  // What a screen shows beyond the edges of the picture is not known.
  if (area.x === 0) mixed.push({ ...area, x: 0, y: 0, width: 1 });
  if (area.y === 0) mixed.push({ ...area, x: 0, y: 0, height: 1 });
  if (area.x + area.width === picture.width) mixed.push({ ...area, x: area.width - 1, y: 0, width: 1 });
  if (area.y + area.height === picture.height) mixed.push({ ...area, x: 0, y: area.height - 1, height: 1 });
  const runs = runsOf(area, mixed);
  return runs.length > 0 ? runs : runsOf(area, excluded);
}

function isNearer(near: Position | undefined, a: Position, b: Position): boolean {
  if (!near) return false;
  return (a.x - near.x) ** 2 + (a.y - near.y) ** 2 < (b.x - near.x) ** 2 + (b.y - near.y) ** 2;
}

/** The sum of the squared errors of a pattern at an index of a scene. Once it exceeds `limit` the rest is left out. */
function squaredError(scene: Grey, at: number, pattern: Grey, runs: Int32Array, limit: number): number {
  const { levels, width: stride } = scene;
  const wanted = pattern.levels;
  let error = 0;
  for (let run = 0; run < runs.length; run += 3) {
    const from = runs[run]! * pattern.width;
    const to = at + runs[run]! * stride;
    const end = runs[run + 2]!;
    for (let x = runs[run + 1]!; x < end; x++) {
      const off = levels[to + x]! - wanted[from + x]!;
      error += off * off;
    }
    if (error > limit) break;
  }
  return error;
}

/** The level that a pattern has most often. */
function usualLevel({ levels, width }: Grey, runs: Int32Array): number {
  const counts = new Uint32Array(256);
  for (const index of samplesOf(width, runs)) counts[levels[index]!]!++;
  return counts.indexOf(Math.max(...counts));
}

/** Pixels that differ most from a level first. */
function contrastsOf({ levels, width }: Grey, runs: Int32Array, usual: number): Int32Array {
  const contrast = (index: number): number => Math.abs(levels[index]! - usual);
  return Int32Array.from(samplesOf(width, runs).sort((a, b) => contrast(b) - contrast(a)));
}

/** Boxes side by side of pixels that all count, by their first pixels; those that differ most from a level first. */
function boxesOf({ width, height }: Size, runs: Int32Array, sums: Uint16Array, usual: number): Int32Array {
  const counts = new Uint8Array(width * height);
  for (let run = 0; run < runs.length; run += 3) {
    const from = runs[run]! * width;
    counts.fill(1, from + runs[run + 1]!, from + runs[run + 2]!);
  }
  const counted = boxSums({ width, height, levels: counts });
  const boxes: number[] = [];
  // Those at the edges have pixels beyond the picture mixed in: the grid begins where the first pixel counts.
  const [top = 0, left = 0] = runs;
  for (let y = top; y + BOX <= height; y += BOX)
    for (let x = left; x + BOX <= width; x += BOX) if (counted[y * width + x] === BOX * BOX) boxes.push(y * width + x);
  const contrast = (index: number): number => Math.abs(sums[index]! - usual * BOX * BOX);
  return Int32Array.from(boxes.sort((a, b) => contrast(b) - contrast(a)));
}

/** At each index the sum of the box that begins there; 0 where it would reach over an edge. */
function boxSums({ width, height, levels }: Grey): Uint16Array {
  const sums = new Uint16Array(width * height);
  const columns = new Uint16Array(width);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    if (y < BOX) for (let x = 0; x < width; x++) columns[x]! += levels[row + x]!;
    else for (let x = 0; x < width; x++) columns[x]! += levels[row + x]! - levels[row - BOX * width + x]!;
    if (y < BOX - 1) continue;
    const to = row - (BOX - 1) * (width + 1);
    let sum = 0;
    for (let x = 0; x < width; x++) {
      sum += columns[x]!;
      if (x >= BOX) sum -= columns[x - BOX]!;
      if (x >= BOX - 1) sums[to + x] = sum;
    }
  }
  return sums;
}

/** A pattern keeps at least four pixels in each direction, which still tell where it is. */
function blockSide(length: number): number {
  return Math.min(Math.max(1, Math.floor(length / 4)), length >= 512 ? 16 : 8);
}

/** The mean luma of blocks of at most 256 pixels; what is left over at the right and at the bottom is dropped. */
function reducedGrey(picture: Picture, region: Rect, block: Size): Grey {
  const words = wordsOf(picture);
  const width = Math.floor(region.width / block.width);
  const height = Math.floor(region.height / block.height);
  const levels = new Uint8Array(width * height);
  // Sums of red, with those of blue in the upper half, and of green: 256 bytes fit into 16 bits.
  const redBlue = new Uint32Array(width);
  const green = new Uint32Array(width);
  const pixels = block.width * block.height;
  for (let y = 0; y < height; y++) {
    redBlue.fill(0);
    green.fill(0);
    for (let row = y * block.height; row < (y + 1) * block.height; row++) {
      let at = (region.y + row) * picture.width + region.x;
      for (let x = 0; x < width; x++) {
        let [ofRedBlue, ofGreen] = [0, 0];
        for (const end = at + block.width; at < end; at++) {
          const word = words[at]!;
          ofRedBlue += word & 0xff_00_ff;
          ofGreen += (word >>> 8) & 0xff;
        }
        redBlue[x]! += ofRedBlue;
        green[x]! += ofGreen;
      }
    }
    for (let x = 0; x < width; x++) {
      const [red, blue] = [redBlue[x]! & 0xffff, redBlue[x]! >>> 16];
      levels[y * width + x] = (red * 9798 + green[x]! * 19235 + blue * 3735) / (pixels << 15);
    }
  }
  return { width, height, levels };
}

/**
 * A region of a picture as ITU-R BT.601 luma, smoothed by the binomial kernel of 3x3. As OpenCV does it, with whose
 * results needles were made: luma in units of 2^-15, pixels around the region taken into account, and those beyond the
 * picture mirrored.
 */
function blurredGrey(picture: Picture, { x, y, width, height }: Rect): Grey {
  const words = wordsOf(picture);
  const levels = new Uint8Array(width * height);
  const stride = width + 2;
  const grey = new Uint8Array(stride);
  const sums = [0, 1, 2].map(() => new Uint16Array(width));
  const leftmost = mirrored(x - 1, picture.width);
  const rightmost = mirrored(x + width, picture.width);
  for (let row = -1; row <= height; row++) {
    const start = mirrored(y + row, picture.height) * picture.width;
    for (let i = 0; i < width; i++) grey[i + 1] = luma(words[start + x + i]!);
    grey[0] = luma(words[start + leftmost]!);
    grey[width + 1] = luma(words[start + rightmost]!);
    const below = sums[(row + 1) % 3]!;
    for (let i = 0; i < width; i++) below[i] = grey[i]! + 2 * grey[i + 1]! + grey[i + 2]!;
    if (row < 1) continue;
    const [above, middle] = [sums[(row - 1) % 3]!, sums[row % 3]!];
    const to = (row - 1) * width;
    for (let i = 0; i < width; i++) levels[to + i] = (above[i]! + 2 * middle[i]! + below[i]! + 8) >> 4;
  }
  return { width, height, levels };
}

function luma(word: number): number {
  return ((word & 255) * 9798 + ((word >>> 8) & 255) * 19235 + ((word >>> 16) & 255) * 3735 + 16384) >> 15;
}

function mirrored(index: number, length: number): number {
  if (length === 1) return 0;
  if (index < 0) return -index;
  return index < length ? index : 2 * length - 2 - index;
}
