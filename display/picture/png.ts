import { randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { decode, encode } from 'fast-png';
import type { Picture } from '../../src/core/picture.ts';
import { checkPng, PngError } from './png-chunks.ts';
import { shownPixels } from './png-pixels.ts';

export { PngError };

/** A PNG (8 bits, RGB, no metadata: equal pictures are equal files). Throws RangeError if the sizes disagree. */
export function encodePng(picture: Picture): Uint8Array {
  const { width, height, data } = picture;
  const pixels = width * height;
  if (data.length !== pixels * 4) throw new RangeError(`a ${width}x${height} picture has ${pixels * 4} bytes, not ${data.length}`);
  const rgb = new Uint8Array(pixels * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from]!;
    rgb[to + 1] = data[from + 1]!;
    rgb[to + 2] = data[from + 2]!;
  }
  return encode({ width, height, data: rgb, depth: 8, channels: 3 });
}

/**
 * The picture of a PNG of any kind but interlaced ones below 8 bits, as a screen shows it: 16 bits are
 * rounded to 8, and what is transparent is blended with black. Colour profiles are not applied. No more
 * memory is allocated than the pixels need, of which there may be 2^26. Throws PngError.
 */
export function decodePng(bytes: Uint8Array): Picture {
  const { header, essential } = checkPng(bytes);
  let png;
  try {
    png = decode(essential, { checkCrc: true });
  } catch (cause) {
    throw new PngError('format', `a PNG that cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return { width: header.width, height: header.height, data: shownPixels(header, png) };
}

/** Writes `picture` to `path` in one step: a reader sees the old file or the whole new one. */
export async function writePng(path: string, picture: Picture): Promise<void> {
  await replaceFile(path, encodePng(picture));
}

/** Puts `bytes` at `path` by renaming a finished neighbour, which is removed if anything fails. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, bytes, { flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
