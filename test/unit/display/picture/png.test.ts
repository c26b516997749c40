import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { encode } from 'fast-png';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { decodePng, encodePng, PngError, writePng } from '../../../../display/picture/png.ts';
import type { Picture } from '../../../../src/core/picture.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-png-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function picture(width: number, height: number, byte: (i: number) => number): Picture {
  return { width, height, data: Uint8Array.from({ length: width * height * 4 }, (_, i) => (i % 4 === 3 ? 255 : byte(i))) };
}

test('what was encoded comes back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), fc.nat(), (width, height, seed) => {
      const original = picture(width, height, (i) => (i * 31 + seed) & 255);
      expect(decodePng(encodePng(original))).toEqual(original);
    }),
    { numRuns: 30 },
  );
});

test('the file is RGB of 8 bits, holds nothing but the picture, and its check sums are right', () => {
  const bytes = encodePng(picture(3, 2, (i) => i));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chunks: string[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    chunks.push(Buffer.from(bytes.subarray(at + 4, at + 8)).toString('latin1'));
    expect(view.getUint32(at + 8 + length)).toBe(crc32(bytes.subarray(at + 4, at + 8 + length)));
    at += 12 + length;
  }

  expect(chunks).toEqual(['IHDR', 'IDAT', 'IEND']);
  expect([...bytes.subarray(16, 29)]).toEqual([0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
});

test('a picture whose bytes do not fit its size is not encoded', () => {
  expect(() => encodePng({ width: 2, height: 2, data: new Uint8Array(15) })).toThrow(RangeError);
});

test('what is transparent is shown on black, as on a screen', () => {
  const png = encode({ width: 3, height: 1, data: Uint8Array.of(200, 100, 50, 255, 200, 100, 50, 128, 200, 100, 50, 0), channels: 4, depth: 8 });

  expect([...decodePng(png).data]).toEqual([200, 100, 50, 255, 100, 50, 25, 255, 0, 0, 0, 255]);
});

test.each([
  ['no PNG', Uint8Array.of(1, 2, 3), 'not a PNG'],
  ['nothing', new Uint8Array(), 'not a PNG'],
  ['a PNG cut short', encodePng(picture(8, 8, (i) => i)).subarray(0, 40), 'cut short'],
  ['a wrong check sum', encodePng(picture(8, 8, (i) => i)).with(29, 0), 'CRC'],
])('%s is refused', (_what, bytes, message) => {
  expect(() => decodePng(bytes)).toThrow(PngError);
  expect(() => decodePng(bytes)).toThrow(message);
});

test('a file is replaced as a whole and leaves no other behind', async () => {
  const path = join(directory, 'screen.png');
  writeFileSync(path, 'old');
  const old = statSync(path).ino;
  const shown = picture(5, 4, (i) => i);

  await writePng(path, shown);

  expect(decodePng(readFileSync(path))).toEqual(shown);
  expect(statSync(path).ino).not.toBe(old);
  expect(readdirSync(directory)).toEqual(['screen.png']);
});

test('a file that cannot be put in place leaves nothing behind', async () => {
  await expect(writePng(directory, picture(1, 1, () => 0))).rejects.toThrow();

  expect(readdirSync(join(directory, '..')).filter((name) => name.startsWith(`${directory.split('/').at(-1)!}.`))).toEqual([]);
});
