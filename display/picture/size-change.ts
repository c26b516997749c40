import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { crop, wordsOf } from './difference.ts';

/** Of the smaller picture, looked for in the larger one. */
const PIECE_PIXELS = 32;
const MAX_ROWS = 64;
const MAX_FINDS = 64;

/** That sizes differ, and what is the same all the same. */
export function diagnoseSizes(expected: Picture, actual: Picture): string {
  const sizes = `the picture is ${formatSize(actual)} instead of ${formatSize(expected)}`;
  const relation = sharedCorner(expected, actual) ?? otherRows(expected, actual) ?? contained(expected, actual) ?? enlarged(expected, actual) ?? turned(expected, actual);
  return relation === null ? sizes : `${sizes}; ${relation}`;
}

function formatSize({ width, height }: Size): string {
  return `${width}x${height}`;
}

function sharedCorner(expected: Picture, actual: Picture): string | null {
  const shared = { width: Math.min(expected.width, actual.width), height: Math.min(expected.height, actual.height) };
  return isPartAt(crop(expected, { x: 0, y: 0, ...shared }), actual, 0, 0) ? `the ${formatSize(shared)} that both have at the top left are the same` : null;
}

function otherRows({ width, data }: Picture, actual: Picture): string | null {
  if (width === actual.width) return null;
  const common = Math.min(data.length, actual.data.length);
  const isSame = Buffer.compare(data.subarray(0, common), actual.data.subarray(0, common)) === 0;
  return isSame ? `the same pixels in rows of ${actual.width}: wrong width or stride` : null;
}

/** One of them is a part of the other. */
function contained(expected: Picture, actual: Picture): string | null {
  const inside = partOf(expected, actual);
  if (inside) return `the expected picture is in it at ${inside.x},${inside.y}`;
  const cut = partOf(actual, expected);
  return cut && `it is the part of the expected one at ${cut.x},${cut.y}`;
}

function partOf(part: Picture, whole: Picture): { x: number; y: number } | null {
  if (part.width > whole.width || part.height > whole.height) return null;
  const piece = variedPiece(part);
  const length = Math.min(PIECE_PIXELS, part.width);
  const needle = part.data.subarray(piece * 4, (piece + length) * 4);
  const haystack = Buffer.from(whole.data.buffer, whole.data.byteOffset, whole.data.length);
  for (let finds = 0, at = haystack.indexOf(needle); at >= 0 && finds < MAX_FINDS; finds++, at = haystack.indexOf(needle, at + 1)) {
    if (at % 4 !== 0) continue;
    const x = ((at / 4) % whole.width) - (piece % part.width);
    const y = Math.floor(at / 4 / whole.width) - Math.floor(piece / part.width);
    if (isPartAt(part, whole, x, y)) return { x, y };
  }
  return null;
}

/** The index where the most varied piece of some rows begins. */
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
  if (times !== null) return `it is the expected one enlarged ${times} times`;
  const reduced = enlargement(actual, expected);
  return reduced === null ? null : `it is the expected one reduced ${reduced} times`;
}

/** How many pixels wide and high each pixel of `small` is in `large`, if it is. */
function enlargement(small: Picture, large: Picture): number | null {
  const times = large.width / small.width;
  if (!Number.isInteger(times) || times < 2 || large.height !== small.height * times) return null;
  return isMapped(large, small, (x, y) => Math.floor(y / times) * small.width + Math.floor(x / times)) ? times : null;
}

function turned(expected: Picture, actual: Picture): string | null {
  const { width, height } = expected;
  if (actual.width !== height || actual.height !== width) return null;
  if (isMapped(actual, expected, (x, y) => (height - 1 - x) * width + y)) return 'it is the expected one turned clockwise';
  return isMapped(actual, expected, (x, y) => x * width + width - 1 - y) ? 'it is the expected one turned counter-clockwise' : null;
}

/** Whether each pixel of `to` is the one of `from` that `origin` names. */
function isMapped(to: Picture, from: Picture, origin: (x: number, y: number) => number): boolean {
  const [is, was] = [wordsOf(to), wordsOf(from)];
  for (let y = 0, i = 0; y < to.height; y++) {
    for (let x = 0; x < to.width; x++, i++) if (is[i] !== was[origin(x, y)]) return false;
  }
  return true;
}
