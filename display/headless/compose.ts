import type { Picture } from '../../src/core/picture.ts';
import type { HeadlessBuffer } from './buffer.ts';
import type { Layer, Scene } from './scene.ts';

/**
 * The scene as a picture of its canvas's size, black where nothing is. Planes are cut to the
 * canvas; one whose source and destination differ in size is scaled to the nearest pixel.
 * Throws SysError if a dma-buf cannot be read.
 */
export function compose(scene: Scene, withCursor: boolean): Picture {
  const picture = { width: scene.width, height: scene.height, data: new Uint8Array(scene.width * scene.height * 4) };
  for (let at = 3; at < picture.data.length; at += 4) picture.data[at] = 255;
  paint(picture, scene.primary);
  if (withCursor) paint(picture, scene.cursor);
  return picture;
}

function paint(picture: Picture, layer: Layer): void {
  const buffer = layer.buffer;
  if (!buffer) return;
  const left = Math.max(layer.dstX, 0);
  const right = Math.min(layer.dstX + layer.dstWidth, picture.width);
  const top = Math.max(layer.dstY, 0);
  const bottom = Math.min(layer.dstY + layer.dstHeight, picture.height);
  if (left >= right || top >= bottom) return;
  const columns = new Int32Array(right - left);
  for (let x = left; x < right; x++) columns[x - left] = source(x - layer.dstX, layer.dstWidth, layer.srcX, layer.srcWidth, buffer.width);
  buffer.read((memory) => {
    for (let y = top; y < bottom; y++) {
      const row = source(y - layer.dstY, layer.dstHeight, layer.srcY, layer.srcHeight, buffer.height);
      if (row >= 0) paintRow(picture.data, (y * picture.width + left) * 4, memory, buffer, row, columns);
    }
  });
}

/** The source pixel under the middle of destination pixel `at`; -1 outside the buffer. */
function source(at: number, dstLength: number, srcStart: number, srcLength: number, bufferLength: number): number {
  const from = srcStart + Math.floor(((at + 0.5) * srcLength) / dstLength);
  return from >= 0 && from < bufferLength ? from : -1;
}

/** Premultiplied OVER an opaque row. The bytes of [AX]RGB8888 in memory are B, G, R, A. */
function paintRow(data: Uint8Array, start: number, memory: Uint8Array, buffer: HeadlessBuffer, row: number, columns: Int32Array): void {
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
