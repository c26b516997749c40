import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { comparePictures, diffPicture } from '../../display/picture/compare.ts';
import { encodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';

const outputDir = join(import.meta.dirname, '../output');

/** A binary ("P6") PPM with 8 bits a channel, as QEMU's `screendump` writes. */
export function readPpm(bytes: Uint8Array): Picture {
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(Buffer.from(bytes.subarray(0, 64)).toString('latin1'));
  if (!head) throw new Error('not a P6 picture with 8 bits a channel');
  const [width, height] = [Number(head[1]), Number(head[2])];
  const rgb = bytes.subarray(head[0].length);
  const row = width * 3;
  // QEMU (10.0) pads the rows of its PPMs to a multiple of four bytes, which the format does not know.
  const stride = rgb.length === row * height ? row : (row + 3) & ~3;
  if (rgb.length !== stride * height) throw new Error(`${rgb.length} bytes of pixels for ${width}x${height}`);

  const data = new Uint8Array(width * height * 4).fill(255);
  for (let y = 0, to = 0; y < height; y++) {
    for (let from = y * stride; from < y * stride + row; from += 3, to += 4) {
      data[to] = rgb[from]!;
      data[to + 1] = rgb[from + 1]!;
      data[to + 2] = rgb[from + 2]!;
    }
  }
  return { width, height, data };
}

/** In the middle of a black screen that is at least as large. */
export function centred(picture: Picture, width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 4);
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  const left = Math.floor((width - picture.width) / 2);
  const top = Math.floor((height - picture.height) / 2);
  for (let y = 0; y < picture.height; y++) {
    data.set(picture.data.subarray(y * picture.width * 4, (y + 1) * picture.width * 4), ((top + y) * width + left) * 4);
  }
  return { width, height, data };
}

/** The colour of one pixel as 0xrrggbb. */
export function pixel({ width, data }: Picture, x: number, y: number): number {
  const at = (y * width + x) * 4;
  return (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
}

/** Far more looks than a frame takes to arrive. */
const LOOKS = 200;

/**
 * Takes pictures until one is accepted: for a screen of somebody else's, who does not tell when a
 * frame has arrived there. None among many is an error; `test/output/NAME-actual.png` is the last.
 */
export async function pictureWhen(take: () => Promise<Picture>, accept: (picture: Picture) => boolean, name = 'awaited'): Promise<Picture> {
  const { picture, isAccepted } = await look(take, accept);
  if (isAccepted) return picture;
  keep(name, 'actual', picture);
  throw new Error(`${name}: not to be seen in ${LOOKS} pictures, the last of which is ${outputDir}/${name}-actual.png`);
}

/** As `pictureWhen`, for one picture; it throws what `expectSamePicture` does. */
export async function expectPictureSoon(take: () => Promise<Picture>, expected: Picture, name: string): Promise<void> {
  const { picture } = await look(take, (taken) => isSamePicture(taken, expected));
  expectSamePicture(picture, expected, name);
}

async function look(take: () => Promise<Picture>, accept: (picture: Picture) => boolean): Promise<{ picture: Picture; isAccepted: boolean }> {
  for (let looks = 1; ; looks++) {
    const picture = await take();
    const isAccepted = accept(picture);
    if (isAccepted || looks === LOOKS) return { picture, isAccepted };
  }
}

function keep(name: string, kind: string, picture: Picture): void {
  mkdirSync(outputDir, { recursive: true });
  writeFileSync(join(outputDir, `${name}-${kind}.png`), encodePng(picture));
}

/** Every pixel is the same. */
export function isSamePicture(a: Picture, b: Picture): boolean {
  return comparePictures(a, b).matches;
}

/**
 * Throws unless every pixel is the same. Then `test/output/NAME-{expected,actual,diff}.png` are
 * written (differing pixels red) and the message says how many differ, where, and what it looks like.
 */
export function expectSamePicture(actual: Picture, expected: Picture, name: string): void {
  const { matches, explanation } = comparePictures(expected, actual);
  if (matches) return;

  keep(name, 'expected', expected);
  keep(name, 'actual', actual);
  keep(name, 'diff', diffPicture(expected, actual));
  throw new Error(`${name}: ${explanation}; see ${outputDir}/${name}-*.png`);
}
