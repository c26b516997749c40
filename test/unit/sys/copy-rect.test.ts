import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DRM_FORMAT } from '../../../protocols/drm-fourcc.ts';
import { copyRect } from '../../../src/sys/copy-rect.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { loadPixman, pixmanFormat } from '../../../src/sys/lib/pixman.ts';

const SIZE = 4096;

function reference(dst: Uint8Array, dstOffset: number, dstStride: number, src: Uint8Array, srcOffset: number, srcStride: number, rowBytes: number, rows: number): Uint8Array {
  const out = dst.slice();
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < rowBytes; i++) out[dstOffset + row * dstStride + i] = src[srcOffset + row * srcStride + i]!;
  }
  return out;
}

test.each([
  ['with pixman if it is installed', loadPixman()],
  ['without pixman', null],
])('any rectangle is copied exactly, and nothing around it, %s', (_, pixman) => {
  using src = Mapping.anonymous(SIZE);
  using dst = Mapping.anonymous(SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  fc.assert(
    fc.property(fc.nat(40), fc.nat(20), fc.nat(30), fc.nat(30), fc.nat(64), fc.nat(64), fc.constantFrom(1, 4), (rowBytes, rows, srcPad, dstPad, srcOffset, dstOffset, unit) => {
      dst.bytes.fill(0xee);
      const srcStride = (rowBytes + srcPad) * unit;
      const dstStride = (rowBytes + dstPad) * unit;
      const args = [dstOffset * unit, dstStride, src.bytes, srcOffset * unit, srcStride, rowBytes * unit, rows] as const;
      const fits = (offset: number, stride: number): boolean => rows === 0 || rowBytes === 0 || offset + stride * (rows - 1) + rowBytes * unit <= SIZE;
      fc.pre(fits(args[0], dstStride) && fits(args[3], srcStride));
      const expected = reference(dst.bytes, ...args);
      copyRect(dst, args[0], dstStride, src, args[3], srcStride, rowBytes * unit, rows, pixman);
      expect(Buffer.compare(dst.bytes, expected)).toBe(0);
    }),
  );
});

test.each([
  ['the destination ends too soon', [4, 100, 0, 100, 100, 41]],
  ['the source ends too soon', [0, 100, 4, 100, 100, 41]],
  ['an offset is negative', [-4, 100, 0, 100, 4, 1]],
  ['rows overlap', [0, 99, 0, 100, 100, 2]],
  ['a stride is huge', [0, 2 ** 52, 0, 100, 4, 2]],
  ['a number is none', [NaN, 100, 0, 100, 4, 1]],
  ['the height is negative', [0, 100, 0, 100, 4, -1]],
])('nothing is copied when %s', (_, [dstOffset, dstStride, srcOffset, srcStride, rowBytes, rows]) => {
  using src = Mapping.anonymous(4100);
  using dst = Mapping.anonymous(4100);
  src.bytes.fill(1);
  expect(() => copyRect(dst, dstOffset!, dstStride!, src, srcOffset!, srcStride!, rowBytes!, rows!)).toThrow(RangeError);
  expect(dst.bytes.includes(1)).toBe(false);
});

test('one source is copied right to more destinations than pixman keeps images of', () => {
  using src = Mapping.anonymous(SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  for (let dstStride = 32; dstStride <= 32 + 4 * 40; dstStride += 4) {
    using dst = Mapping.anonymous(SIZE);
    copyRect(dst, 0, dstStride, src, 8, 64, 16, 3);
    expect(Buffer.compare(dst.bytes, reference(new Uint8Array(SIZE), 0, dstStride, src.bytes, 8, 64, 16, 3))).toBe(0);
  }
});

test('a disposed mapping is not touched', () => {
  using src = Mapping.anonymous(SIZE);
  const dst = Mapping.anonymous(SIZE);
  dst[Symbol.dispose]();
  expect(() => copyRect(dst, 0, 4, src, 0, 4, 4, 1)).toThrow('after dispose');
});

test.skipIf(loadPixman() === null && process.env['CI'] !== 'true')('pixman converts between byte orders and depths, within the rectangle', () => {
  using src = Mapping.anonymous(SIZE);
  using dst = Mapping.anonymous(SIZE);
  // Blue, green, red, unused: one pixel of XRGB8888 in memory, at (1, 1) of 4x4.
  src.bytes.set([0x10, 0x20, 0x30, 0x00], 16 + 4);
  const from = { address: src.address, stride: 16, format: pixmanFormat(DRM_FORMAT.XRGB8888)!, width: 4, height: 4 };
  const to = (format: number) => ({ address: dst.address, stride: 16, format, width: 4, height: 4 });
  const pixman = loadPixman()!;

  pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.ABGR8888)!), 2, 3, 1, 1);
  expect([...dst.bytes.subarray(3 * 16 + 8, 3 * 16 + 12)]).toEqual([0x30, 0x20, 0x10, 0xff]);
  expect(dst.bytes.filter((byte) => byte !== 0).length).toBe(4);

  pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.BGRA8888)!), 0, 0, 1, 1);
  expect([...dst.bytes.subarray(0, 4)]).toEqual([0xff, 0x30, 0x20, 0x10]);

  pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.RGB565)!), 0, 1, 1, 1);
  expect(dst.view.getUint16(16, true)).toBe(((0x30 >> 3) << 11) | ((0x20 >> 2) << 5) | (0x10 >> 3));
});

test.skipIf(loadPixman() === null && process.env['CI'] !== 'true')('bits pixman cannot take are an error', () => {
  using bits = Mapping.anonymous(SIZE);
  const format = pixmanFormat(DRM_FORMAT.XRGB8888)!;
  const good = { address: bits.address, stride: 16, format, width: 4, height: 4 };
  const pixman = loadPixman()!;
  expect(() => pixman.convert({ ...good, stride: 18 }, 0, 0, good, 0, 0, 1, 1)).toThrow('EINVAL');
  expect(() => pixman.convert(good, 0, 0, { ...good, address: bits.address + 2 }, 0, 0, 1, 1)).toThrow('EINVAL');
  expect(pixmanFormat(DRM_FORMAT.NV12)).toBeNull();
});
