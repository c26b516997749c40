import { Damage } from '../../src/core/damage.ts';
import type { Frame, PlaneState } from '../../src/core/output.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { HeadlessBuffer } from './buffer.ts';

/** A frame that has come on screen. The output owns it; it is valid while its listeners are called. */
export interface ShownFrame {
  /** CLOCK_MONOTONIC of the vertical blank that brought it, and that blank's number. */
  readonly timeMs: number;
  readonly sequence: number;
  /** Nothing is shown, because the guest has turned its screen off. */
  readonly isDark: boolean;
  /** The picture's size in pixels. */
  readonly width: number;
  readonly height: number;
  /** What the guest says has changed since the previous frame, without the cursor. */
  readonly damage: Damage;
  /** The cursor's old and new place, if it changed; may reach beyond the picture. */
  readonly cursorDamage: Damage;
}

/** A copy of a plane's state, in plain fields so that copying does not allocate. */
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

/** The contents of one frame. */
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

  /** Copies a frame that follows `before`, with `primary` and `cursor` as its buffers. */
  set(frame: Frame, primary: HeadlessBuffer | null, cursor: HeadlessBuffer | null, before: Scene): void {
    this.width = frame.canvas.width;
    this.height = frame.canvas.height;
    this.primary.set(frame.primary, primary);
    this.cursor.set(frame.cursor, cursor);
    this.damage.clear();
    this.damage.addAll(frame.damage, this.primary.dstX - this.primary.srcX, this.primary.dstY - this.primary.srcY);
    this.cursorDamage.clear();
    const old = before.cursor;
    if (!frame.isCursorNew && cursor === old.buffer && this.cursor.dstX === old.dstX && this.cursor.dstY === old.dstY)
      return;
    if (old.buffer) this.cursorDamage.add(old.dstX, old.dstY, old.dstWidth, old.dstHeight);
    if (cursor) this.cursorDamage.addRect(frame.cursor.dst);
  }
}

/** R, G, B, A in memory, as a little-endian word. */
const OPAQUE_BLACK = 0xff000000;

/**
 * A new picture of `region` of the scene's canvas, black where nothing is. A plane whose source and
 * destination differ in size is scaled to the nearest pixel. Throws SysError if a dma-buf cannot be
 * read.
 */
export function compose(scene: Scene, withCursor: boolean, region: Rect): Picture {
  const data = new Uint8Array(region.width * region.height * 4);
  new Uint32Array(data.buffer).fill(OPAQUE_BLACK);
  paint(data, region, scene.primary);
  if (withCursor) paint(data, region, scene.cursor);
  return { width: region.width, height: region.height, data };
}

function paint(data: Uint8Array, region: Rect, layer: Layer): void {
  const buffer = layer.buffer;
  if (!buffer) return;
  const left = Math.max(layer.dstX, region.x);
  const right = Math.min(layer.dstX + layer.dstWidth, region.x + region.width);
  const top = Math.max(layer.dstY, region.y);
  const bottom = Math.min(layer.dstY + layer.dstHeight, region.y + region.height);
  if (left >= right || top >= bottom) return;
  if (buffer.isOpaque && isAligned(buffer) && isUnscaled(layer)) {
    buffer.read((memory) => copyRows(data, region, layer, buffer, memory, left, top, right, bottom));
    return;
  }
  const columns = new Int32Array(right - left);
  for (let x = left; x < right; x++)
    columns[x - left] = source(x - layer.dstX, layer.dstWidth, layer.srcX, layer.srcWidth, buffer.width);
  buffer.read((memory) => {
    for (let y = top; y < bottom; y++) {
      const row = source(y - layer.dstY, layer.dstHeight, layer.srcY, layer.srcHeight, buffer.height);
      if (row >= 0) paintRow(data, ((y - region.y) * region.width + left - region.x) * 4, memory, buffer, row, columns);
    }
  });
}

function isUnscaled({ srcX, srcY, srcWidth, srcHeight, dstWidth, dstHeight, buffer }: Layer): boolean {
  return (
    srcWidth === dstWidth &&
    srcHeight === dstHeight &&
    srcX >= 0 &&
    srcY >= 0 &&
    srcX + srcWidth <= buffer!.width &&
    srcY + srcHeight <= buffer!.height
  );
}

function isAligned({ offset, stride }: HeadlessBuffer): boolean {
  return offset % 4 === 0 && stride % 4 === 0;
}

/** The common case: opaque, unscaled pixels, copied a word at a time. */
function copyRows(
  data: Uint8Array,
  region: Rect,
  layer: Layer,
  buffer: HeadlessBuffer,
  memory: Uint8Array,
  left: number,
  top: number,
  right: number,
  bottom: number,
): void {
  const to = new Uint32Array(data.buffer);
  const from = new Uint32Array(memory.buffer, memory.byteOffset, memory.length >>> 2);
  for (let y = top; y < bottom; y++) {
    let at = (y - region.y) * region.width + left - region.x;
    let source = (buffer.offset + (y - layer.dstY + layer.srcY) * buffer.stride) / 4 + left - layer.dstX + layer.srcX;
    for (let x = left; x < right; x++) {
      const pixel = from[source++]!;
      to[at++] = OPAQUE_BLACK | (pixel & 0xff00) | ((pixel & 0xff) << 16) | ((pixel >>> 16) & 0xff);
    }
  }
}

/** The source pixel under the middle of destination pixel `at`; -1 outside the buffer. */
function source(at: number, dstLength: number, srcStart: number, srcLength: number, bufferLength: number): number {
  const from = srcStart + Math.floor(((at + 0.5) * srcLength) / dstLength);
  return from >= 0 && from < bufferLength ? from : -1;
}

/** Premultiplied OVER an opaque row. The bytes of [AX]RGB8888 in memory are B, G, R, A. */
function paintRow(
  data: Uint8Array,
  start: number,
  memory: Uint8Array,
  buffer: HeadlessBuffer,
  row: number,
  columns: Int32Array,
): void {
  const rowStart = buffer.offset + row * buffer.stride;
  const opaque = buffer.isOpaque;
  let to = start;
  for (const column of columns) {
    if (column >= 0) {
      const from = rowStart + column * 4;
      const through = opaque ? 0 : 255 - memory[from + 3]!;
      data[to] = Math.min(255, memory[from + 2]! + scale(data[to]!, through));
      data[to + 1] = Math.min(255, memory[from + 1]! + scale(data[to + 1]!, through));
      data[to + 2] = Math.min(255, memory[from]! + scale(data[to + 2]!, through));
    }
    to += 4;
  }
}

/** a * b / 255, rounded to nearest without dividing. */
function scale(a: number, b: number): number {
  const t = a * b + 128;
  return (t + (t >> 8)) >> 8;
}
