import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { comparePictures } from '../../../../display/picture/compare.ts';
import { decodePng } from '../../../../display/picture/png.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import {
  colourAt,
  draw,
  noise,
  noisePicture,
  noisePictures,
  plainPictures,
  recolour,
  type Colour,
} from './pictures.ts';

const BLACK: Colour = [0, 0, 0];
const console_ = decodePng(readFileSync(join(import.meta.dirname, '../../../../fixtures/console.png')));

function explain(expected: Picture, actual: Picture): string {
  return comparePictures(expected, actual).explanation;
}

/** Memory with a row of the picture every `held` pixels, read as rows of `read` pixels. */
function reread(picture: Picture, held: number, read: number): Picture {
  const { width, height } = picture;
  return draw(read, height, (x, y) => {
    const at = y * read + x;
    const [column, row] = [at % held, Math.floor(at / held)];
    return column < width && row < height ? colourAt(picture, column, row) : BLACK;
  });
}

function shifted(picture: Picture, dx: number, dy: number): Picture {
  const { width, height } = picture;
  return draw(width, height, (x, y) =>
    x >= dx && x < width + dx && y >= dy && y < height + dy ? colourAt(picture, x - dx, y - dy) : BLACK,
  );
}

const clamp = (value: number): number => Math.min(255, Math.max(0, value));

/** Changes of colours, and what the explanation says about them. */
const COLOUR_CHANGES: readonly [string, (colour: Colour) => Colour, string][] = [
  ['red and blue are swapped', ([r, g, b]) => [b, g, r], 'looks like red and blue are swapped'],
  ['red and green are swapped', ([r, g, b]) => [g, r, b], 'looks like red and green are swapped'],
  ['green and blue are swapped', ([r, g, b]) => [r, b, g], 'looks like green and blue are swapped'],
  [
    'channels are rotated one way',
    ([r, g, b]) => [b, r, g],
    'looks like red, green and blue are read as blue, red and green',
  ],
  [
    'channels are rotated the other way',
    ([r, g, b]) => [g, b, r],
    'looks like red, green and blue are read as green, blue and red',
  ],
  ['colours are inverted', ([r, g, b]) => [255 - r, 255 - g, 255 - b], 'looks inverted'],
  ['everything is black', () => BLACK, 'looks black everywhere'],
  [
    'everything is brighter',
    ([r, g, b]) => [clamp(r + 20), clamp(g + 20), clamp(b + 20)],
    'looks brighter by 20 levels of 255',
  ],
  ['everything is darker', ([r, g, b]) => [clamp(r - 1), clamp(g - 1), clamp(b - 1)], 'looks darker by 1 level of 255'],
  ['one channel is off', ([r, g, b]) => [r, clamp(g + 3), b], 'looks tinted: red 0, green +3, blue 0 levels of 255'],
  [
    'everything is dimmed',
    ([r, g, b]) => [Math.round(r / 2), Math.round(g / 2), Math.round(b / 2)],
    'looks dimmed to 50 %',
  ],
  ['colours are rounded', ([r, g, b]) => [r & 0xf8, g & 0xfc, b & 0xf8], 'by at most 7 levels of 255'],
];

describe('explanation of a change of colours', () => {
  test.each(COLOUR_CHANGES)('is found when %s', (_what, change, message) => {
    fc.assert(
      fc.property(noisePictures, (picture) => {
        expect(explain(picture, recolour(picture, change))).toContain(`: ${message}`);
      }),
      { numRuns: 40 },
    );
  });

  test.each(COLOUR_CHANGES.filter(([what]) => what !== 'everything is black'))(
    'is found, with the place, when %s in a part of the picture',
    (_what, change, message) => {
      const picture = noisePicture(40, 30, 5);
      const part = draw(40, 30, (x, y) =>
        x >= 4 && x < 24 && y >= 3 && y < 20 ? change(colourAt(picture, x, y)) : colourAt(picture, x, y),
      );

      expect(explain(picture, part)).toContain(`pixels differ, all within 20x17+4+3: ${message}`);
    },
  );
});

describe('explanation of an alpha error', () => {
  /** Colours as a screen shows them if alpha was multiplied in `times` times. */
  const blended = (
    width: number,
    height: number,
    seed: number,
    times: number,
    colour: (next: () => number) => Colour,
  ): Picture => {
    const next = noise(seed);
    return draw(width, height, () => {
      let shown = colour(next);
      const alpha = next() / 255;
      for (let n = 0; n < times; n++) shown = shown.map((value) => Math.round(value * alpha)) as unknown as Colour;
      return shown;
    });
  };
  const colourful = (next: () => number): Colour => [next(), next(), next()];
  const white = (): Colour => [255, 255, 255];

  test.each([
    ['was multiplied in twice', 1, 2, 'looks like alpha was multiplied in twice'],
    ['was not multiplied in', 1, 0, 'looks like alpha was not multiplied in'],
  ])('is found for colours when alpha %s', (_what, should, is, message) => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (seed) => {
        expect(explain(blended(40, 30, seed, should, colourful), blended(40, 30, seed, is, colourful))).toContain(
          message,
        );
      }),
      { numRuns: 40 },
    );
  });

  test('is found for white text when alpha was multiplied in twice', () => {
    expect(explain(blended(40, 30, 9, 1, white), blended(40, 30, 9, 2, white))).toContain(
      'looks like alpha was multiplied in twice',
    );
  });
});

test('explanation: gives the place and the colours of a single pixel', () => {
  fc.assert(
    fc.property(noisePictures, fc.nat(), fc.nat(), (picture, i, j) => {
      const [px, py] = [i % picture.width, j % picture.height];
      const [r, g, b] = colourAt(picture, px, py);
      const actual = draw(picture.width, picture.height, (x, y) =>
        x === px && y === py ? [r ^ 1, g, b] : colourAt(picture, x, y),
      );

      expect(explain(picture, actual)).toMatch(
        new RegExp(
          `^1 of ${picture.width * picture.height} pixels differs: ${px},${py} is (#[0-9a-f]{6}|black|white) instead of (#[0-9a-f]{6}|black|white)$`,
        ),
      );
    }),
    { numRuns: 40 },
  );
});

test.each([
  ['row', 'all in row 7: the first at 0,7 is', (_x: number, y: number) => y === 7],
  ['column', 'all in column 7: the first at 7,0 is', (x: number) => x === 7],
  [
    'part of a row',
    'all in row 9, columns 2 to 11: the first at 2,9 is',
    (x: number, y: number) => y === 9 && x >= 2 && x < 12,
  ],
  [
    'part of a column',
    'all in column 9, rows 2 to 11: the first at 9,2 is',
    (x: number, y: number) => x === 9 && y >= 2 && y < 12,
  ],
  [
    'rectangle',
    'all within 5x3+6+4: the first at 6,4 is',
    (x: number, y: number) => x >= 6 && x < 11 && y >= 4 && y < 7,
  ],
])('explanation: gives the place of a differing %s', (_what, message, isChanged) => {
  const [picture, other] = [noisePicture(40, 30, 3), noisePicture(40, 30, 4)];
  const actual = draw(40, 30, (x, y) => colourAt(isChanged(x, y) ? other : picture, x, y));

  expect(explain(picture, actual)).toContain(message);
});

describe('explanation of moved pixels', () => {
  test('gives the distance of a shift of noise', () => {
    fc.assert(
      fc.property(
        noisePictures,
        fc.integer({ min: -7, max: 7 }),
        fc.integer({ min: -7, max: 7 }),
        (picture, dx, dy) => {
          fc.pre(dx !== 0 || dy !== 0);
          expect(explain(picture, shifted(picture, dx, dy))).toContain(`: looks shifted by ${dx},${dy}`);
        },
      ),
    );
  });

  test.each([
    [3, -2],
    [0, -16],
    [-1, 0],
    [0, 1],
    [200, 100],
  ])('gives the distance of a console shifted by %i,%i', (dx, dy) => {
    expect(explain(console_, shifted(console_, dx, dy))).toContain(`: looks shifted by ${dx},${dy}`);
  });

  test('gives the strides of noise that was read with a wrong stride', () => {
    fc.assert(
      fc.property(noisePictures, fc.integer({ min: 1, max: 12 }), fc.boolean(), (picture, difference, isPadded) => {
        const { width } = picture;
        const actual = isPadded
          ? reread(picture, width + difference, width)
          : draw(width, picture.height, (x, y) => {
              const at = y * (width + difference) + x;
              return at < width * picture.height ? colourAt(picture, at % width, Math.floor(at / width)) : BLACK;
            });
        const message = isPadded
          ? `rows of ${width + difference} pixels were read as ${width}`
          : `rows of ${width} pixels were read as ${width + difference}`;

        expect(explain(picture, actual)).toContain(`: looks like ${message}: wrong stride`);
      }),
    );
  });

  test('gives the strides of a picture so narrow that half the pixels of a row share a piece', () => {
    const picture = noisePicture(22, 16, 1);

    expect(explain(picture, reread(picture, 34, 22))).toContain(
      ': looks like rows of 34 pixels were read as 22: wrong stride',
    );
  });

  test.each([1281, 1288, 1536, 2048])('gives the strides of a console in rows of %i', (held) => {
    expect(explain(console_, reread(console_, held, 1280))).toContain(
      `: looks like rows of ${held} pixels were read as 1280: wrong stride`,
    );
  });

  test.each([
    ['upside down', 'looks upside down', (x: number, y: number): [number, number] => [x, 29 - y]],
    ['mirrored', 'looks mirrored left to right', (x: number, y: number): [number, number] => [39 - x, y]],
    ['turned', 'looks turned by 180 degrees', (x: number, y: number): [number, number] => [39 - x, 29 - y]],
  ])('is found for a picture that is %s', (_what, message, origin) => {
    const picture = noisePicture(40, 30, 8);

    expect(
      explain(
        picture,
        draw(40, 30, (x, y) => colourAt(picture, ...origin(x, y))),
      ),
    ).toContain(message);
  });
});

test('explanation: does not take text that vanished from a black screen for a turned screen', () => {
  const text = (from: number, to: number) =>
    draw(200, 100, (x, y) => (y >= from && y < to && (x * 7 + y * 13) % 11 === 0 ? [170 + (x % 3), 170, 170] : BLACK));

  expect(explain(text(0, 20), text(0, 2))).not.toMatch(/turned|mirrored|upside|shifted/);
  expect(explain(text(0, 20), text(30, 31))).not.toMatch(/turned|mirrored|upside|shifted/);
});

test('explanation: names the cause although a clock advanced', () => {
  const picture = noisePicture(200, 100, 6);
  const isClock = (x: number, y: number): boolean => x >= 160 && y < 10;
  const actual = draw(200, 100, (x, y) => {
    const [r, g, b] = colourAt(picture, x, y);
    return isClock(x, y) ? [r ^ 3, g ^ 5, b] : [b, g, r];
  });

  expect(explain(picture, actual)).toContain('looks like red and blue are swapped');
});

test('explanation: ignores masked pixels', () => {
  const picture = noisePicture(200, 100, 6);
  const mask = { x: 20, y: 10, width: 150, height: 60 };
  const actual = draw(200, 100, (x, y) => {
    const isMasked = x >= 20 && x < 170 && y >= 10 && y < 70;
    return isMasked ? BLACK : x < 3 ? BLACK : colourAt(picture, x - 3, y);
  });

  expect(comparePictures(picture, actual, { masks: [mask] }).explanation).toContain('looks shifted by 3,0');
});

describe('explanation of different sizes', () => {
  const picture = noisePicture(40, 30, 7);
  const part = (x: number, y: number, width: number, height: number): Picture =>
    draw(width, height, (i, j) => colourAt(picture, x + i, y + j));

  test.each([
    [
      'additional rows',
      picture,
      part(0, 0, 40, 20),
      'the picture is 40x20 instead of 40x30; the top left 40x20 are the same',
    ],
    [
      'additional columns',
      part(0, 0, 33, 30),
      picture,
      'the picture is 40x30 instead of 33x30; the top left 33x30 are the same',
    ],
    [
      'a border',
      part(4, 3, 33, 20),
      picture,
      'the picture is 40x30 instead of 33x20; it contains the expected picture at 4,3',
    ],
    [
      'a part',
      picture,
      part(4, 3, 33, 20),
      'the picture is 33x20 instead of 40x30; it is the part of the expected picture at 4,3',
    ],
    [
      'rows of another length',
      picture,
      { width: 48, height: 25, data: picture.data },
      'the picture is 48x25 instead of 40x30; it has the same pixels in rows of 48: wrong width or stride',
    ],
    [
      'twice the size',
      picture,
      draw(80, 60, (x, y) => colourAt(picture, x >> 1, y >> 1)),
      'the picture is 80x60 instead of 40x30; it is the expected picture enlarged 2 times',
    ],
    [
      'half the size',
      draw(80, 60, (x, y) => colourAt(picture, x >> 1, y >> 1)),
      picture,
      'the picture is 40x30 instead of 80x60; it is the expected picture reduced 2 times',
    ],
    [
      'clockwise',
      picture,
      draw(30, 40, (x, y) => colourAt(picture, y, 29 - x)),
      'the picture is 30x40 instead of 40x30; it is the expected picture turned clockwise',
    ],
    [
      'counter-clockwise',
      picture,
      draw(30, 40, (x, y) => colourAt(picture, 39 - y, x)),
      'the picture is 30x40 instead of 40x30; it is the expected picture turned counter-clockwise',
    ],
    ['something else', picture, noisePicture(20, 20, 99), 'the picture is 20x20 instead of 40x30'],
  ])('describes %s', (_what, expected, actual, message) => {
    expect(explain(expected, actual)).toBe(message);
  });
});

test('explanation: is short for any pictures and empty for equal ones', () => {
  fc.assert(
    fc.property(plainPictures, plainPictures, (expected, actual) => {
      const sameSize = draw(expected.width, expected.height, (x, y) =>
        colourAt(actual, x % actual.width, y % actual.height),
      );

      expect(explain(expected, expected)).toBe('');
      expect(explain(expected, actual).length).toBeLessThan(160);
      expect(explain(expected, sameSize).length).toBeLessThan(160);
    }),
    { numRuns: 500 },
  );
});
