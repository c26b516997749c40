import { UsageError } from '../../src/core/errors.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { comparedArea, type ComparedArea, drawDifference, findDifference, type Measure } from './difference.ts';
import { diagnose, diagnoseSizes } from './diagnose.ts';

/** Which differences are accepted. Without options every pixel has to be equal. */
export interface CompareOptions {
  /** How far a colour may be off, from 0 (exact, the default) to 1 in pixelmatch's perceptual measure. */
  readonly threshold?: number;
  /** How many pixels may differ; a number below 1 is a share of those compared. Default 0. */
  readonly allowed?: number;
  /** Ignore pixels that pixelmatch classifies as anti-aliasing. Default false. */
  readonly ignoreAntialiasing?: boolean;
  /** Compare only this rectangle. */
  readonly region?: Rect;
  /** Do not compare what lies in these. */
  readonly masks?: readonly Rect[];
}

export interface Comparison {
  readonly matches: boolean;
  /** 0 when sizes differ. */
  readonly differentPixels: number;
  /** 0 when sizes differ. */
  readonly comparedPixels: number;
  /** The smallest rectangle around the differing pixels; null if no pixel differs, or sizes differ. */
  readonly box: Rect | null;
  /**
   * What differs, in one sentence; '' if nothing does. Computed when it is first read, because it costs more than
   * comparing; until then the pictures must not change.
   */
  readonly explanation: string;
}

/**
 * Compares two pictures as a screen shows them, with an alpha of 255 everywhere; `decodePng` blends transparent
 * pixels with black. Throws UsageError for options that leave nothing to compare, RangeError for a picture whose bytes
 * do not fit its size.
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
  return comparison(found.count <= allowed, found.count, area.pixels, found.box, () =>
    diagnose(expected, actual, area, found),
  );
}

/**
 * A picture of the differences: the actual picture in pale grey, differing pixels in red, and pixels that were not
 * compared hatched. If sizes differ it is large enough for both, and pixels that only one of them has are red.
 */
export function diffPicture(expected: Picture, actual: Picture, options: CompareOptions = {}): Picture {
  checkPicture(expected);
  checkPicture(actual);
  const measure = measureOf(options);
  return drawDifference(
    expected,
    actual,
    isSameSize(expected, actual) ? comparedArea(expected, options) : null,
    measure,
  );
}

function comparison(
  matches: boolean,
  differentPixels: number,
  comparedPixels: number,
  box: Rect | null,
  explain: () => string,
): Comparison {
  let explanation: string | null = null;
  return {
    matches,
    differentPixels,
    comparedPixels,
    box,
    // An own accessor rather than an inherited one, so that copies and JSON include the text.
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
  if (data.length !== width * height * 4)
    throw new RangeError(`a ${width}x${height} picture has ${width * height * 4} bytes, not ${data.length}`);
}

function measureOf({ threshold = 0, ignoreAntialiasing = false }: CompareOptions): Measure {
  if (!(threshold >= 0 && threshold <= 1))
    throw new UsageError(`threshold ${threshold}: give a number from 0 (exact) to 1`);
  return { threshold, ignoreAntialiasing };
}

function allowedPixels(allowed: number, { pixels }: ComparedArea): number {
  if (!(allowed >= 0))
    throw new UsageError(`allowed ${allowed}: give a number of pixels, or a share of them that is less than 1`);
  return allowed < 1 ? allowed * pixels : allowed;
}
