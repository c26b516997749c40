import fc from 'fast-check';
import { expect, test } from 'vitest';
import { copyRect } from '../../../src/sys/copy-rect.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { loadPixman } from '../../../src/sys/lib/pixman.ts';

const SIZE = 4096;

function reference(
  dst: Uint8Array,
  dstOffset: number,
  dstStride: number,
  src: Uint8Array,
  srcOffset: number,
  srcStride: number,
  rowBytes: number,
  rows: number,
): Uint8Array {
  const out = dst.slice();
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < rowBytes; i++) out[dstOffset + row * dstStride + i] = src[srcOffset + row * srcStride + i]!;
  }
  return out;
}

test.each([
  ['with pixman if it is installed', loadPixman()],
  ['without pixman', null],
])('copyRect: copies any rectangle exactly and nothing around it, %s', (_, pixman) => {
  using src = Mapping.anonymous(SIZE);
  using dst = Mapping.anonymous(SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  fc.assert(
    fc.property(
      fc.nat(40),
      fc.nat(20),
      fc.nat(30),
      fc.nat(30),
      fc.nat(64),
      fc.nat(64),
      fc.constantFrom(1, 4),
      (rowBytes, rows, srcPad, dstPad, srcOffset, dstOffset, unit) => {
        dst.bytes.fill(0xee);
        const srcStride = (rowBytes + srcPad) * unit;
        const dstStride = (rowBytes + dstPad) * unit;
        const args = [
          dstOffset * unit,
          dstStride,
          src.bytes,
          srcOffset * unit,
          srcStride,
          rowBytes * unit,
          rows,
        ] as const;
        const fits = (offset: number, stride: number): boolean =>
          rows === 0 || rowBytes === 0 || offset + stride * (rows - 1) + rowBytes * unit <= SIZE;
        fc.pre(fits(args[0], dstStride) && fits(args[3], srcStride));
        const expected = reference(dst.bytes, ...args);
        copyRect(dst, args[0], dstStride, src, args[3], srcStride, rowBytes * unit, rows, pixman);
        expect(Buffer.compare(dst.bytes, expected)).toBe(0);
      },
    ),
  );
});

test.each([
  ['the rectangle exceeds the destination', [4, 100, 0, 100, 100, 41]],
  ['the rectangle exceeds the source', [0, 100, 4, 100, 100, 41]],
  ['an offset is negative', [-4, 100, 0, 100, 4, 1]],
  ['rows overlap', [0, 99, 0, 100, 100, 2]],
  ['a stride is huge', [0, 2 ** 52, 0, 100, 4, 2]],
  ['an offset is NaN', [NaN, 100, 0, 100, 4, 1]],
  ['the height is negative', [0, 100, 0, 100, 4, -1]],
])('copyRect: throws and copies nothing if %s', (_, [dstOffset, dstStride, srcOffset, srcStride, rowBytes, rows]) => {
  using src = Mapping.anonymous(4100);
  using dst = Mapping.anonymous(4100);
  src.bytes.fill(1);
  expect(() => copyRect(dst, dstOffset!, dstStride!, src, srcOffset!, srcStride!, rowBytes!, rows!)).toThrow(
    RangeError,
  );
  expect(dst.bytes.includes(1)).toBe(false);
});

test('copyRect: copies one source to more destinations than pixman images are cached', () => {
  using src = Mapping.anonymous(SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  for (let dstStride = 32; dstStride <= 32 + 4 * 40; dstStride += 4) {
    using dst = Mapping.anonymous(SIZE);
    copyRect(dst, 0, dstStride, src, 8, 64, 16, 3);
    expect(Buffer.compare(dst.bytes, reference(new Uint8Array(SIZE), 0, dstStride, src.bytes, 8, 64, 16, 3))).toBe(0);
  }
});

test('copyRect: throws if a mapping is disposed', () => {
  using src = Mapping.anonymous(SIZE);
  const dst = Mapping.anonymous(SIZE);
  dst[Symbol.dispose]();
  expect(() => copyRect(dst, 0, 4, src, 0, 4, 4, 1)).toThrow('after dispose');
});
