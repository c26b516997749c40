import { Damage } from '../../src/core/damage.ts';
import type { Frame, PlaneState } from '../../src/core/output.ts';
import type { HeadlessBuffer } from './buffer.ts';

/** A frame that has come on screen. The output's own: valid while its listeners are called. */
export interface ShownFrame {
  /** CLOCK_MONOTONIC of the vertical blank it came with, and that blank's number. */
  readonly timeMs: number;
  readonly sequence: number;
  /** Nothing is shown: the guest has turned its screen off. */
  readonly isDark: boolean;
  /** Of the picture, in pixels. */
  readonly width: number;
  readonly height: number;
  /** What the guest says has changed of the picture since the frame before, without its cursor. */
  readonly damage: Damage;
  /** Where the cursor was and is, if it changed; may reach beyond the picture. */
  readonly cursorDamage: Damage;
}

/** A copy of one plane's state, in fields so that copying allocates nothing. */
export class Layer {
  buffer: HeadlessBuffer | null = null;
  srcX = 0;
  srcY = 0;
  srcWidth = 0;
  srcHeight = 0;
  dstX = 0;
  dstY = 0;
  dstWidth = 0;
  dstHeight = 0;

  set(plane: PlaneState, buffer: HeadlessBuffer | null): void {
    this.buffer = buffer;
    this.srcX = plane.src.x;
    this.srcY = plane.src.y;
    this.srcWidth = plane.src.width;
    this.srcHeight = plane.src.height;
    this.dstX = plane.dst.x;
    this.dstY = plane.dst.y;
    this.dstWidth = plane.dst.width;
    this.dstHeight = plane.dst.height;
  }
}

/** What one frame shows. */
export class Scene implements ShownFrame {
  timeMs = 0;
  sequence = 0;
  width = 0;
  height = 0;
  readonly primary = new Layer();
  readonly cursor = new Layer();
  readonly damage = new Damage();
  readonly cursorDamage = new Damage();

  get isDark(): boolean {
    return this.primary.buffer === null;
  }

  /** Takes over a frame that follows `before`; of its handles there are `primary` and `cursor`. */
  set(frame: Frame, primary: HeadlessBuffer | null, cursor: HeadlessBuffer | null, before: Scene): void {
    this.width = frame.canvas.width;
    this.height = frame.canvas.height;
    this.primary.set(frame.primary, primary);
    this.cursor.set(frame.cursor, cursor);
    this.damage.clear();
    this.damage.addAll(frame.damage, this.primary.dstX - this.primary.srcX, this.primary.dstY - this.primary.srcY);
    this.cursorDamage.clear();
    const old = before.cursor;
    if (!frame.isCursorNew && cursor === old.buffer && this.cursor.dstX === old.dstX && this.cursor.dstY === old.dstY) return;
    if (old.buffer) this.cursorDamage.add(old.dstX, old.dstY, old.dstWidth, old.dstHeight);
    if (cursor) this.cursorDamage.addRect(frame.cursor.dst);
  }
}
