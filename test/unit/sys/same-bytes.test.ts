import { expect, test } from 'vitest';
import { Mapping } from '../../../src/sys/mapping.ts';
import { sameBytes } from '../../../src/sys/same-bytes.ts';

test('sameBytes: finds a difference in any byte, and none outside the range', () => {
  using a = Mapping.anonymous(64);
  using b = Mapping.anonymous(80);
  b.bytes.set([1], 15);
  b.bytes.set([1], 80 - 1);
  for (let at = 0; at < 63; at++) {
    a.bytes[at] = 7;
    expect(sameBytes(a, 0, b, 16, 63)).toBe(false);
    a.bytes[at] = 0;
  }
  expect(sameBytes(a, 0, b, 16, 63)).toBe(true);
  expect(sameBytes(a, 0, b, 16, 64)).toBe(false);
  expect(sameBytes(a, 64, b, 80, 0)).toBe(true);
});

test.each([
  [-1, 0, 1],
  [0, -1, 1],
  [0, 0, -1],
  [0, 0, 65],
  [64, 0, 1],
  [0, 80, 1],
  [NaN, 0, 1],
])('sameBytes: refuses a range that begins at %d and %d and has %d bytes', (aOffset, bOffset, length) => {
  using a = Mapping.anonymous(64);
  using b = Mapping.anonymous(80);
  expect(() => sameBytes(a, aOffset, b, bOffset, length)).toThrow(RangeError);
});
