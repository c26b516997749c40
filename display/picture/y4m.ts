/**
 * YUV4MPEG2 streams (y4m), which ffmpeg and other tools read from pipes. Pictures are 4:4:4 with 12 bits and the
 * matrix of BT.601 in limited range, which those tools assume where a stream does not say. A step of 8-bit RGB is more
 * than thirteen steps of 12-bit luma, so converting back gives every pixel as it was.
 */
import type { Picture } from '../../src/core/picture.ts';

const RED = 0.299;
const BLUE = 0.114;
const GREEN = 1 - RED - BLUE;
/** For 12 bits: what is black, its distance to white, and grey chroma and its range. */
const BLACK = 16 << 4;
const LUMA = 219 << 4;
const GREY = 128 << 4;
const CHROMA = 224 << 4;

/** The line in front of all frames. `fps` is a whole number. */
export function y4mHeader(width: number, height: number, fps: number): string {
  return `YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C444p12 XYSCSS=444P12 XCOLORRANGE=LIMITED\n`;
}

const FRAME = Buffer.from('FRAME\n');

/** The bytes of one frame, with its own header. */
export function y4mFrame({ width, height, data }: Picture): Uint8Array {
  const pixels = width * height;
  const bytes = new Uint8Array(FRAME.length + pixels * 6);
  bytes.set(FRAME);
  const samples = new Uint16Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    const red = data[i * 4]! / 255;
    const green = data[i * 4 + 1]! / 255;
    const blue = data[i * 4 + 2]! / 255;
    const luma = RED * red + GREEN * green + BLUE * blue;
    samples[i] = Math.round(BLACK + LUMA * luma);
    samples[pixels + i] = Math.round(GREY + (CHROMA * (blue - luma)) / (2 * (1 - BLUE)));
    samples[2 * pixels + i] = Math.round(GREY + (CHROMA * (red - luma)) / (2 * (1 - RED)));
  }
  bytes.set(new Uint8Array(samples.buffer), FRAME.length);
  return bytes;
}
