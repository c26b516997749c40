import type { Picture } from '../../src/core/picture.ts';
import { intersection, isMasked, type ComparedArea } from './compared-area.ts';
import { crop, findMarks, wordsOf, type Measure } from './difference.ts';

/** Words 0xAABBGGRR. */
const RED = 0xff0000ff;
const HATCH_DARK = 0xffb0a8a0;
const HATCH_LIGHT = 0xffd8d0c8;
/** Of the picture's contrast, what stays behind the red. */
const PALE = 0.3;

/** See `diffPicture`; `area` is null for pictures of two sizes. */
export function drawDifference(expected: Picture, actual: Picture, area: ComparedArea | null, measure: Measure): Picture {
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
      const isCompared = isRow && x >= region.x && x < region.x + region.width && (masks.length === 0 || !isMasked(area, x, y));
      words[i] = isCompared ? pale(from[i]!) : (x + y) & 4 ? HATCH_DARK : HATCH_LIGHT;
    }
  }
  const marks = findMarks(expected, actual, area, measure);
  if (marks) {
    const { bounds } = marks;
    for (let y = 0, i = 0; y < bounds.height; y++) {
      const start = (bounds.y + y) * width + bounds.x;
      for (let x = 0; x < bounds.width; x++, i++) if (marks.words[i] !== 0) words[start + x] = RED;
    }
  }
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

/** The brightness (ITU-R BT.601) of a colour, near white. */
function pale(word: number): number {
  const brightness = 0.299 * (word & 255) + 0.587 * ((word >> 8) & 255) + 0.114 * ((word >> 16) & 255);
  const level = Math.round(255 - (255 - brightness) * PALE);
  return ((0xff << 24) | (level << 16) | (level << 8) | level) >>> 0;
}
