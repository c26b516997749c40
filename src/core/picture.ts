import type { Size } from './geometry.ts';

/** A captured screen as plain pixels, shared with nothing. */
export interface Picture {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Bytes R, G, B, A of each pixel, rows from the top without padding; A is 255 everywhere. */
  readonly data: Uint8Array;
}

/** A picture that is read some rows at a time, so that it need not be in memory as a whole. It does not change meanwhile. */
export interface PictureReader extends Size {
  /** Reads the rows from `top` to before `bottom` into `pixels`, as bytes R, G, B, A, or R, G, B, X. */
  read(top: number, bottom: number, pixels: Uint8Array): void;
}

/** Throws RangeError if the bytes do not fit the size. */
export function readerOf({ width, height, data }: Picture): PictureReader {
  if (data.length !== width * height * 4)
    throw new RangeError(`a ${width}x${height} picture has ${width * height * 4} bytes, not ${data.length}`);
  return {
    width,
    height,
    read: (top, bottom, pixels) => pixels.set(data.subarray(top * width * 4, bottom * width * 4)),
  };
}
