import { randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { decode, encode } from 'fast-png';
import { ScanoutError } from '../../src/core/errors.ts';
import type { Picture } from '../../src/core/picture.ts';

/** Bytes that are no PNG, or one of a kind we do not read. */
export class PngError extends ScanoutError<'format'> {}

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

/** The pixels of an 8-bit RGB or RGBA PNG; its alpha is dropped. Throws PngError for anything else. */
export function decodePng(bytes: Uint8Array): Picture {
  let png;
  try {
    png = decode(bytes, { checkCrc: true });
  } catch (cause) {
    throw new PngError('format', `not a PNG that can be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const { width, height, channels, depth, palette } = png;
  if (depth !== 8 || (channels !== 3 && channels !== 4) || palette) {
    const kind = palette ? 'with a palette' : `of ${channels} channels`;
    throw new PngError('format', `a PNG ${kind} and ${depth} bits: only RGB and RGBA of 8 bits are read`);
  }
  const data = new Uint8Array(width * height * 4);
  for (let from = 0, to = 0; to < data.length; from += channels, to += 4) {
    data[to] = png.data[from]!;
    data[to + 1] = png.data[from + 1]!;
    data[to + 2] = png.data[from + 2]!;
    data[to + 3] = 255;
  }
  return { width, height, data };
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
