import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { intersection, type ComparedArea } from './compared-area.ts';
import { crop, wordsOf, type Difference } from './difference.ts';

/**
 * What a cause is judged by. Pixels are words 0xAABBGGRR, row by row without padding, of the region
 * that was compared; a masked one is 0, which no opaque colour is.
 */
export interface Evidence extends Size {
  readonly expected: Uint32Array;
  readonly actual: Uint32Array;
  /** Where pixels differ: all such indices, or some of them, evenly spread. */
  readonly differing: Uint32Array;
  /** The same of every pixel in the box around those. */
  readonly around: Uint32Array;
  /** Most that a channel differs by. */
  readonly levels: number;
}

/** More samples do not change the verdict, only what it costs. */
const MAX_SAMPLES = 4096;

/** Of the samples, so many need not be explained: a clock goes on while red and blue are swapped. */
const STRAY_SHARE = 0.05;

export function gather(expected: Picture, actual: Picture, area: ComparedArea, { box }: Difference): Evidence {
  const { region } = area;
  const { width, height } = region;
  const [a, b] = [regionWords(expected, area), regionWords(actual, area)];
  const inside: Rect = { ...box, x: box.x - region.x, y: box.y - region.y };
  const { count, levels } = measureDifference(a, b, width, inside);
  return {
    width,
    height,
    expected: a,
    actual: b,
    differing: sample(inside, width, count, (i) => a[i] !== b[i]),
    around: sample(inside, width, inside.width * inside.height, () => true),
    levels,
  };
}

/** Whether nearly all samples are as a cause says; null stands for one of which it says nothing. */
export function explains({ differing, around }: Evidence, holds: (index: number) => boolean | null): boolean {
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
  const words = wordsOf(crop(picture, region));
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

/** How many pixels of `box` differ, and the largest difference of a channel. */
function measureDifference(a: Uint32Array, b: Uint32Array, stride: number, box: Rect): { count: number; levels: number } {
  let count = 0;
  let levels = 0;
  for (let y = box.y; y < box.y + box.height; y++) {
    const start = y * stride;
    for (let i = start + box.x; i < start + box.x + box.width; i++) {
      const [from, to] = [a[i]!, b[i]!];
      if (from === to) continue;
      count++;
      if (levels === 255) continue;
      for (let shift = 0; shift < 24; shift += 8) levels = Math.max(levels, Math.abs(((from >> shift) & 255) - ((to >> shift) & 255)));
    }
  }
  return { count, levels };
}

/**
 * Indices of at most MAX_SAMPLES of the `count` pixels of `box` that `isWanted`: one of each equal
 * share of them, at a place in it that changes, so that no pattern of the picture is always missed.
 */
function sample(box: Rect, stride: number, count: number, isWanted: (index: number) => boolean): Uint32Array {
  const samples = new Uint32Array(Math.min(count, MAX_SAMPLES));
  const share = count / samples.length;
  let taken = 0;
  let rank = 0;
  let next = 0;
  for (let y = box.y; y < box.y + box.height && taken < samples.length; y++) {
    const start = y * stride;
    for (let i = start + box.x; i < start + box.x + box.width && taken < samples.length; i++) {
      if (!isWanted(i)) continue;
      if (rank++ < next) continue;
      samples[taken++] = i;
      next = Math.floor((taken + ((taken * GOLDEN) % 1)) * share);
    }
  }
  return samples;
}

/** Its multiples are spread evenly between whole numbers. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;
