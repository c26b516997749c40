import type { Damage } from '../../src/core/damage.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
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
  /** What is on screen, as a picture of the caller's; null while nothing is. `region` lies within the screen. */
  capture(options: { readonly cursor?: boolean; readonly region?: Rect }): Picture | null;
  /** Calls `listener` after each frame has come on screen, until the function returned is called. */
  onFrame(listener: (frame: ScreenFrame) => void): () => void;
  /** Resolves when what was presented is on screen and nothing followed it. */
  settled(): Promise<void>;
}

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
  readonly #screen: WatchedScreen;
  readonly #attention: Attention;
  readonly #cursor: boolean;
  #picture: Picture | null;
  readonly #changed: Edges = [0, 0, 0, 0];

  constructor(screen: WatchedScreen, attention: Attention = {}) {
    this.#screen = screen;
    this.#attention = attention;
    this.#cursor = attention.cursor ?? false;
    this.#picture = screen.capture({ cursor: this.#cursor });
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
  update(frame: ScreenFrame): boolean {
    const picture = this.#picture;
    const isOther = frame.isDark ? picture !== null : picture?.width !== frame.width || picture.height !== frame.height;
    if (isOther) {
      this.#picture = this.#screen.capture({ cursor: this.#cursor });
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
      const changed = { x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) };
      const region = intersection(changed, { x: 0, y: 0, width: picture.width, height: picture.height });
      if (region.width === 0 || region.height === 0) continue;
      const now = this.#screen.capture({ cursor: this.#cursor, region });
      if (now) this.#update(picture, now, region);
    }
  }

  #update(picture: Picture, now: Picture, region: Rect): void {
    // What is made equal before the comparison does not count.
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

  /** `now` is what `region` shows. */
  #copy(picture: Picture, now: Picture, region: Rect, part: Rect): void {
    for (let y = part.y; y < part.y + part.height; y++) {
      const from = ((y - region.y) * region.width + part.x - region.x) * 4;
      picture.data.set(now.data.subarray(from, from + part.width * 4), (y * picture.width + part.x) * 4);
    }
  }
}
