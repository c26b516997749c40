import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import type { KmsBuffer } from './buffer.ts';

/** Fills a buffer of ours, in a format of `composedFormat`, with one colour (0xRRGGBB). Returns it. */
export function fillPlain(buffer: KmsBuffer, colour: number): KmsBuffer {
  const [red, green, blue] = [colour >>> 16, (colour >>> 8) & 0xff, colour & 0xff];
  const { bytes } = buffer.pixels;
  switch (buffer.format) {
    case DRM_FORMAT.RGB565:
      new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 1).fill(((red >>> 3) << 11) | ((green >>> 2) << 5) | (blue >>> 3));
      break;
    case DRM_FORMAT.XBGR8888:
      new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2).fill(((blue << 16) | (green << 8) | red | 0xff000000) >>> 0);
      break;
    default:
      new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2).fill((colour | 0xff000000) >>> 0);
  }
  return buffer;
}
