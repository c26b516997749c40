import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { comparePictures, diffPicture } from '../../display/picture/compare.ts';
import { encodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';

const outputDir = join(import.meta.dirname, '../output');

/** Decodes a binary ("P6") PPM with 8 bits per channel, as QEMU's `screendump` writes it. */
export function readPpm(bytes: Uint8Array): Picture {
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(Buffer.from(bytes.subarray(0, 64)).toString('latin1'));
  if (!head) throw new Error('not a P6 picture with 8 bits per channel');
  const [width, height] = [Number(head[1]), Number(head[2])];
  const rgb = bytes.subarray(head[0].length);
  const row = width * 3;
  // QEMU 10.0 pads the rows to a multiple of four bytes, against the format's specification.
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

/** The picture in the middle of a black screen of that size, which must be at least as large. */
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

/** The picture of pixels in a guest's memory, as bytes B, G, R, X without padding. */
export function pictureOfBgrx(width: number, height: number, bytes: Uint8Array): Picture {
  const data = new Uint8Array(width * height * 4);
  for (let at = 0; at < data.length; at += 4) data.set([bytes[at + 2]!, bytes[at + 1]!, bytes[at]!, 255], at);
  return { width, height, data };
}

/** The colour of one pixel as 0xrrggbb. */
export function pixel({ width, data }: Picture, x: number, y: number): number {
  const at = (y * width + x) * 4;
  return (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
}

/** Number of attempts, far more than a frame needs to arrive. */
const LOOKS = 200;

/**
 * Takes pictures until one is accepted: for the screen of another program, which does not report
 * when a frame has arrived. Throws after many attempts and writes the last picture to
 * `test/output/NAME-actual.png`.
 */
export async function pictureWhen(
  take: () => Promise<Picture>,
  accept: (picture: Picture) => boolean,
  name = 'awaited',
): Promise<Picture> {
  const { picture, isAccepted } = await look(take, accept);
  if (isAccepted) return picture;
  keep(name, 'actual', picture);
  throw new Error(`${name}: not found in ${LOOKS} pictures; see ${outputDir}/${name}-actual.png for the last one`);
}

/** As `pictureWhen`, until a picture equals `expected`; throws as `expectSamePicture` does. */
export async function expectPictureSoon(take: () => Promise<Picture>, expected: Picture, name: string): Promise<void> {
  const { picture } = await look(take, (taken) => isSamePicture(taken, expected));
  expectSamePicture(picture, expected, name);
}

async function look(
  take: () => Promise<Picture>,
  accept: (picture: Picture) => boolean,
): Promise<{ picture: Picture; isAccepted: boolean }> {
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

/** True if all pixels are the same. */
export function isSamePicture(a: Picture, b: Picture): boolean {
  return comparePictures(a, b).matches;
}

/**
 * Throws unless all pixels are the same. It then writes `test/output/NAME-{expected,actual,diff}.png`
 * (differing pixels in red); the message says how many pixels differ, where, and what kind of
 * difference it looks like.
 */
export function expectSamePicture(actual: Picture, expected: Picture, name: string): void {
  const { matches, explanation } = comparePictures(expected, actual);
  if (matches) return;

  keep(name, 'expected', expected);
  keep(name, 'actual', actual);
  keep(name, 'diff', diffPicture(expected, actual));
  throw new Error(`${name}: ${explanation}; see ${outputDir}/${name}-*.png`);
}
