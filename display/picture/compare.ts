import { UsageError } from '../../src/core/errors.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { comparedArea, type ComparedArea, drawDifference, findDifference, type Measure } from './difference.ts';
import { diagnose, diagnoseSizes } from './diagnose.ts';

/** What counts as the same. Without options every pixel has to be equal. */
export interface CompareOptions {
  /** How far a colour may be off and still count as the same: from 0 (exact, the default) to 1, in pixelmatch's perceptual measure. */
  readonly threshold?: number;
  /** How many pixels may differ: in pixels, or below 1 as a share of those compared. Default 0. */
  readonly allowed?: number;
  /** Pixels that pixelmatch takes for anti-aliasing do not count. Default false. */
  readonly ignoreAntialiasing?: boolean;
  /** Only this rectangle is compared. */
  readonly region?: Rect;
  /** What lies in these is not compared. */
  readonly masks?: readonly Rect[];
}

export interface Comparison {
  readonly matches: boolean;
  /** 0 when sizes differ. */
  readonly differentPixels: number;
  /** 0 when sizes differ. */
  readonly comparedPixels: number;
  /** Smallest rectangle around the differing pixels; null when none differ or sizes do. */
  readonly box: Rect | null;
  /**
   * What differs, for a person, in one sentence; '' when nothing does. Found out when first read, so
   * that comparing frame after frame costs no more than comparing; the pictures must be as they were.
   */
  readonly explanation: string;
}

/**
 * Compares two pictures. Their colours are what a screen shows: alpha is 255 everywhere, as in every
 * `Picture` of ours; `decodePng` shows what is transparent on black, as a screen does, and has
 * multiplied alpha in once. Throws UsageError for options that leave nothing to compare, RangeError
 * for a picture whose bytes do not fit its size.
 */
export function comparePictures(expected: Picture, actual: Picture, options: CompareOptions = {}): Comparison {
  checkPicture(expected);
  checkPicture(actual);
  const measure = measureOf(options);
  if (!isSameSize(expected, actual)) {
    return comparison(false, 0, 0, null, () => diagnoseSizes(expected, actual));
  }
  const area = comparedArea(expected, options);
  const allowed = allowedPixels(options.allowed ?? 0, area);
  const found = findDifference(expected, actual, area, measure);
  if (found === null) return comparison(true, 0, area.pixels, null, () => '');
  return comparison(found.count <= allowed, found.count, area.pixels, found.box, () => diagnose(expected, actual, area, found));
}

/**
 * A picture of what differs: the actual one pale and grey, differing pixels red, what was not
 * compared hatched. Where sizes differ it has room for both, and what only one of them has is red.
 */
export function diffPicture(expected: Picture, actual: Picture, options: CompareOptions = {}): Picture {
  checkPicture(expected);
  checkPicture(actual);
  const measure = measureOf(options);
  return drawDifference(expected, actual, isSameSize(expected, actual) ? comparedArea(expected, options) : null, measure);
}

function comparison(matches: boolean, differentPixels: number, comparedPixels: number, box: Rect | null, explain: () => string): Comparison {
  let explanation: string | null = null;
  return {
    matches,
    differentPixels,
    comparedPixels,
    box,
    // An accessor of the object's own, so that copies and JSON have the text.
    get explanation() {
      return (explanation ??= explain());
    },
  };
}

function isSameSize(a: Picture, b: Picture): boolean {
  return a.width === b.width && a.height === b.height;
}

function checkPicture({ width, height, data }: Picture): void {
  if (!(width >= 1 && height >= 1)) throw new RangeError(`a ${width}x${height} picture has no pixels`);
  if (data.length !== width * height * 4) throw new RangeError(`a ${width}x${height} picture has ${width * height * 4} bytes, not ${data.length}`);
}

function measureOf({ threshold = 0, ignoreAntialiasing = false }: CompareOptions): Measure {
  if (!(threshold >= 0 && threshold <= 1)) throw new UsageError(`threshold ${threshold}: give a number from 0 (exact) to 1`);
  return { threshold, ignoreAntialiasing };
}

function allowedPixels(allowed: number, { pixels }: ComparedArea): number {
  if (!(allowed >= 0)) throw new UsageError(`allowed ${allowed}: give a number of pixels, or a share of them below 1`);
  return allowed < 1 ? allowed * pixels : allowed;
}
