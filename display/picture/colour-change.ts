import { explains, type Evidence } from './evidence.ts';

/** Differences of no more than this are rounding, compression or dithering. */
const FEW_LEVELS = 8;

/** How every colour became another, as in `looks like red and blue are swapped`; null if no way known does it. */
export function colourChange(evidence: Evidence): string | null {
  return oneColour(evidence) ?? permutation(evidence) ?? inversion(evidence) ?? replacement(evidence) ?? offset(evidence) ?? scale(evidence) ?? alpha(evidence) ?? fewLevels(evidence);
}

export function formatColour(word: number): string {
  const value = (red(word) << 16) | (green(word) << 8) | blue(word);
  if (value === 0) return 'black';
  return value === 0xffffff ? 'white' : `#${value.toString(16).padStart(6, '0')}`;
}

const red = (word: number): number => word & 255;
const green = (word: number): number => (word >>> 8) & 255;
const blue = (word: number): number => (word >>> 16) & 255;
const rgb = (r: number, g: number, b: number): number => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
const channels = [red, green, blue];

/** Whether nearly every pixel became what `predict` makes of it. */
function becomes(evidence: Evidence, predict: (word: number) => number): boolean {
  const { expected, actual } = evidence;
  return explains(evidence, (i) => (expected[i] === 0 ? null : predict(expected[i]!) === actual[i]));
}

/** One of the pictures shows nothing at all. */
function oneColour({ expected, actual }: Evidence): string | null {
  const is = onlyColour(actual);
  const was = onlyColour(expected);
  if (is !== null) return `looks ${formatColour(is)} everywhere${was === null ? '' : ` instead of ${formatColour(was)}`}`;
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

/** All that differs is now of one colour. */
function replacement({ expected, actual, differing }: Evidence): string | null {
  const [from, to] = [expected[differing[0]!]!, actual[differing[0]!]!];
  if (!differing.every((i) => actual[i] === to)) return null;
  return `${differing.every((i) => expected[i] === from) ? `${formatColour(from)} ` : ''}became ${formatColour(to)}`;
}

/** The same number of levels more or less in each pixel, as far as there are levels. */
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

/** What a channel most often grows by where it does not stop at black or full. */
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

/** One factor for all: a dimmed screen, or a constant alpha multiplied in again. */
function scale(evidence: Evidence): string | null {
  const { expected, actual, differing } = evidence;
  let [from, to] = [0, 0];
  for (const i of differing) {
    for (const channel of channels) {
      const is = channel(actual[i]!);
      // Where the top is reached the factor cannot be seen.
      if (is === 255) continue;
      from += channel(expected[i]!);
      to += is;
    }
  }
  if (from === 0) return null;
  const factor = to / from;
  const isNear = (is: number, was: number): boolean => Math.abs(is - Math.min(255, was * factor)) <= 1;
  const holds = explains(evidence, (i) => (expected[i] === 0 ? null : channels.every((channel) => isNear(channel(actual[i]!), channel(expected[i]!)))));
  return holds ? `looks ${factor < 1 ? 'dimmed' : 'brightened'} to ${Math.round(factor * 100)} %` : null;
}

/**
 * Multiplying alpha in once more makes each pixel darker by a factor of its own and leaves its hue.
 * White with alpha shows alpha itself as a grey; there it is the square that gives it away.
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

/** Far enough from grey that two colours are not of the same hue by accident. */
function hasHue(word: number): boolean {
  const values = channels.map((channel) => channel(word));
  return Math.max(...values) - Math.min(...values) >= 16;
}

/** `less` is `more` times something from 0 to 1, but for the rounding of each of them. */
function isScaled(more: number, less: number): boolean | null {
  if (more === 0) return null;
  const [top] = channels.toSorted((a, b) => b(more) - a(more));
  const factor = top!(more) === 0 ? 0 : top!(less) / top!(more);
  return factor <= 1 && channels.every((channel) => Math.abs(channel(less) - channel(more) * factor) <= 1);
}

function fewLevels({ levels }: Evidence): string | null {
  return levels <= FEW_LEVELS ? `by at most ${levelsText(levels)}` : null;
}
