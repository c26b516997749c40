import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Damage } from '../../../src/core/damage.ts';

const SIDE = 40;
const rect = fc.record({
  x: fc.integer({ min: -5, max: SIDE }),
  y: fc.integer({ min: -5, max: SIDE }),
  width: fc.integer({ min: 0, max: 20 }),
  height: fc.integer({ min: 0, max: 20 }),
});

function rects(damage: Damage): number[][] {
  return Array.from({ length: damage.count }, (_, i) => [damage.x(i), damage.y(i), damage.width(i), damage.height(i)]);
}

function covers(damage: Damage, x: number, y: number): boolean {
  return rects(damage).some(([rx, ry, w, h]) => x >= rx! && y >= ry! && x < rx! + w! && y < ry! + h!);
}

describe('Damage', () => {
  test('is empty at first and after clear', () => {
    const damage = new Damage();
    expect(damage.isEmpty).toBe(true);
    damage.add(1, 2, 3, 4);
    expect(damage.isEmpty).toBe(false);
    damage.clear();
    expect(damage.isEmpty).toBe(true);
  });

  test('drops a rectangle inside another in either order', () => {
    const damage = new Damage();
    damage.add(0, 0, 10, 10);
    damage.add(2, 2, 3, 3);
    expect(rects(damage)).toEqual([[0, 0, 10, 10]]);
    damage.add(-1, -1, 20, 20);
    expect(rects(damage)).toEqual([[-1, -1, 20, 20]]);
  });

  test('joins rectangles that make up a larger one', () => {
    const damage = new Damage();
    damage.add(0, 0, 10, 4);
    damage.add(0, 4, 10, 4);
    damage.add(20, 0, 5, 8);
    expect(rects(damage)).toEqual([
      [0, 0, 10, 8],
      [20, 0, 5, 8],
    ]);
    // One that fills the gap between them joins both, and so does one that overlaps.
    damage.add(10, 0, 10, 8);
    expect(rects(damage)).toEqual([[0, 0, 25, 8]]);
    damage.add(0, 6, 25, 10);
    expect(rects(damage)).toEqual([[0, 0, 25, 16]]);
    damage.add(0, 20, 25, 1);
    expect(damage.count).toBe(2);
  });

  test('covers everything that was added', () => {
    fc.assert(
      fc.property(fc.array(rect, { maxLength: 60 }), (added) => {
        const damage = new Damage();
        for (const r of added) damage.addRect(r);
        expect(damage.count).toBeLessThanOrEqual(16);
        for (const r of added) {
          if (r.width === 0 || r.height === 0) continue;
          expect(covers(damage, r.x, r.y)).toBe(true);
          expect(covers(damage, r.x + r.width - 1, r.y + r.height - 1)).toBe(true);
        }
      }),
    );
  });

  test('moves everything in pieces of about the area asked for', () => {
    fc.assert(
      fc.property(fc.array(rect, { maxLength: 60 }), fc.integer({ min: 1, max: 900 }), (added, area) => {
        const damage = new Damage();
        for (const r of added) damage.addRect(r);
        const all = new Damage();
        const piece = new Damage();
        while (!damage.isEmpty) {
          piece.clear();
          damage.moveTo(piece, area);
          expect(piece.isEmpty).toBe(false);
          // A row is moved even if it is longer.
          expect(piece.area).toBeLessThanOrEqual(area + 16 * SIDE);
          for (const [x, y, width, height] of rects(piece)) all.add(x!, y!, width!, height!);
        }
        for (const r of added) {
          if (r.width === 0 || r.height === 0) continue;
          for (const x of [r.x, r.x + r.width - 1])
            for (const y of [r.y, r.y + r.height - 1]) expect(covers(all, x, y)).toBe(true);
        }
      }),
    );
  });

  test('stays within the bounding box of what was added', () => {
    fc.assert(
      fc.property(fc.array(rect, { minLength: 1, maxLength: 60 }), (added) => {
        const damage = new Damage();
        for (const r of added) damage.addRect(r);
        const real = added.filter((r) => r.width > 0 && r.height > 0);
        for (const [x, y, w, h] of rects(damage)) {
          expect(x).toBeGreaterThanOrEqual(Math.min(...real.map((r) => r.x)));
          expect(y).toBeGreaterThanOrEqual(Math.min(...real.map((r) => r.y)));
          expect(x! + w!).toBeLessThanOrEqual(Math.max(...real.map((r) => r.x + r.width)));
          expect(y! + h!).toBeLessThanOrEqual(Math.max(...real.map((r) => r.y + r.height)));
        }
      }),
    );
  });

  test.each([
    [
      'nothing',
      [],
      [
        [11, 22, 3, 4],
        [30, 40, 5, 6],
      ],
    ],
    [
      'some',
      [
        [11, 22, 1, 1],
        [0, 0, 2, 2],
      ],
      [
        [0, 0, 2, 2],
        [11, 22, 3, 4],
        [30, 40, 5, 6],
      ],
    ],
  ])("takes another's rectangles, moved, with %s there before", (_, before, after) => {
    const other = new Damage();
    other.add(1, 2, 3, 4);
    other.add(20, 20, 5, 6);
    const damage = new Damage();
    for (const [x, y, width, height] of before) damage.add(x!, y!, width!, height!);
    damage.addAll(other, 10, 20);
    expect(rects(damage).toSorted((a, b) => a[0]! - b[0]!)).toEqual(after);
    expect(rects(other)).toEqual([
      [1, 2, 3, 4],
      [20, 20, 5, 6],
    ]);
  });

  test('keeps exactly what lies inside the bounds when clipped', () => {
    fc.assert(
      fc.property(fc.array(rect, { maxLength: 10 }), rect, (added, bounds) => {
        const damage = new Damage();
        for (const r of added) damage.addRect(r);
        const before = new Damage();
        before.addAll(damage);
        damage.clip(bounds);
        for (let y = -6; y < SIDE + 20; y += 3) {
          for (let x = -6; x < SIDE + 20; x += 3) {
            const inside =
              x >= bounds.x && y >= bounds.y && x < bounds.x + bounds.width && y < bounds.y + bounds.height;
            expect(covers(damage, x, y)).toBe(inside && covers(before, x, y));
          }
        }
      }),
    );
  });
});
