import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { FontError, installedFonts, parsePsf, readPsf } from '../../../../display/picture/psf.ts';
import { noiseGlyphs, psf1, psf2 } from './console-fonts.ts';

const SMALL = { width: 8, height: 14 };
const LARGE = { width: 12, height: 22 };
const letters = (count: number): string[] => Array.from({ length: count }, (_, i) => String.fromCodePoint(0x100 + i));

describe('parsePsf', () => {
  test.each([256, 512])('reads version 1 with %i glyphs', (count) => {
    const glyphs = noiseGlyphs(SMALL, count, 1);
    const font = parsePsf(psf1(14, glyphs, letters(count)), 'a');

    expect(font).toMatchObject({ name: 'a', ...SMALL, characters: letters(count) });
    expect(Buffer.compare(font.glyphs, Buffer.concat(glyphs))).toBe(0);
  });

  test('reads version 2 with any size, plain and compressed', () => {
    const glyphs = noiseGlyphs(LARGE, 300, 2);
    const file = psf2(LARGE, glyphs, letters(300));
    const font = parsePsf(file, 'b');

    expect(font).toMatchObject({ name: 'b', ...LARGE, characters: letters(300) });
    expect(Buffer.compare(font.glyphs, Buffer.concat(glyphs))).toBe(0);
    expect(parsePsf(gzipSync(file), 'b')).toEqual(font);
  });

  test('takes ASCII, else the first character that is listed, and leaves sequences out', () => {
    const table = ['\u00a0 \u2002', 'ÁΑ', '\ufffeA\u0301', '', '\x01\u263a', ...letters(251)];
    const expected = [' ', 'Á', '\ufffd', '\ufffd', '\u263a', ...letters(251)];

    expect(parsePsf(psf1(14, noiseGlyphs(SMALL, 256, 3), table), 'c').characters).toEqual(expected);
    expect(parsePsf(psf2(LARGE, noiseGlyphs(LARGE, 256, 3), table), 'c').characters).toEqual(expected);
  });

  test('takes the position for the character without a table', () => {
    const { characters } = parsePsf(psf1(14, noiseGlyphs(SMALL, 512, 4)), 'd');

    expect([characters[0x41], characters[0xe9], characters[0x1b], characters[0x90], characters[300]]).toEqual([
      ...['A', 'é', '\ufffd', '\ufffd', '\ufffd'],
    ]);
  });

  test.each<[string, Buffer]>([
    ['neither of the two signatures', Buffer.from('\x7fELF')],
    ['neither of the two signatures', Buffer.alloc(0)],
    ['gzip file that cannot be unpacked', Buffer.of(0x1f, 0x8b, 8)],
    ['gzip file that cannot be unpacked', gzipSync(Buffer.alloc(2 ** 22 + 1))],
    ['glyphs of 8x0', psf1(0, noiseGlyphs(SMALL, 256, 1))],
    ['glyphs of 65x16', psf2({ width: 65, height: 16 }, noiseGlyphs({ width: 65, height: 16 }, 1, 1))],
    ['have 14 bytes, not 15', psf2(SMALL, noiseGlyphs({ width: 8, height: 15 }, 2, 1))],
    ['version 2.1', Buffer.concat([psf2(SMALL, noiseGlyphs(SMALL, 2, 1))]).fill(1, 4, 5)],
    ['truncated table', psf2(SMALL, noiseGlyphs(SMALL, 2, 1), ['a'])],
  ])('refuses what is none: %s', (message, bytes) => {
    expect(() => parsePsf(bytes, 'e')).toThrow(
      expect.objectContaining({
        name: 'FontError',
        code: 'format',
        message: expect.stringContaining(message) as string,
      }),
    );
  });

  test('refuses a font that ends at any byte before its end', () => {
    for (const file of [
      psf1(14, noiseGlyphs(SMALL, 256, 1), letters(256)),
      psf2(LARGE, noiseGlyphs(LARGE, 9, 1), letters(9)),
    ]) {
      for (let end = 0; end < file.length - 1; end += 1 + (end % 7)) {
        expect(() => parsePsf(file.subarray(0, end), 'f')).toThrow(FontError);
      }
    }
  });

  test('refuses or understands any bytes, and throws nothing else', () => {
    const files = [
      psf1(4, noiseGlyphs({ width: 8, height: 4 }, 256, 1), letters(256)),
      psf2(LARGE, noiseGlyphs(LARGE, 5, 1), letters(5)),
    ];
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.constantFrom(...files), damage, fc.boolean(), (file, changes, isInHeader) => {
        const bytes = Buffer.from(file);
        for (const [at, value] of changes) bytes[at % (isInHeader ? 32 : bytes.length)] = value;
        try {
          const { glyphs, characters, width, height } = parsePsf(bytes, 'g');
          expect(glyphs.length).toBe(characters.length * height * Math.ceil(width / 8));
        } catch (error) {
          expect(error).toBeInstanceOf(FontError);
        }
      }),
    );
  });
});

test('installedFonts: lists usual fonts first and leaves out what is no font; readPsf names the file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'scanout-fonts-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = psf1(14, noiseGlyphs(SMALL, 256, 1));
  writeFileSync(join(folder, 'Arabic-Fixed14.psf.gz'), gzipSync(file));
  writeFileSync(join(folder, 'Lat15-Fixed14.psfu'), file);
  writeFileSync(join(folder, 'broken.psf'), 'x');
  writeFileSync(join(folder, 'README'), file);
  const fonts = await installedFonts([join(folder, 'none'), folder]);

  expect(fonts.map(({ name }) => name)).toEqual(['Lat15-Fixed14', 'Arabic-Fixed14']);
  await expect(readPsf(join(folder, 'broken.psf'))).rejects.toThrow(/broken\.psf: not a PSF font/);
});
