import { describe, expect, test } from 'vitest';
import { type Canvas, drawOn } from '../../../../src/sys/lib/cairo.ts';
import { hasLibrary } from '../../../../src/sys/lib/library.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { expectNoLeaks } from '../no-leaks.ts';

expectNoLeaks();

const [WIDTH, HEIGHT, STRIDE] = [64, 32, 64 * 4 + 256];
const BLUE = 0x203040;
const WHITE = 0xffffff;

/** What `draw` leaves in a picture of zeroes, with the libraries that are installed, or with none. */
function drawn(draw: (canvas: Canvas) => void, isPlain: boolean): Uint32Array {
  using pixels = Mapping.anonymous(STRIDE * HEIGHT);
  const picture = { pixels, stride: STRIDE, width: WIDTH, height: HEIGHT };
  if (isPlain) drawOn(picture, draw, null);
  else drawOn(picture, draw);
  const words = new Uint32Array(pixels.bytes.slice().buffer);
  const column = (i: number): number => i % (STRIDE / 4);
  expect(words.filter((word, i) => word !== 0 && column(i) >= WIDTH)).toEqual(new Uint32Array(0));
  return words.filter((_, i) => column(i) < WIDTH);
}

const count = (pixels: Uint32Array, isWanted: (pixel: number) => boolean): number => pixels.filter(isWanted).length;

describe.each([
  ['with cairo, where it is installed', false],
  ['without libraries', true],
])('drawOn: %s', (_, isPlain) => {
  test('fills rectangles, opaque, within the picture', () => {
    const pixels = drawn((canvas) => canvas.fill(60, 30, 100, 100, BLUE), isPlain);
    expect(count(pixels, (pixel) => pixel === 0xff203040)).toBe(4 * 2);
    expect(count(pixels, (pixel) => pixel === 0)).toBe(WIDTH * HEIGHT - 8);
  });

  test('draws lines from end to end', () => {
    const pixels = drawn((canvas) => canvas.line(10.5, 10.5, 20.5, 10.5, 1, WHITE), isPlain);
    const row = [...pixels.subarray(10 * WIDTH, 11 * WIDTH)].flatMap((pixel, x) => (pixel === 0xffffffff ? [x] : []));
    expect([row.at(0), row.at(-1), row.length]).toEqual([10, 20, 11]);
  });
});

describe('drawOn: text', () => {
  const write =
    (text: string) =>
    (canvas: Canvas): void => {
      canvas.fill(0, 0, WIDTH, HEIGHT, BLUE);
      canvas.text(text, 8, 0, WIDTH - 16, HEIGHT, 14, WHITE);
    };
  const isText = (pixel: number): boolean => pixel !== 0xff203040;

  test.skipIf(!hasLibrary('libpangocairo-1.0.so.0'))('is in the middle of its rectangle, and cut to it', () => {
    const short = drawn(write('ab'), false);
    const long = drawn(write('a title of many words'), false);
    expect(count(short, isText)).toBeGreaterThan(20);
    const columns = (pixels: Uint32Array): number[] =>
      Array.from({ length: WIDTH }, (_, x) => x).filter((x) =>
        Array.from({ length: HEIGHT }, (__, y) => pixels[y * WIDTH + x]!).some(isText),
      );
    const middle = (columns(short).at(0)! + columns(short).at(-1)!) / 2;
    expect(Math.abs(middle - WIDTH / 2)).toBeLessThan(3);
    expect([columns(long).at(0)! >= 8, columns(long).at(-1)! < WIDTH - 8]).toEqual([true, true]);
  });

  test('is left out without libraries', () => {
    expect(count(drawn(write('ab'), true), isText)).toBe(0);
  });

  test('of any kind is drawn without an error', () => {
    for (const text of ['', '\u{1f5a5} \u202e\u0000x', 'é'.repeat(5000), '\ud800'])
      expect(drawn(write(text), false)).toHaveLength(WIDTH * HEIGHT);
  });
});
