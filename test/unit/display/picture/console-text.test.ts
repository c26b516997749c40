import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConsoleReader } from '../../../../display/picture/console-text.ts';
import { type ConsoleFont, parsePsf } from '../../../../display/picture/psf.ts';
import { drawConsole, type FontSize, noiseGlyphs, psf2 } from './console-fonts.ts';
import { type Colour, colourAt, draw, noisePicture } from './pictures.ts';

const characters = Array.from({ length: 256 }, (_, i) =>
  i < 0x7f && i >= 0x20 ? String.fromCharCode(i) : String.fromCharCode(0x100 + i),
);
const fontOf = (size: FontSize, seed: number, name = `noise${seed}`): ConsoleFont =>
  parsePsf(psf2(size, noiseGlyphs(size, 256, seed), characters), name);
const EIGHT = fontOf({ width: 8, height: 16 }, 1);
const TWELVE = fontOf({ width: 12, height: 22 }, 2);
const OTHER = fontOf({ width: 8, height: 16 }, 3);
const reader = (): ConsoleReader => new ConsoleReader([OTHER, TWELVE, EIGHT]);

/** Rows of glyphs, padded with blanks. */
const grid = (...lines: readonly string[]): number[][] =>
  lines.map((line) => Array.from(line.padEnd(12), (character) => characters.indexOf(character)));

describe('ConsoleReader', () => {
  const sizes = fc.record({ width: fc.integer({ min: 5, max: 20 }), height: fc.integer({ min: 6, max: 24 }) });
  const colour = fc.constantFrom<Colour>([0, 0, 0], [170, 0, 0], [0, 170, 0], [255, 255, 255]);
  const cells = fc.record({
    glyphs: fc.array(fc.array(fc.nat({ max: 255 }), { minLength: 9, maxLength: 9 }), { minLength: 2, maxLength: 5 }),
    colours: fc.array(
      fc.tuple(colour, colour).filter(([a, b]) => a !== b),
      { minLength: 4, maxLength: 4 },
    ),
  });

  test('reads every character, in any size and colours, with margins', () => {
    fc.assert(
      fc.property(
        sizes,
        cells,
        fc.nat({ max: 4 }),
        fc.integer({ min: 1, max: 9999 }),
        ({ width, height }, { glyphs, colours }, margin, seed) => {
          const font = fontOf({ width, height }, seed);
          const picture = drawConsole({ font, rows: glyphs, margin, colours: (x, y) => colours[(x + 3 * y) % 4]! });
          const expected = glyphs
            .map((row) =>
              row
                .map((glyph) => characters[glyph]!)
                .join('')
                .trimEnd(),
            )
            .join('\n')
            .trimEnd();
          const read = new ConsoleReader([font]).read(picture)!;

          expect(read).toMatchObject({ text: expected, unread: 0 });
        },
      ),
      { numRuns: 50 },
    );
  });

  test('names the font that fits, also when it changes', () => {
    const reading = reader();
    const show = (font: ConsoleFont) => reading.read(drawConsole({ font, rows: grid('login: root', '', '# ls -l') }));

    for (const font of [EIGHT, TWELVE, EIGHT, OTHER])
      expect(show(font)).toEqual({ text: 'login: root\n\n# ls -l', font: font.name, unread: 0 });
  });

  test.each([1, 2, 8, 15, 16])('reads what is under a cursor of %i rows', (rows) => {
    const text = { font: EIGHT, rows: grid('# vi', 'x') };

    expect(reader().read(drawConsole({ ...text, cursor: { column: 3, row: 0, rows } }))).toMatchObject({
      text: '# vi\nx',
      unread: 0,
    });
    expect(reader().read(drawConsole({ ...text, cursor: { column: 5, row: 0, rows } }))).toMatchObject({
      text: '# vi\nx',
      unread: 0,
    });
  });

  test('reads the cells whose middles lie in a region', () => {
    const picture = drawConsole({ font: EIGHT, rows: grid('abcdef', 'ghijkl', 'mnopqr') });
    const read = (x: number, y: number, width: number, height: number) =>
      reader().read(picture, { x, y, width, height })!.text;

    expect(read(0, 0, 96, 48)).toBe('abcdef\nghijkl\nmnopqr');
    expect(read(8, 16, 24, 16)).toBe('hij');
    expect(read(5, 25, 16, 16)).toBe('no');
    expect(read(4, 8, 16, 16)).toBe('ab');
    expect(read(90, 0, 6, 48)).toBe('');
  });

  test('tells an upper half from a lower one by the usual background', () => {
    const glyphs = noiseGlyphs({ width: 8, height: 16 }, 256, 1);
    glyphs[0x80] = Uint8Array.from({ length: 16 }, (_, y) => (y < 8 ? 0xff : 0));
    glyphs[0x81] = Uint8Array.from({ length: 16 }, (_, y) => (y < 8 ? 0 : 0xff));
    const font = parsePsf(psf2({ width: 8, height: 16 }, glyphs, characters), 'halves');
    const rows = grid('a', `${characters[0x80]!}${characters[0x81]!}`);
    const light = (): readonly [Colour, Colour] => [
      [0, 0, 0],
      [255, 255, 255],
    ];

    expect(new ConsoleReader([font]).read(drawConsole({ font, rows }))!.text).toBe(
      `a\n${characters[0x80]!}${characters[0x81]!}`,
    );
    expect(new ConsoleReader([font]).read(drawConsole({ font, rows, colours: light }))!.text).toBe(
      `a\n${characters[0x80]!}${characters[0x81]!}`,
    );
  });

  test('marks cells that have no glyph, beside text that fits', () => {
    const text = drawConsole({ font: EIGHT, rows: grid('messages', 'of a', 'boot.') });
    const logo = noisePicture(8, 16, 9);
    const picture = draw(text.width, text.height, (x, y) =>
      x >= 88 && y < 16 ? colourAt(logo, x - 88, y) : colourAt(text, x, y),
    );

    expect(reader().read(picture)).toEqual({ text: 'messages   \ufffd\nof a\nboot.', font: 'noise1', unread: 1 });
  });

  test('reads nothing on what is no console, and blanks on a plain screen', () => {
    expect(reader().read(noisePicture(96, 64, 5))).toBeNull();
    expect(
      reader().read(draw(96, 64, (x, y) => (((x >> 2) + (y >> 2)) % 2 === 0 ? [0, 0, 0] : [255, 255, 255]))),
    ).toBeNull();
    expect(reader().read(draw(96, 64, () => [0, 0, 170]))).toEqual({ text: '', font: null, unread: 0 });
    expect(new ConsoleReader([]).read(noisePicture(4, 4, 5))).toBeNull();
  });

  test('takes the ASCII character of several that look the same', () => {
    const glyphs = noiseGlyphs({ width: 8, height: 16 }, 256, 1);
    glyphs[0x10] = glyphs[0x41]!;
    const font = parsePsf(psf2({ width: 8, height: 16 }, glyphs, characters), 'same');

    expect(new ConsoleReader([font]).read(drawConsole({ font, rows: grid('ABC') }))!.text).toBe('ABC');
  });
});
