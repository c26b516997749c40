import type { HeadlessOutput } from '../headless/output.ts';
import type { ShownFrame } from '../headless/scene.ts';
import type { Damage } from '../../src/core/damage.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';

/** Which changes of a screen count. */
export interface Attention {
  /** The hardware cursor is part of the picture. Default false. */
  readonly cursor?: boolean;
  /** Only what changes in this rectangle counts. Default: all of the screen. */
  readonly region?: Rect;
  /** What changes in these does not count. */
  readonly masks?: readonly Rect[];
}

/** x1, y1, x2, y2; the second pair is exclusive. */
type Edges = [x1: number, y1: number, x2: number, y2: number];

/**
 * A copy of what a screen shows, brought up to date frame by frame: only what a frame says it has changed is read and
 * compared, so a frame that draws the same pixels again changes nothing.
 */
export class ScreenCopy {
  readonly #output: HeadlessOutput;
  readonly #attention: Attention;
  readonly #cursor: boolean;
  #picture: Picture | null;
  readonly #changed: Edges = [0, 0, 0, 0];

  constructor(output: HeadlessOutput, attention: Attention = {}) {
    this.#output = output;
    this.#attention = attention;
    this.#cursor = attention.cursor ?? false;
    this.#picture = output.capture({ cursor: this.#cursor });
  }

  /** Null while nothing is shown. `update` writes to it. */
  get picture(): Picture | null {
    return this.#picture;
  }

  /** Around the pixels that the last `update` found changed and that count. */
  get changed(): Rect {
    const [x1, y1, x2, y2] = this.#changed;
    return { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  }

  /** Whether a pixel that counts has changed with this frame, the output's newest. Light and dark, and another size, count always. */
  update(frame: ShownFrame): boolean {
    const picture = this.#picture;
    const isOther = frame.isDark ? picture !== null : picture?.width !== frame.width || picture.height !== frame.height;
    if (isOther) {
      this.#picture = this.#output.capture({ cursor: this.#cursor });
      Object.assign(this.#changed, [0, 0, frame.width, frame.height]);
      return true;
    }
    if (!picture) return false;
    Object.assign(this.#changed, [Infinity, Infinity, 0, 0]);
    this.#updateAll(picture, frame.damage);
    if (this.#cursor) this.#updateAll(picture, frame.cursorDamage);
    return this.#changed[2] > 0;
  }

  #updateAll(picture: Picture, damage: Damage): void {
    for (let i = 0; i < damage.count; i++) {
      const region = overlap({ x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) }, { x: 0, y: 0, width: picture.width, height: picture.height });
      if (!region) continue;
      const now = this.#output.capture({ cursor: this.#cursor, region });
      if (now) this.#update(picture, now, region);
    }
  }

  #update(picture: Picture, now: Picture, region: Rect): void {
    // What is made equal before the comparison does not count.
    for (const mask of this.#attention.masks ?? []) this.#copy(picture, now, region, overlap(mask, region));
    const counted = this.#attention.region ? overlap(this.#attention.region, region) : region;
    if (counted) this.#compare(picture, now, region, counted);
    this.#copy(picture, now, region, region);
  }

  #compare(picture: Picture, now: Picture, region: Rect, counted: Rect): void {
    const before = pixels(picture);
    const after = pixels(now);
    const edges = this.#changed;
    for (let y = counted.y; y < counted.y + counted.height; y++) {
      const to = y * picture.width;
      const from = (y - region.y) * region.width - region.x;
      let left = counted.x;
      let right = counted.x + counted.width;
      while (left < right && before[to + left] === after[from + left]) left++;
      if (left === right) continue;
      while (before[to + right - 1] === after[from + right - 1]) right--;
      edges[0] = Math.min(edges[0], left);
      edges[1] = Math.min(edges[1], y);
      edges[2] = Math.max(edges[2], right);
      edges[3] = Math.max(edges[3], y + 1);
    }
  }

  /** `now` is what `region` shows. */
  #copy(picture: Picture, now: Picture, region: Rect, part: Rect | null): void {
    if (!part) return;
    for (let y = part.y; y < part.y + part.height; y++) {
      const from = ((y - region.y) * region.width + part.x - region.x) * 4;
      picture.data.set(now.data.subarray(from, from + part.width * 4), (y * picture.width + part.x) * 4);
    }
  }
}

/** The part of a picture that lies in `region`, as a picture of the caller's; null unless all of it does. */
export function cropPicture(picture: Picture, region: Rect): Picture | null {
  const { x, y, width, height } = region;
  if (x < 0 || y < 0 || x + width > picture.width || y + height > picture.height) return null;
  const data = new Uint8Array(width * height * 4);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * picture.width + x) * 4;
    data.set(picture.data.subarray(from, from + width * 4), row * width * 4);
  }
  return { width, height, data };
}

/** Null if they have no pixel in common. */
function overlap(a: Rect, b: Rect): Rect | null {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/** One number a pixel, of pictures that begin where an allocation does: those of `capture`. */
function pixels({ data }: Picture): Uint32Array {
  return new Uint32Array(data.buffer, data.byteOffset, data.length >>> 2);
}
