import { type AnimationFrame, encodeApng } from '../../display/screenshot/apng.ts';
import type { Rect, Size } from '../core/geometry.ts';
import type { Picture } from '../core/picture.ts';

/** More often than this the video of a test need not show a screen: changes that come sooner are taken together. */
const MIN_STEP_MS = 40;
/** How long the last picture stays before the video starts again. */
const LAST_MS = 2000;
const MAX_BYTES = 256 * 2 ** 20;

interface Change {
  readonly timeMs: number;
  readonly x: number;
  readonly y: number;
  readonly patch: Picture;
  /** The whole screen, whose size may be another than before. */
  readonly isWhole: boolean;
}

/**
 * What a screen showed in the last seconds: a picture of their start, and of each frame since what it changed.
 * Holds at most 256 MiB: where that is too little for the time, the time is shorter.
 */
export class FrameHistory {
  readonly #lengthMs: number;
  readonly #grab: (area: Rect) => Picture;
  /** By time; the first one is whole. */
  readonly #changes: Change[] = [];
  #bytes = 0;
  #size: Size = { width: 0, height: 0 };
  /** What changed since the last copy was made, as edges; nothing if right is 0. */
  #left = 0;
  #top = 0;
  #right = 0;
  #bottom = 0;
  #noted = 0;

  /** `grab` copies an area of what is on screen now. */
  constructor(seconds: number, grab: (area: Rect) => Picture) {
    this.#lengthMs = seconds * 1000;
    this.#grab = grab;
  }

  /** A frame of `size` is on screen, of which `damage` is new. `timeMs` is on the same clock each time. */
  add(timeMs: number, size: Size, damage: Rect): void {
    const isWhole = size.width !== this.#size.width || size.height !== this.#size.height;
    if (isWhole) {
      this.#size = { width: size.width, height: size.height };
      this.#right = 0;
    }
    this.#note(isWhole ? { x: 0, y: 0, ...this.#size } : damage);
    this.#noted = timeMs;
    const last = this.#changes.at(-1);
    if (isWhole || !last || timeMs - last.timeMs >= MIN_STEP_MS) this.#copy(isWhole);
  }

  /** As an animated PNG in real time; null before the first frame. */
  encode(): Uint8Array | null {
    this.#copy(false);
    if (this.#changes.length === 0) return null;
    const wholes = this.#changes.filter(({ isWhole }) => isWhole);
    const width = Math.max(...wholes.map(({ patch }) => patch.width));
    const height = Math.max(...wholes.map(({ patch }) => patch.height));
    const frames = this.#changes.map(({ timeMs, x, y, patch, isWhole }, index): AnimationFrame => {
      const next = this.#changes[index + 1];
      const durationMs = next ? next.timeMs - timeMs : LAST_MS;
      return { x, y, patch: isWhole ? padded(patch, width, height) : patch, durationMs };
    });
    return encodeApng(frames);
  }

  #note({ x, y, width, height }: Rect): void {
    if (width === 0 || height === 0) return;
    const isFirst = this.#right === 0;
    this.#left = isFirst ? x : Math.min(this.#left, x);
    this.#top = isFirst ? y : Math.min(this.#top, y);
    this.#right = isFirst ? x + width : Math.max(this.#right, x + width);
    this.#bottom = isFirst ? y + height : Math.max(this.#bottom, y + height);
  }

  #copy(isWhole: boolean): void {
    if (this.#right === 0) return;
    const area = { x: this.#left, y: this.#top, width: this.#right - this.#left, height: this.#bottom - this.#top };
    this.#right = 0;
    const patch = this.#grab(area);
    this.#changes.push({ timeMs: this.#noted, x: area.x, y: area.y, patch, isWhole });
    this.#bytes += patch.data.length;
    this.#forgetOld();
  }

  /** The picture of the start moves on by the changes that are too old, or too much. */
  #forgetOld(): void {
    const newestMs = this.#changes.at(-1)!.timeMs;
    let [base] = this.#changes;
    let count = 0;
    for (let next = this.#changes[1]; next && (newestMs - next.timeMs >= this.#lengthMs || this.#bytes > MAX_BYTES); next = this.#changes[count + 1]) {
      count++;
      this.#bytes -= next.isWhole ? base!.patch.data.length : next.patch.data.length;
      
      if (!next.isWhole) paste(base!.patch, next);
      base = next.isWhole ? next : { ...base!, timeMs: next.timeMs };
    }
    if (count > 0) this.#changes.splice(0, count + 1, base!);
  }
}

function paste(onto: Picture, { x, y, patch }: Change): void {
  const row = patch.width * 4;
  for (let line = 0; line < patch.height; line++) {
    onto.data.set(patch.data.subarray(line * row, (line + 1) * row), ((y + line) * onto.width + x) * 4);
  }
}

/** In the top left corner of a black picture of that size. */
function padded(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const whole = { width, height, data: new Uint8Array(width * height * 4) };
  for (let at = 3; at < whole.data.length; at += 4) whole.data[at] = 255;
  paste(whole, { timeMs: 0, x: 0, y: 0, patch: picture, isWhole: false });
  return whole;
}
