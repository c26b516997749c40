import { describe, expect, test } from 'vitest';
import { DRM_FORMAT, type Fourcc } from '../../../../protocols/drm-fourcc.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { loadPixman, type PixmanBits, pixmanFormat } from '../../../../src/sys/lib/pixman.ts';
import { skipBecause } from '../../../rig/skip.ts';
import { expectNoLeaks } from '../no-leaks.ts';

const pixman = loadPixman()!;
const isSkipped = loadPixman() === null && skipBecause('libpixman-1.so.0 is not installed');
const SIZE = 4096;

/** An image of 32-bit pixels, and what it holds. */
class Image implements Disposable {
  readonly bits: PixmanBits;
  readonly #memory: Mapping;

  constructor(rows: readonly (readonly number[])[], format: Fourcc = DRM_FORMAT.XRGB8888) {
    const [width, height] = [rows[0]!.length, rows.length];
    this.#memory = Mapping.anonymous(width * height * 4);
    rows.flat().forEach((value, i) => this.#memory.view.setUint32(i * 4, value, true));
    this.bits = { address: this.#memory.address, stride: width * 4, format: pixmanFormat(format)!, width, height };
  }

  get rows(): number[][] {
    const { width, height } = this.bits;
    return Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => this.#memory.view.getUint32((y * width + x) * 4, true) & 0xffffff),
    );
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

const filled = (width: number, height: number, value: number): number[][] =>
  Array.from({ length: height }, () => Array.from({ length: width }, () => value));
const rect = (x: number, y: number, width: number, height: number) => ({ x, y, width, height });

describe.skipIf(isSkipped)('Pixman', () => {
  expectNoLeaks();

  test('draw copies a part of an image, clipped to the area', () => {
    using source = new Image([
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ]);
    using target = new Image(filled(4, 3, 0xee));
    pixman.draw(source.bits, rect(1, 1, 2, 2), target.bits, rect(1, 0, 2, 2), rect(0, 0, 2, 3), false);
    expect(target.rows).toEqual([
      [0xee, 5, 0xee, 0xee],
      [0xee, 8, 0xee, 0xee],
      [0xee, 0xee, 0xee, 0xee],
    ]);
  });

  test('draw clips at every edge of both images', () => {
    using source = new Image(filled(4, 4, 0xff_00_00));
    using target = new Image(filled(3, 3, 0));
    pixman.draw(source.bits, rect(0, 0, 4, 4), target.bits, rect(-2, -2, 4, 4), rect(-9, -9, 99, 99), false);
    expect(target.rows).toEqual([
      [0xff0000, 0xff0000, 0],
      [0xff0000, 0xff0000, 0],
      [0, 0, 0],
    ]);
  });

  test('draw does nothing if rectangle and area do not intersect', () => {
    using source = new Image(filled(2, 2, 0xff));
    using target = new Image(filled(4, 1, 0));
    pixman.draw(source.bits, rect(0, 0, 2, 2), target.bits, rect(0, 0, 2, 2), rect(2, 0, 2, 2), false);
    expect(target.rows).toEqual([[0, 0, 0, 0]]);
  });

  test('draw scales a part smoothly', () => {
    using source = new Image([[0x11, 0xff0000, 0xff0000, 0x0000ff, 0x0000ff, 0x22]]);
    using target = new Image(filled(4, 1, 0));
    pixman.draw(source.bits, rect(1, 0, 4, 1), target.bits, rect(1, 0, 2, 1), rect(0, 0, 4, 1), false);
    expect(target.rows).toEqual([[0, 0xff0000, 0x0000ff, 0]]);
  });

  test('draw blends premultiplied alpha over the destination', () => {
    using source = new Image([[0xff0000aa, 0x00000000, 0x80400000]], DRM_FORMAT.ARGB8888);
    using target = new Image(filled(3, 1, 0x00ff00));
    pixman.draw(source.bits, rect(0, 0, 3, 1), target.bits, rect(0, 0, 3, 1), rect(0, 0, 3, 1), true);
    expect(target.rows).toEqual([[0x0000aa, 0x00ff00, 0x407f00]]);
  });

  test('clear makes the area black', () => {
    using target = new Image(filled(3, 2, 0xabcdef));
    pixman.clear(target.bits, rect(1, 0, 1, 2));
    expect(target.rows).toEqual([
      [0xabcdef, 0, 0xabcdef],
      [0xabcdef, 0, 0xabcdef],
    ]);
  });

  test('clear throws EINVAL if the stride is not a whole number of words', () => {
    using source = new Image(filled(2, 1, 0));
    expect(() => pixman.clear({ ...source.bits, stride: 6 }, rect(0, 0, 1, 1))).toThrow(
      expect.objectContaining({ code: 'EINVAL' }) as Error,
    );
  });

  test('convert changes byte order and depth, within the rectangle', () => {
    using src = Mapping.anonymous(SIZE);
    using dst = Mapping.anonymous(SIZE);
    // Blue, green, red, unused: one pixel of XRGB8888 in memory, at (1, 1) of 4x4.
    src.bytes.set([0x10, 0x20, 0x30, 0x00], 16 + 4);
    const from = { address: src.address, stride: 16, format: pixmanFormat(DRM_FORMAT.XRGB8888)!, width: 4, height: 4 };
    const to = (format: number) => ({ address: dst.address, stride: 16, format, width: 4, height: 4 });

    pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.ABGR8888)!), 2, 3, 1, 1);
    expect([...dst.bytes.subarray(3 * 16 + 8, 3 * 16 + 12)]).toEqual([0x30, 0x20, 0x10, 0xff]);
    expect(dst.bytes.filter((byte) => byte !== 0).length).toBe(4);

    pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.BGRA8888)!), 0, 0, 1, 1);
    expect([...dst.bytes.subarray(0, 4)]).toEqual([0xff, 0x30, 0x20, 0x10]);

    pixman.convert(from, 1, 1, to(pixmanFormat(DRM_FORMAT.RGB565)!), 0, 1, 1, 1);
    expect(dst.view.getUint16(16, true)).toBe(((0x30 >> 3) << 11) | ((0x20 >> 2) << 5) | (0x10 >> 3));
  });

  test('convert throws EINVAL for an unaligned stride or address', () => {
    using bits = Mapping.anonymous(SIZE);
    const format = pixmanFormat(DRM_FORMAT.XRGB8888)!;
    const good = { address: bits.address, stride: 16, format, width: 4, height: 4 };
    expect(() => pixman.convert({ ...good, stride: 18 }, 0, 0, good, 0, 0, 1, 1)).toThrow('EINVAL');
    expect(() => pixman.convert(good, 0, 0, { ...good, address: bits.address + 2 }, 0, 0, 1, 1)).toThrow('EINVAL');
    expect(pixmanFormat(DRM_FORMAT.NV12)).toBeNull();
  });
});
