import type { PlaneState } from '../../src/core/output.ts';
import type { HeadlessBuffer } from './buffer.ts';

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
export class Scene {
  width = 0;
  height = 0;
  readonly primary = new Layer();
  readonly cursor = new Layer();
}
