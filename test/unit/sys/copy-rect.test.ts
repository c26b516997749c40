import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Damage } from '../../../src/core/damage.ts';
import { copyRect, copyRects, readRect, ScatteredMemory } from '../../../src/sys/copy-rect.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { Mapping, PAGE_SIZE } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { PageRuns } from '../../../src/sys/page-runs.ts';
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

test('readRect: reads any rectangle of a file exactly and nothing around it', () => {
  using file = createMemfd('read-rect', SIZE, 0);
  using src = Mapping.file(file, 0, SIZE, 'read-write');
  using dst = Mapping.anonymous(SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  fc.assert(
    fc.property(
      ...([fc.nat(40), fc.nat(20), fc.nat(30), fc.nat(30), fc.nat(64), fc.nat(64)] as const),
      (rowBytes, rows, srcPad, dstPad, srcOffset, dstOffset) => {
        dst.bytes.fill(0xee);
        const [srcStride, dstStride] = [rowBytes + srcPad, rowBytes + dstPad];
        const args = [dstOffset, dstStride, src.bytes, srcOffset, srcStride, rowBytes, rows] as const;
        const expected = reference(dst.bytes, ...args);
        readRect(dst, dstOffset, dstStride, file, srcOffset, srcStride, rowBytes, rows);
        expect(Buffer.compare(dst.bytes, expected)).toBe(0);
      },
    ),
  );
});

test('readRect: throws at the end of the file, and for a rectangle outside of the destination', () => {
  using file = createMemfd('read-rect', 100, 0);
  using dst = Mapping.anonymous(SIZE);
  expect(() => readRect(dst, 0, 10, file, 50, 10, 10, 6)).toThrow(expect.objectContaining({ code: 'ENODATA' }));
  expect(() => readRect(dst, SIZE - 50, 10, file, 0, 10, 10, 6)).toThrow(RangeError);
});

test('copyRect: copies any rectangle of scattered pages as of one run of memory', () => {
  const pages = 8;
  using one = createMemfd('one', pages * PAGE_SIZE);
  using two = createMemfd('two', pages * PAGE_SIZE);
  using memories = new DisposableStack();
  const mapped = [one, two].map((fd) => memories.use(Mapping.file(fd, 0, pages * PAGE_SIZE, 'read-write')));
  mapped.forEach(({ bytes }, n) => bytes.forEach((_, i) => (bytes[i] = i * 31 + (i >> 8) + n * 7)));
  using dst = Mapping.anonymous(2 * pages * PAGE_SIZE);
  const range = fc.record({
    memfd: fc.constantFrom(one, two),
    offset: fc.nat(pages - 1).map((page) => page * PAGE_SIZE),
    length: fc.integer({ min: 1, max: 2 }).map((count) => count * PAGE_SIZE),
  });
  fc.assert(
    fc.property(
      fc.array(range, { minLength: 1, maxLength: 8 }),
      fc.nat(9000),
      fc.integer({ min: 1, max: 9000 }),
      fc.nat(3000),
      fc.nat(3000),
      fc.integer({ min: 1, max: 12 }),
      (wanted, offset, rowBytes, srcPad, dstPad, rows) => {
        const ranges = wanted.filter((piece) => piece.offset + piece.length <= pages * PAGE_SIZE);
        const runs = PageRuns.of(ranges);
        const source = new ScatteredMemory(
          runs,
          Float64Array.from(runs.memfds, (fd) => mapped[fd === one ? 0 : 1]!.address),
        );
        const linear = Buffer.concat(
          ranges.map(({ memfd, offset: at, length }) => mapped[memfd === one ? 0 : 1]!.bytes.subarray(at, at + length)),
        );
        expect(source.length).toBe(linear.length);
        const srcStride = rowBytes + srcPad;
        const dstStride = rowBytes + dstPad;
        dst.bytes.fill(0xee);
        if (offset + srcStride * (rows - 1) + rowBytes > linear.length) {
          expect(() => copyRect(dst, 0, dstStride, source, offset, srcStride, rowBytes, rows)).toThrow(RangeError);
          return;
        }
        fc.pre(dstStride * rows <= dst.length);
        const expected = reference(dst.bytes, 0, dstStride, linear, offset, srcStride, rowBytes, rows);
        copyRect(dst, 0, dstStride, source, offset, srcStride, rowBytes, rows);
        expect(Buffer.compare(dst.bytes, expected)).toBe(0);
      },
    ),
    { numRuns: 300 },
  );
});

test.each([
  ['with pixman if it is installed', loadPixman()],
  ['without pixman', null],
])('copyRects: copies all of several rectangles and nothing else, %s', (_, pixman) => {
  const width = 40;
  const height = 30;
  const unit = 4;
  using src = Mapping.anonymous(3 * SIZE);
  using dst = Mapping.anonymous(3 * SIZE);
  src.bytes.forEach((_, i) => (src.bytes[i] = i * 31 + (i >> 8)));
  const rect = fc
    .record({ x: fc.nat(width), y: fc.nat(height), width: fc.nat(width), height: fc.nat(height) })
    .map((r) => ({ ...r, width: Math.min(r.width, width - r.x), height: Math.min(r.height, height - r.y) }));
  fc.assert(
    fc.property(fc.array(rect, { maxLength: 40 }), fc.nat(7), fc.nat(7), fc.nat(9), (list, padA, padB, offset) => {
      const damage = new Damage();
      for (const r of list) damage.addRect(r);
      const srcStride = (width + padA) * unit;
      const dstStride = (width + padB) * unit;
      dst.bytes.fill(0xee);
      let expected: Uint8Array = dst.bytes.slice();
      for (let i = 0; i < damage.count; i++) {
        const x = damage.x(i) * unit;
        const y = damage.y(i);
        const from = offset * unit + y * srcStride + x;
        const bytes = damage.width(i) * unit;
        expected = reference(
          expected,
          y * dstStride + x,
          dstStride,
          src.bytes,
          from,
          srcStride,
          bytes,
          damage.height(i),
        );
      }
      copyRects(dst, dstStride, src, offset * unit, srcStride, unit, damage, pixman);
      expect(Buffer.compare(dst.bytes, expected)).toBe(0);
    }),
  );
});

test('copyRects: refuses rectangles that do not fit before it copies beyond either side', () => {
  using src = Mapping.anonymous(SIZE);
  using dst = Mapping.anonymous(2 * SIZE);
  const damage = new Damage();
  for (let i = 0; i < 3; i++) damage.add(i * 8, i * 8, 4, 4);
  damage.add(28, 30, 4, 3);
  expect(() => copyRects(dst, 128, src, 0, 128, 4, damage)).toThrow(RangeError);
  expect(() => copyRects(src, 128, dst, 0, 128, 4, damage)).toThrow(RangeError);
});
