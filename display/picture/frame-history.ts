import type { Damage } from '../../src/core/damage.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { type AnimationFrame, encodeApng } from './png.ts';

/** The shortest step of a video; changes that follow sooner are combined. */
const MIN_STEP_MS = 40;
/** How long the last picture stays before the video repeats. */
const LAST_MS = 2000;
const MAX_BYTES = 256 * 2 ** 20;

interface Change {
  readonly timeMs: number;
  readonly x: number;
  readonly y: number;
  readonly patch: Picture;
  /** The patch is the whole screen, possibly of a new size. */
  readonly isWhole: boolean;
}

/**
 * The last seconds of a screen, for a video: the picture at their start, and the pixels that each frame since then has
 * changed. Holds at most 256 MiB; if that is too little for the time asked for, the history is shorter.
 */
export class FrameHistory {
  readonly #lengthMs: number;
  readonly #grab: (area: Rect) => Picture | null;
  /** In order of time. The first one is whole. */
  readonly #changes: Change[] = [];
  #bytes = 0;
  #size: Size = { width: 0, height: 0 };
  /** The edges of what has changed since the last copy; nothing if right is 0. */
  #left = 0;
  #top = 0;
  #right = 0;
  #bottom = 0;
  #notedMs = 0;

  /** `grab` returns a copy of an area of the screen; null while nothing is shown. */
  constructor(seconds: number, grab: (area: Rect) => Picture | null) {
    this.#lengthMs = seconds * 1000;
    this.#grab = grab;
  }

  /** Adds a frame that has come on screen. `size` is 0x0 if nothing is shown. `damages` are what changed; they may reach beyond the screen. */
  add(timeMs: number, size: Size, ...damages: readonly Damage[]): void {
    const isWhole = size.width !== this.#size.width || size.height !== this.#size.height;
    if (isWhole) {
      this.#size = { width: size.width, height: size.height };
      this.#right = 0;
      this.#note(0, 0, size.width, size.height);
    }
    for (const damage of damages)
      for (let i = 0; i < damage.count; i++)
        this.#note(damage.x(i), damage.y(i), damage.x(i) + damage.width(i), damage.y(i) + damage.height(i));
    this.#notedMs = timeMs;
    const last = this.#changes.at(-1);
    if (isWhole || !last || timeMs - last.timeMs >= MIN_STEP_MS) this.#copy();
  }

  /** An animated PNG that plays in real time; null before the first frame. */
  encode(): Uint8Array | null {
    this.#copy();
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

  #note(x1: number, y1: number, x2: number, y2: number): void {
    const [left, top, right, bottom] = [
      Math.max(x1, 0),
      Math.max(y1, 0),
      Math.min(x2, this.#size.width),
      Math.min(y2, this.#size.height),
    ];
    if (left >= right || top >= bottom) return;
    const isFirst = this.#right === 0;
    this.#left = isFirst ? left : Math.min(this.#left, left);
    this.#top = isFirst ? top : Math.min(this.#top, top);
    this.#right = Math.max(this.#right, right);
    this.#bottom = isFirst ? bottom : Math.max(this.#bottom, bottom);
  }

  #copy(): void {
    if (this.#right === 0) return;
    const { width, height } = this.#size;
    const area = { x: this.#left, y: this.#top, width: this.#right - this.#left, height: this.#bottom - this.#top };
    const patch = this.#grab(area);
    if (!patch) return;
    this.#right = 0;
    const isWhole = patch.width === width && patch.height === height;
    this.#changes.push({ timeMs: this.#notedMs, x: area.x, y: area.y, patch, isWhole });
    this.#bytes += patch.data.length;
    this.#removeOld();
  }

  /** Applies changes that are too old, or exceed the memory limit, to the picture at the start. */
  #removeOld(): void {
    const newestMs = this.#changes.at(-1)!.timeMs;
    let [base] = this.#changes;
    let count = 0;
    for (
      let next = this.#changes[1];
      next && (newestMs - next.timeMs >= this.#lengthMs || this.#bytes > MAX_BYTES);
      next = this.#changes[count + 1]
    ) {
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

/** The picture in the top left corner of a black one of that size. */
function padded(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const whole = { width, height, data: new Uint8Array(width * height * 4) };
  for (let at = 3; at < whole.data.length; at += 4) whole.data[at] = 255;
  paste(whole, { timeMs: 0, x: 0, y: 0, patch: picture, isWhole: false });
  return whole;
}

/** When a frame came on screen, and how much of it was new. */
export interface FrameTime {
  /** CLOCK_MONOTONIC. */
  readonly timeMs: number;
  /** How many pixels the guest reported as changed; 0 if it turned the screen off or moved the cursor. */
  readonly damagedPixels: number;
}

const CAPACITY = 1024;

/** The newest frames of a screen, in preallocated memory. */
export class FrameTimes {
  readonly #times = new Float64Array(CAPACITY);
  readonly #damaged = new Uint32Array(CAPACITY);
  #count = 0;

  add(timeMs: number, damagedPixels: number): void {
    const at = this.#count++ % CAPACITY;
    this.#times[at] = timeMs;
    this.#damaged[at] = damagedPixels;
  }

  /** Oldest first. */
  toArray(): FrameTime[] {
    const length = Math.min(this.#count, CAPACITY);
    return Array.from({ length }, (_, index) => {
      const at = (this.#count - length + index) % CAPACITY;
      return { timeMs: this.#times[at]!, damagedPixels: this.#damaged[at]! };
    });
  }
}
