import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import pixelmatch from 'pixelmatch';
import { describe, expect, test } from 'vitest';
import { comparePictures, diffPicture, type CompareOptions } from '../../../../display/picture/compare.ts';
import { encodePng } from '../../../../display/picture/png.ts';
import { UsageError } from '../../../../src/core/errors.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { skipWithoutProgram } from '../../../rig/skip.ts';
import { colourAt, draw, noise, noisePicture, plainPictures, plainPicturesOf } from './pictures.ts';

/** Two pictures of one size that have some pixels in common. */
const pairs = pairsOf(plainPictures);

function pairsOf(pictures: fc.Arbitrary<Picture>): fc.Arbitrary<{ expected: Picture; actual: Picture }> {
  return fc.tuple(pictures, fc.integer({ min: 1 }), fc.integer({ min: 0, max: 255 })).map(([expected, seed, share]) => {
    const next = noise(seed);
    const actual = draw(expected.width, expected.height, (x, y) =>
      next() < share ? [next() & 0xc0, next(), 7] : colourAt(expected, x, y),
    );
    return { expected, actual };
  });
}

const rects = fc.record({
  x: fc.integer({ min: -5, max: 25 }),
  y: fc.integer({ min: -5, max: 25 }),
  width: fc.nat(20),
  height: fc.nat(20),
});

function contains({ x, y, width, height }: Rect, px: number, py: number): boolean {
  return px >= x && px < x + width && py >= y && py < y + height;
}

/** The reference: compares pixel by pixel. */
function count(expected: Picture, actual: Picture, { region, masks = [] }: CompareOptions) {
  const found = { different: 0, compared: 0, xs: [] as number[], ys: [] as number[] };
  for (let y = 0; y < expected.height; y++) {
    for (let x = 0; x < expected.width; x++) {
      if ((region && !contains(region, x, y)) || masks.some((mask) => contains(mask, x, y))) continue;
      found.compared++;
      if (String(colourAt(expected, x, y)) === String(colourAt(actual, x, y))) continue;
      found.different++;
      found.xs.push(x);
      found.ys.push(y);
    }
  }
  const [left, top] = [Math.min(...found.xs), Math.min(...found.ys)];
  const box =
    found.different === 0
      ? null
      : { x: left, y: top, width: Math.max(...found.xs) - left + 1, height: Math.max(...found.ys) - top + 1 };
  return { ...found, box };
}

const RED = '255,0,0';

function redPixels(picture: Picture): number {
  let red = 0;
  for (let y = 0; y < picture.height; y++)
    for (let x = 0; x < picture.width; x++) if (String(colourAt(picture, x, y)) === RED) red++;
  return red;
}

test('comparePictures: counts the differing pixels in the region outside the masks, and diffPicture paints them red', () => {
  fc.assert(
    fc.property(
      pairs,
      fc.option(rects, { nil: undefined }),
      fc.array(rects, { maxLength: 4 }),
      ({ expected, actual }, wanted, masks) => {
        const right = Math.min(expected.width, (wanted?.x ?? 0) + (wanted?.width ?? 0));
        const bottom = Math.min(expected.height, (wanted?.y ?? 0) + (wanted?.height ?? 0));
        const region = wanted && {
          x: Math.max(0, wanted.x),
          y: Math.max(0, wanted.y),
          width: right - Math.max(0, wanted.x),
          height: bottom - Math.max(0, wanted.y),
        };
        fc.pre(region === undefined || (region.width > 0 && region.height > 0));
        const options: CompareOptions = region ? { region, masks } : { masks };
        const { different, compared, box } = count(expected, actual, options);
        fc.pre(compared > 0);

        const comparison = comparePictures(expected, actual, options);

        expect(comparison).toMatchObject({
          matches: different === 0,
          differentPixels: different,
          comparedPixels: compared,
          box,
        });
        expect(redPixels(diffPicture(expected, actual, options))).toBe(different);
      },
    ),
    { numRuns: 400 },
  );
});

test('comparePictures: with a threshold or without anti-aliasing counts what pixelmatch does on the whole pictures', () => {
  fc.assert(
    fc.property(
      pairsOf(plainPicturesOf(200)),
      fc.constantFrom(0, 0.05, 0.1, 0.3),
      fc.boolean(),
      ({ expected, actual }, threshold, ignoreAntialiasing) => {
        const output = new Uint8Array(expected.data.length);
        const { width, height } = expected;
        const different = pixelmatch(expected.data, actual.data, output, width, height, {
          threshold,
          includeAA: !ignoreAntialiasing,
          diffMask: true,
        });

        const comparison = comparePictures(expected, actual, { threshold, ignoreAntialiasing });

        expect(comparison.differentPixels).toBe(different);
        const red = diffPicture(expected, actual, { threshold, ignoreAntialiasing });
        expect(redPixels(red)).toBe(redPixels({ width, height, data: output }));
      },
    ),
    { numRuns: 400 },
  );
});

test('comparePictures: ignores masked pixels with a threshold', () => {
  const picture = noisePicture(40, 30, 1);
  const actual = draw(40, 30, (x, y) =>
    contains({ x: 5, y: 6, width: 10, height: 4 }, x, y) || (x === 30 && y === 8) ? [0, 0, 0] : colourAt(picture, x, y),
  );

  const comparison = comparePictures(picture, actual, {
    threshold: 0.1,
    masks: [{ x: 5, y: 6, width: 10, height: 4 }],
  });

  expect(comparison).toMatchObject({
    differentPixels: 1,
    comparedPixels: 1160,
    box: { x: 30, y: 8, width: 1, height: 1 },
  });
});

describe('comparePictures', () => {
  const picture = noisePicture(20, 10, 1);
  const actual = draw(20, 10, (x, y) => (y === 3 && x < 4 ? [0, 0, 0] : colourAt(picture, x, y)));

  test.each([
    [4, true],
    [3, false],
    [0.02, true],
    [0.0199, false],
  ])('allowing %f of 200 pixels, with 4 that differ, matches: %s', (allowed, matches) => {
    const comparison = comparePictures(picture, actual, { allowed });

    expect(comparison).toMatchObject({
      matches,
      differentPixels: 4,
      explanation: '4 of 200 pixels differ, all in row 3, columns 0 to 3: became black',
    });
  });
});

test('comparePictures: includes the explanation in copies and JSON', () => {
  const comparison = comparePictures(noisePicture(4, 4, 1), noisePicture(5, 4, 2));

  expect({ ...comparison }.explanation).toBe('the picture is 5x4 instead of 4x4');
  expect(JSON.parse(JSON.stringify(comparison))).toEqual({
    matches: false,
    differentPixels: 0,
    comparedPixels: 0,
    box: null,
    explanation: 'the picture is 5x4 instead of 4x4',
  });
});

test('comparePictures: accepts pixels at an unaligned address', () => {
  const picture = noisePicture(9, 7, 3);
  const moved = new Uint8Array(picture.data.length + 1);
  moved.set(picture.data, 1);
  const actual = { ...picture, data: moved.subarray(1) };
  actual.data[40]! ^= 255;

  expect(comparePictures(picture, actual).differentPixels).toBe(1);
  expect(comparePictures(actual, picture, { ignoreAntialiasing: true }).box).toEqual({
    x: 1,
    y: 1,
    width: 1,
    height: 1,
  });
  expect(redPixels(diffPicture(picture, actual))).toBe(1);
});

test('diffPicture: for two sizes is large enough for both and red where only one has pixels', () => {
  const picture = noisePicture(12, 10, 3);
  const actual = draw(10, 11, (x, y) => (y < 10 ? colourAt(picture, x, y) : [1, 2, 3]));

  const diff = diffPicture(picture, actual);

  expect(diff).toMatchObject({ width: 12, height: 11 });
  expect(redPixels(diff)).toBe(12 * 11 - 10 * 10);
});

test.each<[string, CompareOptions]>([
  ['threshold -0.1', { threshold: -0.1 }],
  ['threshold NaN', { threshold: NaN }],
  ['allowed -1', { allowed: -1 }],
  ['region 10x10+15+0 reaches beyond the 20x10 picture', { region: { x: 15, y: 0, width: 10, height: 10 } }],
  ['region 10x10-1+0 reaches beyond', { region: { x: -1, y: 0, width: 10, height: 10 } }],
  ['nothing is left to compare of 0x5+0+0', { region: { x: 0, y: 0, width: 0, height: 5 } }],
  [
    'nothing is left to compare of 20x10+0+0',
    {
      masks: [
        { x: -5, y: 0, width: 15, height: 99 },
        { x: 8, y: 0, width: 99, height: 99 },
      ],
    },
  ],
  ['0.5x5+0+0 is not a rectangle of whole pixels', { masks: [{ x: 0, y: 0, width: 0.5, height: 5 }] }],
])('comparePictures: refuses options with "%s"', (message, options) => {
  const picture = noisePicture(20, 10, 1);

  expect(() => comparePictures(picture, picture, options)).toThrow(UsageError);
  expect(() => comparePictures(picture, picture, options)).toThrow(message);
});

test('comparePictures: refuses a picture whose bytes do not fit its size', () => {
  const picture = noisePicture(20, 10, 1);

  expect(() => comparePictures({ ...picture, width: 19 }, picture)).toThrow(RangeError);
  expect(() => comparePictures(picture, { width: 0, height: 10, data: new Uint8Array() })).toThrow(RangeError);
});

// Debian's package imagemagick, which test/rig/install.sh installs.
test.skipIf(skipWithoutProgram('compare'))(
  "comparePictures: counts the same pixels as ImageMagick's compare -metric AE",
  () => {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-compare-'));
    try {
      const [a, b] = [join(directory, 'a.png'), join(directory, 'b.png')];
      fc.assert(
        fc.property(pairs, ({ expected, actual }) => {
          writeFileSync(a, encodePng(expected));
          writeFileSync(b, encodePng(actual));
          const { stderr, error } = spawnSync('compare', ['-metric', 'AE', a, b, 'null:'], { encoding: 'utf8' });
          if (error) throw error;

          expect(comparePictures(expected, actual).differentPixels).toBe(Number(stderr));
        }),
        { numRuns: 12 },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);
