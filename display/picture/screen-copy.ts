import { Damage } from '../../src/core/damage.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { opaque, swapped } from '../headless/scene.ts';
import { intersection, wordsOf } from './difference.ts';

/** A frame that has come on screen, valid while a listener is called with it. */
export interface ScreenFrame extends Size {
  /** CLOCK_MONOTONIC. */
  readonly timeMs: number;
  /** Nothing is shown. */
  readonly isDark: boolean;
  /** What may have changed since the frame before, without the cursor, in pixels of the screen. */
  readonly damage: Damage;
  /** Where the cursor was and is, if it changed. */
  readonly cursorDamage: Damage;
}

/** A screen that can be watched frame by frame; a `HeadlessOutput` is one. */
export interface WatchedScreen {
  readonly name: string;
  /** A copy of what is on screen, or of a region that lies within it; null while nothing is shown. */
  capture(options: { readonly cursor?: boolean; readonly region?: Rect }): Picture | null;
  /**
   * Copies `region`, which lies within the screen, without the cursor to `target`, XRGB pixels in rows of `stride` pixels,
   * and adds to `changed` where that differs from what was there. The highest byte of a pixel means nothing.
   */
  copyChanges(target: Uint32Array, stride: number, region: Rect, changed: Damage): void;
  /** Calls `listener` after each frame has come on screen until the returned function is called. */
  onFrame(listener: (frame: ScreenFrame) => void): () => void;
  /** Resolves when everything that was presented is on screen. */
  settled(): Promise<void>;
}

/** Which changes of a screen count. */
export interface Attention {
  /** Include the hardware cursor. Default false. */
  readonly cursor?: boolean;
  /** Count only changes in this rectangle. Default: the whole screen. */
  readonly region?: Rect;
  /** Do not count changes in these. */
  readonly masks?: readonly Rect[];
}

/** x1, y1, x2, y2; x2 and y2 are exclusive. */
type Edges = [x1: number, y1: number, x2: number, y2: number];

/**
 * A copy of a screen, updated frame by frame. Only the damage of a frame is read, and it is compared with the copy, so
 * a frame that draws the same pixels again changes nothing.
 *
 * Without the cursor the pixels are followed as they lie in the screen's memory, and become a picture when that is asked for.
 */
export class ScreenCopy {
  readonly #screen: WatchedScreen;
  readonly #attention: Attention;
  readonly #cursor: boolean;
  #picture: Picture | null;
  /** The screen as XRGB pixels, once a frame has come; `#late` of it is not in `#picture` yet. */
  #pixels: Uint32Array | null = null;
  readonly #late: Edges = [Infinity, Infinity, 0, 0];
  readonly #changed: Edges = [0, 0, 0, 0];
  readonly #counted = new Damage();
  readonly #uncounted = new Damage();

  constructor(screen: WatchedScreen, attention: Attention = {}) {
    this.#screen = screen;
    this.#attention = attention;
    this.#cursor = attention.cursor ?? false;
    this.#picture = screen.capture({ cursor: this.#cursor });
  }

  /** Nothing is shown. */
  get isDark(): boolean {
    return this.#picture === null;
  }

  /** Null while nothing is shown. Asking for it after `update` writes into it. */
  get picture(): Picture | null {
    this.#convert();
    return this.#picture;
  }

  /** The rectangle around the changed pixels that the last `update` counted. */
  get changed(): Rect {
    const [x1, y1, x2, y2] = this.#changed;
    return { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  }

  /** Updates the copy with the newest frame; true if a pixel that counts has changed. Turning on or off and a new size always count. */
  update(frame: ScreenFrame): boolean {
    const picture = this.#picture;
    const isNew = frame.isDark ? picture !== null : picture?.width !== frame.width || picture.height !== frame.height;
    if (isNew) {
      this.#pixels = null;
      Object.assign(this.#late, [Infinity, Infinity, 0, 0]);
      this.#picture = this.#screen.capture({ cursor: this.#cursor });
      Object.assign(this.#changed, [0, 0, frame.width, frame.height]);
      return true;
    }
    if (!picture) return false;
    Object.assign(this.#changed, [Infinity, Infinity, 0, 0]);
    if (this.#cursor) {
      this.#captureAll(picture, frame.damage);
      this.#captureAll(picture, frame.cursorDamage);
    } else {
      this.#pixels ??= xrgbOf(picture);
      this.#follow(this.#pixels, picture, frame.damage);
    }
    return this.#changed[2] > 0;
  }

  #follow(pixels: Uint32Array, picture: Picture, damage: Damage): void {
    const { region: wanted, masks = [] } = this.#attention;
    const copy = (area: Rect, changed: Damage): void => {
      if (area.width > 0 && area.height > 0) this.#screen.copyChanges(pixels, picture.width, area, changed);
    };
    this.#counted.clear();
    this.#uncounted.clear();
    for (let i = 0; i < damage.count; i++) {
      const region = within(picture, damage, i);
      // What was copied before is equal afterwards, so it does not count.
      for (const mask of masks) copy(intersection(mask, region), this.#uncounted);
      copy(wanted ? intersection(wanted, region) : region, this.#counted);
      if (wanted) copy(region, this.#uncounted);
    }
    widen(this.#changed, this.#counted);
    widen(this.#late, this.#counted);
    widen(this.#late, this.#uncounted);
  }

  #convert(): void {
    const [left, top, right, bottom] = this.#late;
    if (right === 0 || !this.#picture) return;
    const { width } = this.#picture;
    const to = wordsOf(this.#picture);
    const from = this.#pixels!;
    for (let y = top; y < bottom; y++)
      for (let at = y * width + left; at < y * width + right; at++) to[at] = opaque(from[at]!);
    Object.assign(this.#late, [Infinity, Infinity, 0, 0]);
  }

  #captureAll(picture: Picture, damage: Damage): void {
    for (let i = 0; i < damage.count; i++) {
      const region = within(picture, damage, i);
      if (region.width === 0 || region.height === 0) continue;
      const now = this.#screen.capture({ cursor: this.#cursor, region });
      if (now) this.#update(picture, now, region);
    }
  }

  #update(picture: Picture, now: Picture, region: Rect): void {
    // Pixels that are copied before the comparison are equal in it, so they do not count.
    for (const mask of this.#attention.masks ?? []) this.#copy(picture, now, region, intersection(mask, region));
    this.#compare(picture, now, region, this.#attention.region ? intersection(this.#attention.region, region) : region);
    this.#copy(picture, now, region, region);
  }

  #compare(picture: Picture, now: Picture, region: Rect, counted: Rect): void {
    const before = wordsOf(picture);
    const after = wordsOf(now);
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

  /** Copies `part` of `now`, which is the picture of `region`. */
  #copy(picture: Picture, now: Picture, region: Rect, part: Rect): void {
    for (let y = part.y; y < part.y + part.height; y++) {
      const from = ((y - region.y) * region.width + part.x - region.x) * 4;
      picture.data.set(now.data.subarray(from, from + part.width * 4), (y * picture.width + part.x) * 4);
    }
  }
}

function xrgbOf(picture: Picture): Uint32Array {
  const pixels = new Uint32Array(wordsOf(picture));
  for (let at = 0; at < pixels.length; at++) pixels[at] = swapped(pixels[at]!);
  return pixels;
}

/** The part of rectangle `i` that is on the screen. */
function within({ width, height }: Size, damage: Damage, i: number): Rect {
  const rect = { x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) };
  return intersection(rect, { x: 0, y: 0, width, height });
}

function widen(edges: Edges, damage: Damage): void {
  for (let i = 0; i < damage.count; i++) {
    edges[0] = Math.min(edges[0], damage.x(i));
    edges[1] = Math.min(edges[1], damage.y(i));
    edges[2] = Math.max(edges[2], damage.x(i) + damage.width(i));
    edges[3] = Math.max(edges[3], damage.y(i) + damage.height(i));
  }
}
