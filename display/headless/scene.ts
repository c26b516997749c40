import { Damage } from '../../src/core/damage.ts';
import type { Frame, PlaneState } from '../../src/core/output.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';

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

/** 32-bit pixels to compose of. */
export interface LayerBuffer {
  readonly width: number;
  readonly height: number;
  /** Of the first pixel in the memory, and between rows, in bytes. */
  readonly offset: number;
  readonly stride: number;
  /** Alpha means nothing. */
  readonly isOpaque: boolean;
  readonly order: ByteOrder;
  /** Calls `look` with the memory, which it may read during the call. */
  read<T>(look: (memory: Uint8Array) => T): T;
}

/** Where each component of a pixel is, in bytes from its start. */
export interface ByteOrder {
  readonly red: number;
  readonly green: number;
  readonly blue: number;
  readonly alpha: number;
}

/** [AX]RGB8888 */
export const BGRA: ByteOrder = { red: 2, green: 1, blue: 0, alpha: 3 };

/** A copy of a plane's state, in plain fields so that copying does not allocate. */
export class Layer<B extends LayerBuffer = LayerBuffer> {
  buffer: B | null = null;
  srcX = 0;
  srcY = 0;
  srcWidth = 0;
  srcHeight = 0;
  dstX = 0;
  dstY = 0;
  dstWidth = 0;
  dstHeight = 0;

  set(plane: Pick<PlaneState, 'src' | 'dst'>, buffer: B | null): void {
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
export class Scene<B extends LayerBuffer = LayerBuffer> implements ShownFrame {
  timeMs = 0;
  sequence = 0;
  width = 0;
  height = 0;
  readonly primary = new Layer<B>();
  readonly cursor = new Layer<B>();
  readonly damage = new Damage();
  readonly cursorDamage = new Damage();
  /** The cursor's image is another one than that of the frame before. */
  isCursorNew = false;
  hotspotX = 0;
  hotspotY = 0;

  get isDark(): boolean {
    return this.primary.buffer === null;
  }

  /** Copies a frame that follows `before`, with `primary` and `cursor` as its buffers. */
  set(frame: Frame, primary: B | null, cursor: B | null, before: Scene<B>): void {
    this.width = frame.canvas.width;
    this.height = frame.canvas.height;
    this.primary.set(frame.primary, primary);
    this.cursor.set(frame.cursor, cursor);
    this.damage.clear();
    this.damage.addAll(frame.damage, this.primary.dstX - this.primary.srcX, this.primary.dstY - this.primary.srcY);
    this.cursorDamage.clear();
    const old = before.cursor;
    this.isCursorNew = frame.isCursorNew || cursor !== old.buffer;
    this.hotspotX = frame.hotspotX;
    this.hotspotY = frame.hotspotY;
    if (!frame.isCursorNew && cursor === old.buffer && this.cursor.dstX === old.dstX && this.cursor.dstY === old.dstY)
      return;
    if (old.buffer) this.cursorDamage.add(old.dstX, old.dstY, old.dstWidth, old.dstHeight);
    if (cursor) this.cursorDamage.addRect(frame.cursor.dst);
  }
}

const NO_LAYER = new Layer();

/** R, G, B, A in memory, as a little-endian word; signed, as pixels are read. */
const OPAQUE_BLACK = -0x1000000;

/** An XRGB pixel as an opaque word of a picture. The highest byte of the pixel means nothing. */
export function opaque(pixel: number): number {
  return OPAQUE_BLACK | swapped(pixel);
}

/** With red and blue exchanged, which makes XRGB of a word of a picture, and nothing in the highest byte. */
export function swapped(pixel: number): number {
  return (pixel & 0xff00) | (((pixel << 16) | (pixel >>> 16)) & 0xff_00_ff);
}

/**
 * A picture of `region` of the scene's canvas in `data`, by default new memory; black where nothing is. A plane whose source
 * and destination differ in size is scaled to the nearest pixel. Throws SysError if a dma-buf cannot be read.
 */
export function compose(
  scene: { readonly primary: Layer; readonly cursor: Layer },
  withCursor: boolean,
  region: Rect,
  data: Uint8Array = new Uint8Array(region.width * region.height * 4),
): Picture {
  const isCopied = scene.primary.buffer?.isOpaque === true && canBeReadInPlace(scene.primary, region);
  if (!isCopied) words(data).fill(OPAQUE_BLACK);
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
  if (buffer.isOpaque && buffer.order === BGRA && isAligned(buffer) && isUnscaled(layer)) {
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

/** The pixels of a picture. */
function words(data: Uint8Array): Uint32Array {
  return new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
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

function isAligned({ offset, stride }: LayerBuffer): boolean {
  return offset % 4 === 0 && stride % 4 === 0;
}

/** The common case: opaque, unscaled pixels, copied a word at a time. */
function copyRows(
  data: Uint8Array,
  region: Rect,
  layer: Layer,
  buffer: LayerBuffer,
  memory: Uint8Array,
  left: number,
  top: number,
  right: number,
  bottom: number,
): void {
  // Signed, because V8 allocates a number for each large unsigned one until it has compiled the loop.
  const to = new Int32Array(data.buffer, data.byteOffset, data.length / 4);
  const from = new Int32Array(memory.buffer, memory.byteOffset, memory.length >>> 2);
  for (let y = top; y < bottom; y++) {
    let at = (y - region.y) * region.width + left - region.x;
    let source = (buffer.offset + (y - layer.dstY + layer.srcY) * buffer.stride) / 4 + left - layer.dstX + layer.srcX;
    for (const end = at + right - left; at < end; at++) to[at] = opaque(from[source++]!);
  }
}

/** From so many pixels on, comparing a row natively costs less than its call. */
const WIDE = 128;

/** Rows that are looked at together: a change in one marks the columns between the first and last that differ in any. */
const BAND = 16;
/** Changes in bands that follow each other are one rectangle if at most this part of it has not changed. */
const MOST_WASTE = 1 / 4;

/** Rows of a target that may have been `by` rows further down before. */
export interface RowMove {
  readonly by: number;
  /** Where those that can have moved end. */
  readonly end: number;
  /** Takes what has not moved, in whole rows of the region. */
  readonly unmoved: Damage;
}

/**
 * Copies `region` of a scene's canvas to `target`, XRGB pixels in rows of `stride`, without the cursor, and adds to
 * `changed` where that differs from what was there. Black where nothing is; the highest byte of a pixel means nothing.
 * With a `move`, the rows below the region have to be those from before. Throws SysError if a dma-buf cannot be read.
 */
export function copyChanges(
  target: Uint32Array,
  stride: number,
  scene: { readonly primary: Layer },
  region: Rect,
  changed: Damage,
  move: RowMove | null = null,
): void {
  const { width } = region;
  if (canBeReadInPlace(scene.primary, region)) {
    readInPlace(scene.primary, region, (from, start, pitch) =>
      copyBands(target, stride, from, start, pitch, region, changed, move),
    );
    return;
  }
  const { data } = compose({ primary: scene.primary, cursor: NO_LAYER }, false, region);
  copyBands(target, stride, new Uint32Array(data.buffer).map(swapped), 0, width, region, changed, move);
}

/** How many rows above and below a row have to have moved with it. */
const NEIGHBOURS = 4;
/** Pixels of the rows that are compared until one is found that has changed, and again until its old place is. */
const MOST_COMPARED = 2 ** 20;

/**
 * By how many rows what `target` shows of `region` may have moved up; 0 if it has not, or if that cannot be told at once.
 * One row is looked for. Arguments and errors as of `copyChanges`, before it.
 */
export function rowsMovedUp(
  target: Uint32Array,
  stride: number,
  { primary }: { readonly primary: Layer },
  region: Rect,
): number {
  if (!canBeReadInPlace(primary, region)) return 0;
  const { x, y, width, height } = region;
  return readInPlace(primary, region, (from, start, pitch) => {
    const rows = new Rows(target, from);
    const isMoved = (row: number, by: number): boolean =>
      rows.areEqual((y + row + by) * stride + x, start + row * pitch, width);
    const most = Math.ceil(MOST_COMPARED / width);
    let sought = height >> 1;
    const end = Math.min(height - NEIGHBOURS, sought + most);
    // A row that says where it is from: one that has changed, and not of one colour.
    while (isMoved(sought, 0) || rows.isOfOneColour(start + sought * pitch, width)) if (++sought === end) return 0;
    for (let by = 1; by <= most && sought + by + NEIGHBOURS < height; by++) {
      let neighbour = -NEIGHBOURS;
      if (!isMoved(sought, by)) continue;
      while (neighbour <= NEIGHBOURS && isMoved(sought + neighbour, by)) neighbour++;
      if (neighbour > NEIGHBOURS) return by;
    }
    return 0;
  });
}

function canBeReadInPlace(layer: Layer, region: Rect): layer is Layer & { readonly buffer: LayerBuffer } {
  const { buffer } = layer;
  return buffer?.order === BGRA && isAligned(buffer) && isUnscaled(layer) && covers(layer, region);
}

/** `look` gets pixels, where the region begins in them, and how many there are from one row to the next. */
function readInPlace<T>(
  layer: Layer & { readonly buffer: LayerBuffer },
  { x, y }: Rect,
  look: (from: Uint32Array, start: number, pitch: number) => T,
): T {
  const { buffer } = layer;
  return buffer.read((memory) => {
    const from = new Uint32Array(memory.buffer, memory.byteOffset, memory.length >>> 2);
    const pitch = buffer.stride / 4;
    const start = buffer.offset / 4 + (y - layer.dstY + layer.srcY) * pitch + x - layer.dstX + layer.srcX;
    return look(from, start, pitch);
  });
}

/** Rows of two pictures, each by its first pixel, that are compared natively. */
class Rows {
  readonly #before: Buffer;
  readonly #after: Buffer;

  constructor(before: Uint32Array, after: Uint32Array) {
    this.#before = Buffer.from(before.buffer, before.byteOffset, before.byteLength);
    this.#after = Buffer.from(after.buffer, after.byteOffset, after.byteLength);
  }

  areEqual(before: number, after: number, width: number): boolean {
    return this.#after.compare(this.#before, before * 4, (before + width) * 4, after * 4, (after + width) * 4) === 0;
  }

  /** Whether each pixel of a row after is like its neighbour. */
  isOfOneColour(at: number, width: number): boolean {
    return this.#after.compare(this.#after, at * 4, (at + width - 1) * 4, (at + 1) * 4, (at + width) * 4) === 0;
  }
}

/** `start` and `pitch` are in pixels of `from`; the region is in those of `target`. */
function copyBands(
  target: Uint32Array,
  stride: number,
  from: Uint32Array,
  start: number,
  pitch: number,
  { x, y, width, height }: Rect,
  changed: Damage,
  move: RowMove | null,
): void {
  const rows = new Rows(target, from);
  const isGapless = !move && pitch === width && stride === width;
  // The rectangle of the bands before, which may grow; empty at first.
  let firstColumn = 0;
  let lastColumn = 0;
  let firstRow = 0;
  let lastRow = 0;
  for (let band = 0; band < height; band += BAND) {
    const bandEnd = Math.min(band + BAND, height);
    if (isGapless && rows.areEqual((y + band) * width, start + band * width, (bandEnd - band) * width)) continue;
    let left = width;
    let right = 0;
    let top = height;
    let bottom = 0;
    for (let row = band; row < bandEnd; row++) {
      const source = start + row * pitch;
      const at = (y + row) * stride + x;
      if (move && !(y + row + move.by < move.end && rows.areEqual(at + move.by * stride, source, width)))
        move.unmoved.add(x, y + row, width, 1);
      if (width >= WIDE && rows.areEqual(at, source, width)) continue;
      let first = 0;
      while (first < width && ((from[source + first]! ^ target[at + first]!) & 0xff_ff_ff) === 0) first++;
      if (first === width) {
        // Only the highest bytes differ: the next comparison shall be a native one.
        if (width >= WIDE) target.set(from.subarray(source, source + width), at);
        continue;
      }
      let end = width;
      while (((from[source + end - 1]! ^ target[at + end - 1]!) & 0xff_ff_ff) === 0) end--;
      target.set(from.subarray(source + first, source + end), at + first);
      left = Math.min(left, first);
      right = Math.max(right, end);
      top = Math.min(top, row);
      bottom = row + 1;
    }
    if (right === 0) continue;
    const joined = (Math.max(right, lastColumn) - Math.min(left, firstColumn)) * (bottom - firstRow);
    const apart = (right - left) * (bottom - top) + (lastColumn - firstColumn) * (lastRow - firstRow);
    if (lastRow > 0 && joined * (1 - MOST_WASTE) <= apart) {
      firstColumn = Math.min(left, firstColumn);
      lastColumn = Math.max(right, lastColumn);
    } else {
      changed.add(x + firstColumn, y + firstRow, lastColumn - firstColumn, lastRow - firstRow);
      firstColumn = left;
      lastColumn = right;
      firstRow = top;
    }
    lastRow = bottom;
  }
  changed.add(x + firstColumn, y + firstRow, lastColumn - firstColumn, lastRow - firstRow);
}

/** Copies the image of a cursor to `target`, premultiplied ARGB pixels in rows without gaps. SysError as `copyPixels`. */
export function copyImage(target: Uint32Array, { buffer, srcX, srcY, srcWidth, srcHeight }: Layer): void {
  if (!buffer) return;
  const { red, green, blue, alpha } = buffer.order;
  buffer.read((memory) => {
    for (let y = 0; y < srcHeight; y++)
      for (let x = 0; x < srcWidth; x++) {
        const from = buffer.offset + (srcY + y) * buffer.stride + (srcX + x) * 4;
        const opacity = buffer.isOpaque ? 255 : memory[from + alpha]!;
        target[y * srcWidth + x] =
          (opacity << 24) | (memory[from + red]! << 16) | (memory[from + green]! << 8) | memory[from + blue]!;
      }
  });
}

function covers({ dstX, dstY, dstWidth, dstHeight }: Layer, { x, y, width, height }: Rect): boolean {
  return dstX <= x && dstY <= y && dstX + dstWidth >= x + width && dstY + dstHeight >= y + height;
}

/** The source pixel under the middle of destination pixel `at`; -1 outside the buffer. */
function source(at: number, dstLength: number, srcStart: number, srcLength: number, bufferLength: number): number {
  const from = srcStart + Math.floor(((at + 0.5) * srcLength) / dstLength);
  return from >= 0 && from < bufferLength ? from : -1;
}

/** Premultiplied OVER an opaque row. */
function paintRow(
  data: Uint8Array,
  start: number,
  memory: Uint8Array,
  buffer: LayerBuffer,
  row: number,
  columns: Int32Array,
): void {
  const rowStart = buffer.offset + row * buffer.stride;
  const opaque = buffer.isOpaque;
  const { red, green, blue, alpha } = buffer.order;
  let to = start;
  for (const column of columns) {
    if (column >= 0) {
      const from = rowStart + column * 4;
      const through = opaque ? 0 : 255 - memory[from + alpha]!;
      data[to] = Math.min(255, memory[from + red]! + scale(data[to]!, through));
      data[to + 1] = Math.min(255, memory[from + green]! + scale(data[to + 1]!, through));
      data[to + 2] = Math.min(255, memory[from + blue]! + scale(data[to + 2]!, through));
    }
    to += 4;
  }
}

/** a * b / 255, rounded to nearest without dividing. */
function scale(a: number, b: number): number {
  const t = a * b + 128;
  return (t + (t >> 8)) >> 8;
}
