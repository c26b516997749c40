import { explains, type Evidence } from './evidence.ts';

/** Fewer pixels fit somewhere else by chance. */
const FEWEST_PIXELS = 32;
/** Pieces of the actual picture that are looked for in the expected one. */
const MAX_PIECES = 6;
const MAX_PIECE_PIXELS = 32;
/** Candidates for pieces; the most varied are taken. */
const MAX_CANDIDATES = 128;
/** Of a piece, in each direction, nearest first: text repeats itself. */
const MAX_FINDS = 8;

/** Which pixel of the expected picture is seen at x, y; -1 if that is not known. */
type Origin = (x: number, y: number) => number;

/** How all pixels went to other places, as in `looks shifted by 3,-2`; null if they did not. */
export function movedPixels(evidence: Evidence): string | null {
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

/** The pixel at each place is seen at the other's: one way alone, text that is gone from a black screen comes from anywhere. */
function isSwapped(evidence: Evidence, other: (x: number, y: number) => number): boolean {
  const { width, expected, actual } = evidence;
  return explains(evidence, (i) => {
    const j = other(i % width, Math.floor(i / width));
    if (expected[i] === 0 || expected[j] === 0) return null;
    return expected[j] === actual[i] && expected[i] === actual[j];
  });
}

/**
 * Looks for pieces of the actual picture in the expected one. Where a piece was found says what would
 * have moved it, a shift or a wrong stride, and all other pixels say whether that is what happened.
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
 * Memory with rows of one length that was read as if they had another:
 *
 *     rows of 4 read as 3      rows of 3 read as 4
 *       abc. def. ghi.           abcdefghi
 *       abc                      abcd
 *       .de                      efgh
 *       f.g                      i
 */
function stride(evidence: Evidence, to: number, from: number): string | null {
  const { width } = evidence;
  const text = (held: number, read: number): string => `looks like rows of ${held} pixels were read as ${read}: wrong stride`;

  // The memory's rows are longer than the picture's; what is beyond them is not known.
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

/** Where varied pieces begin. */
function pieces(evidence: Evidence): number[] {
  const { actual, differing, width } = evidence;
  const length = pieceLength(evidence);
  const step = Math.ceil(differing.length / MAX_CANDIDATES);
  const candidates: { start: number; changes: number }[] = [];
  for (let i = 0; i < differing.length; i += step) {
    const at = differing[i]!;
    const start = at - (at % width) + Math.min(at % width, width - length);
    let changes = 0;
    for (let j = start + 1; j < start + length; j++) if (actual[j] !== actual[j - 1]) changes++;
    if (changes > 0) candidates.push({ start, changes });
  }
  return candidates.sort((a, b) => b.changes - a.changes).slice(0, MAX_PIECES).map(({ start }) => start);
}

/** So short that most pieces of a row are whole in a row of another length. */
function pieceLength({ width }: Evidence): number {
  return Math.min(MAX_PIECE_PIXELS, Math.max(1, width >> 1));
}

/** Indices where a piece of the actual picture is in the expected one, the nearest of both sides in turn. */
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

/** The next find that begins with a pixel. */
function nextPixel(find: (from: number) => number, from: number, step: number): number {
  let at = find(from);
  while (at >= 0 && at % 4 !== 0) at = at + Math.sign(step) < 0 ? -1 : find(at + Math.sign(step));
  return at;
}

function bytesOf(words: Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}
