import fc from 'fast-check';
import { expect, test } from 'vitest';
import { putPixels } from '../../../../display/vnc/pixel-format.ts';

const shift = fc.constantFrom(0, 8, 16, 24);
const shifts = fc.oneof(
  fc.constant([0]),
  fc.tuple(shift, shift),
  fc.tuple(shift, shift, shift),
  fc.tuple(shift, shift, shift, shift),
);

test('pixels are written byte by byte in the order of their shifts, wherever they begin', () => {
  fc.assert(
    fc.property(
      fc.uint32Array({ minLength: 1, maxLength: 300, size: 'max' }),
      fc.nat({ max: 200 }),
      fc.nat({ max: 9 }),
      fc.nat({ max: 3 }),
      shifts,
      (pixels, from, at, offset, order) => {
        const start = Math.min(from, pixels.length);
        const into = new Uint8Array(new ArrayBuffer(offset + at + pixels.length * 4 + 8), offset);
        const end = putPixels(into, at, pixels, start, pixels.length, order);

        const bytes = [...pixels.subarray(start)].flatMap((pixel) => order.map((by) => (pixel >>> by) & 255));
        expect(end).toBe(at + bytes.length);
        expect([...into.subarray(at, end)]).toEqual(bytes);
        expect(into.subarray(end).every((byte) => byte === 0)).toBe(true);
      },
    ),
  );
});
