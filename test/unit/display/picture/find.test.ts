import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Pattern, SearchedPicture } from '../../../../display/picture/find.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { type Colour, colourAt, draw, noisePicture, plainPictures, recolour } from './pictures.ts';

const everywhere = ({ width, height }: Picture): Rect => ({ x: 0, y: 0, width, height });
const whole = everywhere;

function paste(screen: Picture, x: number, y: number, part: Picture): Picture {
  return draw(screen.width, screen.height, (column, row) =>
    column >= x && row >= y && column < x + part.width && row < y + part.height
      ? colourAt(part, column - x, row - y)
      : colourAt(screen, column, row),
  );
}

const isEqual = (a: Colour, b: Colour): boolean => a.every((channel, i) => channel === b[i]);

/** All places at which every pixel that counts is equal, by the definition. */
function places(screen: Picture, part: Picture, excluded: readonly Rect[] = []): { x: number; y: number }[] {
  const counts = (x: number, y: number): boolean =>
    !excluded.some((rect) => x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height);
  const found: { x: number; y: number }[] = [];
  for (let y = 0; y + part.height <= screen.height; y++) {
    for (let x = 0; x + part.width <= screen.width; x++) {
      let isThere = true;
      for (let row = 0; row < part.height && isThere; row++) {
        for (let column = 0; column < part.width && isThere; column++)
          isThere = !counts(column, row) || isEqual(colourAt(screen, x + column, y + row), colourAt(part, column, row));
      }
      if (isThere) found.push({ x, y });
    }
  }
  return found;
}

describe('Pattern', () => {
  const rects = fc.record({
    x: fc.nat({ max: 6 }),
    y: fc.nat({ max: 6 }),
    width: fc.nat({ max: 5 }),
    height: fc.nat({ max: 5 }),
  });
  /** A screen, a part of it or something else, and what of that does not count. */
  const cases = fc
    .tuple(
      plainPictures,
      plainPictures,
      fc.nat(),
      fc.nat(),
      fc.nat(),
      fc.nat(),
      fc.boolean(),
      fc.array(rects, { maxLength: 3 }),
    )
    .map(([screen, other, a, b, c, d, isPart, excluded]) => {
      const from = isPart ? screen : other;
      const x = a % from.width;
      const y = b % from.height;
      const area = {
        x,
        y,
        width: 1 + (c % Math.min(8, from.width - x)),
        height: 1 + (d % Math.min(8, from.height - y)),
      };
      return { screen, from, area, excluded };
    });

  test('finds the first place with equal pixels, and none where there is none', () => {
    fc.assert(
      fc.property(cases, ({ screen, from, area, excluded }) => {
        const pattern = new Pattern(
          from,
          area,
          excluded.map((rect) => ({ ...rect, x: rect.x + area.x, y: rect.y + area.y })),
        );
        fc.pre(!pattern.isEmpty);
        const part = draw(area.width, area.height, (x, y) => colourAt(from, area.x + x, area.y + y));
        const [first] = places(screen, part, excluded);

        expect(pattern.find(new SearchedPicture(screen), { positions: everywhere(screen), allowed: 0 })).toEqual(
          first ? { ...first, error: 0 } : null,
        );
      }),
    );
  });

  test('takes the nearest of several places', () => {
    fc.assert(
      fc.property(cases, fc.nat({ max: 23 }), fc.nat({ max: 23 }), ({ screen, area }, x, y) => {
        const part = draw(area.width, area.height, (column, row) => colourAt(screen, column, row));
        fc.pre(area.width <= screen.width && area.height <= screen.height);
        const away = (place: { x: number; y: number }): number => (place.x - x) ** 2 + (place.y - y) ** 2;
        const nearest = Math.min(...places(screen, part).map(away));
        const found = new Pattern(part, whole(part)).find(new SearchedPicture(screen), {
          positions: everywhere(screen),
          near: { x, y },
          allowed: 0,
        });

        expect(away(found!)).toBe(nearest);
      }),
    );
  });

  test('of one colour is found right behind the pixel that rules out the places before', () => {
    const part = draw(20, 3, () => [0, 0, 0]);
    const pattern = new Pattern(part, whole(part));
    for (let dot = 0; dot < 60; dot++) {
      const [column, row] = [dot % 20, Math.floor(dot / 20)];
      const screen = draw(45, 3, (x, y) => (x === column && y === row ? [255, 255, 255] : [0, 0, 0]));

      expect(pattern.find(new SearchedPicture(screen), { positions: everywhere(screen), allowed: 0 })).toMatchObject({
        x: column + 1,
        y: 0,
      });
    }
  });

  test('looks only at the positions that it is given', () => {
    const screen = paste(
      draw(40, 30, () => [0, 0, 0]),
      20,
      10,
      draw(4, 3, () => [9, 9, 9]),
    );
    const pattern = new Pattern(
      draw(4, 3, () => [9, 9, 9]),
      { x: 0, y: 0, width: 4, height: 3 },
    );
    const find = (positions: Rect) => pattern.find(new SearchedPicture(screen), { positions, allowed: 0 });

    expect(find({ x: 20, y: 10, width: 1, height: 1 })).toMatchObject({ x: 20, y: 10 });
    expect(find({ x: 0, y: 0, width: 20, height: 30 })).toBeNull();
    expect(find({ x: 21, y: 0, width: 99, height: 99 })).toBeNull();
    expect(find({ x: -5, y: -5, width: 30, height: 30 })).toMatchObject({ x: 20, y: 10 });
  });

  test('is nowhere on a screen that is too small', () => {
    const pattern = new Pattern(noisePicture(9, 9, 1), { x: 0, y: 0, width: 9, height: 9 });
    const positions = { x: 0, y: 0, width: 99, height: 99 };

    expect(pattern.find(new SearchedPicture(noisePicture(8, 20, 2)), { positions, allowed: Infinity })).toBeNull();
    expect(pattern.nearest(new SearchedPicture(noisePicture(20, 8, 2)), positions)).toBeNull();
  });

  /** Boxes on a smooth background, so that pictures differ by place as those of real screens do. */
  const scene = (seed: number): Picture => {
    const noise = noisePicture(12, 9, seed);
    return draw(96, 72, (x, y) => (x % 8 < 2 || y % 8 < 3 ? [60, 60, x + y] : colourAt(noise, x >> 3, y >> 3)));
  };
  const rounded = (value: number): number => Math.max(0, Math.min(255, value));

  test('finds a similar place as tolerated, with the least error of all', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9999 }),
        fc.nat({ max: 56 }),
        fc.nat({ max: 42 }),
        fc.integer({ min: -3, max: 3 }),
        (seed, x, y, shift) => {
          const screen = scene(seed);
          const part = draw(40, 30, (column, row) => colourAt(screen, x + column, y + row));
          const tinted = recolour(part, ([red, green, blue]) => [rounded(red + shift), rounded(green + shift), blue]);
          const pattern = new Pattern(tinted, whole(tinted));
          const found = pattern.find(new SearchedPicture(screen), { positions: everywhere(screen), allowed: 9 })!;
          const here = pattern.find(new SearchedPicture(screen), {
            positions: { x, y, width: 1, height: 1 },
            allowed: 9,
          })!;

          expect(found.error).toBeLessThanOrEqual(here.error);
          expect(found).toMatchObject({ x, y });
        },
      ),
      { numRuns: 30 },
    );
  });

  test('finds no similar place where none is similar enough', () => {
    const [screen, other] = [scene(1), noisePicture(40, 30, 7)];
    const pattern = new Pattern(other, whole(other));
    const positions = everywhere(screen);
    const { error } = pattern.nearest(new SearchedPicture(screen), positions)!;

    expect(pattern.find(new SearchedPicture(screen), { positions, allowed: 17 })).toBeNull();
    expect(error).toBeGreaterThan(17);
  });

  test('rules out no place that is similar enough, of many', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9999 }),
        fc.integer({ min: 1, max: 9999 }),
        fc.array(rects, { maxLength: 2 }),
        (seed, other, excluded) => {
          const [screen, from] = [new SearchedPicture(scene(seed)), scene(other)];
          const pattern = new Pattern(from, { x: 20, y: 10, width: 40, height: 30 }, excluded);
          const [right, bottom] = [96 - 40, 72 - 30];
          let least = Infinity;
          for (let y = 0; y <= bottom; y++)
            for (let x = 0; x <= right; x++) {
              const positions = { x, y, width: 1, height: 1 };
              least = Math.min(least, pattern.find(screen, { positions, allowed: Infinity })!.error);
            }
          const positions = everywhere(screen.picture);

          fc.pre(least > 0);
          expect(pattern.find(screen, { positions, allowed: least + 1e-6 })).toMatchObject({ error: least });
          expect(pattern.find(screen, { positions, allowed: least - 1e-4 })).toBeNull();
        },
      ),
      { numRuns: 20 },
    );
  });

  test('the nearest place is that of a pattern of which a tenth is different', () => {
    const screen = scene(5);
    const part = draw(40, 30, (x, y) => (y < 3 ? [255, 0, 0] : colourAt(screen, 31 + x, 17 + y)));
    const pattern = new Pattern(part, whole(part));

    expect(pattern.nearest(new SearchedPicture(screen), everywhere(screen))).toMatchObject({ x: 31, y: 17 });
  });

  test('the nearest place is told with its error, however large', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 9999 }), (seed, other) => {
        const [screen, from] = [scene(seed), scene(other)];
        const pattern = new Pattern(from, { x: 9, y: 7, width: 40, height: 30 });
        const told = pattern.nearest(new SearchedPicture(screen), everywhere(screen))!;

        expect(
          pattern.find(new SearchedPicture(screen), { positions: { ...told, width: 1, height: 1 }, allowed: Infinity }),
        ).toEqual(told);
      }),
      { numRuns: 30 },
    );
  });

  test('excluded pixels do not count among similar ones either', () => {
    const screen = scene(5);
    const part = draw(40, 30, (x, y) => (x < 20 ? [255, 0, 255] : recolourBy1(colourAt(screen, 31 + x, 17 + y))));
    const pattern = new Pattern(part, whole(part), [{ x: 0, y: 0, width: 20, height: 30 }]);

    expect(pattern.find(new SearchedPicture(screen), { positions: everywhere(screen), allowed: 9 })).toMatchObject({
      x: 31,
      y: 17,
    });
  });
});

function recolourBy1([red, green, blue]: readonly [number, number, number]): [number, number, number] {
  return [red, green === 255 ? 254 : green + 1, blue];
}
