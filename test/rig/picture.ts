import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode, encode } from 'fast-png';

/** Pixels as 3 bytes each, red first, rows without padding. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

const outputDir = join(import.meta.dirname, '../output');

/** A binary ("P6") PPM with 8 bits a channel, as QEMU's `screendump` writes. */
export function readPpm(bytes: Uint8Array): Picture {
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(Buffer.from(bytes.subarray(0, 64)).toString('latin1'));
  if (!head) throw new Error('not a P6 picture with 8 bits a channel');
  const [width, height] = [Number(head[1]), Number(head[2])];
  const pixels = bytes.subarray(head[0].length);
  const row = width * 3;
  // QEMU (10.0) pads the rows of its PPMs to a multiple of four bytes, which the format does not know.
  const stride = pixels.length === row * height ? row : (row + 3) & ~3;
  if (pixels.length !== stride * height) throw new Error(`${pixels.length} bytes of pixels for ${width}x${height}`);
  const rgb = new Uint8Array(row * height);
  for (let y = 0; y < height; y++) rgb.set(pixels.subarray(y * stride, y * stride + row), y * row);
  return { width, height, rgb };
}

/** A PNG of 8 bits a channel, grey or colour; alpha is dropped. */
export function readPng(bytes: Uint8Array): Picture {
  const { width, height, data, channels } = decode(bytes);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgb[i * 3 + c] = data[i * channels + (channels < 3 ? 0 : c)]!;
  }
  return { width, height, rgb };
}

/** The colour of one pixel as 0xrrggbb. */
export function pixel({ width, rgb }: Picture, x: number, y: number): number {
  const at = (y * width + x) * 3;
  return (rgb[at]! << 16) | (rgb[at + 1]! << 8) | rgb[at + 2]!;
}

/**
 * Takes pictures until one is accepted: for what arrives on a screen when the guest's last work
 * on it is not to be waited for. A picture that cannot be had yet counts as not accepted; the
 * caller's test ends the wait when none ever comes.
 */
export async function pictureWhen(take: () => Promise<Picture>, accept: (picture: Picture) => boolean): Promise<Picture> {
  for (;;) {
    const picture = await take().catch(() => undefined);
    if (picture && accept(picture)) return picture;
  }
}

/**
 * Throws unless every pixel is the same. Then `test/output/NAME-{expected,actual,diff}.png` are
 * written (differing pixels white) and the message says how many differ and where.
 */
export function expectSamePicture(actual: Picture, expected: Picture, name: string): void {
  const { width, height } = expected;
  const sameSize = actual.width === width && actual.height === height;
  if (sameSize && Buffer.compare(actual.rgb, expected.rgb) === 0) return;

  write(`${name}-expected`, expected);
  write(`${name}-actual`, actual);
  if (!sameSize) throw new Error(`${name}: ${actual.width}x${actual.height} instead of ${width}x${height}; see ${outputDir}/${name}-*.png`);

  const diff = { width, height, rgb: new Uint8Array(width * height * 3) };
  let count = 0;
  let first = '';
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [a, e] = [pixel(actual, x, y), pixel(expected, x, y)];
      if (a === e) continue;
      first ||= `the first at ${x},${y}: ${hex(a)} instead of ${hex(e)}`;
      count++;
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
      diff.rgb.fill(255, (y * width + x) * 3, (y * width + x + 1) * 3);
    }
  }
  write(`${name}-diff`, diff);
  throw new Error(`${name}: ${count} of ${width * height} pixels differ, ${first}, all within ${right - left + 1}x${bottom - top + 1}+${left}+${top}; see ${outputDir}/${name}-*.png`);
}

const hex = (colour: number) => `#${colour.toString(16).padStart(6, '0')}`;

function write(name: string, { width, height, rgb }: Picture): void {
  mkdirSync(outputDir, { recursive: true });
  writeFileSync(join(outputDir, `${name}.png`), encode({ width, height, data: rgb, channels: 3 }));
}
