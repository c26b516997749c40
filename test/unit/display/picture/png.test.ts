import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { decode, encode } from 'fast-png';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  decodePng,
  encodePng,
  encodePngAside,
  PngError,
  pngSize,
  readPng,
  writePng,
} from '../../../../display/picture/png.ts';
import { type Picture, type PictureReader, readerOf } from '../../../../src/core/picture.ts';
import { skipWithoutProgram } from '../../../rig/skip.ts';
import { colourAt, draw, noisePicture } from './pictures.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-png-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function picture(width: number, height: number, byte: (i: number) => number): Picture {
  return {
    width,
    height,
    data: Uint8Array.from({ length: width * height * 4 }, (_, i) => (i % 4 === 3 ? 255 : byte(i))),
  };
}

test('decodePng: returns what encodePng encoded', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), fc.nat(), (width, height, seed) => {
      const original = picture(width, height, (i) => (i * 31 + seed) & 255);
      expect(decodePng(encodePng(original))).toEqual(original);
    }),
    { numRuns: 30 },
  );
});

test('encodePng: another decoder reads flat and uneven pictures, of bytes that begin anywhere', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(1, 3, 100),
      fc.constantFrom(0, 1, 4),
      (width, height, run, offset) => {
        const { data } = picture(width, height, (i) => (Math.floor(i / 4 / run) * 4 + (i & 3)) * 31);
        const moved = new Uint8Array(data.length + offset).subarray(offset);
        moved.set(data);
        const decoded = decode(encodePng({ width, height, data: moved }), { checkCrc: true });
        expect(decoded).toMatchObject({ width, height, channels: 3, data: data.filter((_, i) => i % 4 !== 3) });
      },
    ),
    { numRuns: 60 },
  );
});

test('encodePng: makes smaller files of a picture without flat parts than of one without its filter', () => {
  const noisy = picture(256, 64, (i) => 100 + 80 * Math.sin((i % 1024) / 50) + (Math.imul(i, 0x9e3779b1) >>> 30));
  const rgb = noisy.data.filter((_, i) => i % 4 !== 3);
  expect(encodePng(noisy).length).toBeLessThan(deflateSync(rgb).length * 0.8);
});

test.each([
  ['small', picture(37, 5, (i) => (i * 31) & 255)],
  ['of several bands', picture(509, 600, (i) => i >> 12)],
  ['of several bands, without flat parts', picture(509, 600, (i) => 128 + 100 * Math.sin(i / 50))],
  ['of bands of one row', picture(140_001, 3, (i) => (i * 31) & 255)],
])('encodePngAside: makes the file of encodePng: a picture %s', async (_, original) => {
  const bytes = await encodePngAside(readerOf(original));
  expect(Buffer.compare(bytes, encodePng(original))).toBe(0);
  expect(Buffer.compare(decodePng(bytes).data, original.data)).toBe(0);
});

test('encodePngAside: rejects with what reading a row throws, at once or later', async () => {
  const original = readerOf(picture(509, 600, (i) => i >> 12));
  for (const failing of [1, 40]) {
    let reads = 0;
    const read: PictureReader['read'] = (top, bottom, pixels) => {
      if (++reads === failing) throw new Error('the dma-buf is gone');
      original.read(top, bottom, pixels);
    };
    await expect(encodePngAside({ ...original, read })).rejects.toThrow('the dma-buf is gone');
  }
});

test('encodePng: encodes pixels that begin anywhere in their memory', async () => {
  const { width, height, data } = picture(37, 5, (i) => (i * 31) & 255);
  const moved = { width, height, data: Buffer.concat([Buffer.of(0), data]).subarray(1) };
  expect(encodePng(moved)).toEqual(encodePng({ width, height, data }));
  expect(await encodePngAside(readerOf(moved))).toEqual(encodePng(moved));
});

test('encodePng: writes 8-bit RGB, no metadata and correct checksums', () => {
  const bytes = encodePng(picture(3, 2, (i) => i));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chunks: string[] = [];
  for (let at = 8; at < bytes.length;) {
    const length = view.getUint32(at);
    chunks.push(Buffer.from(bytes.subarray(at + 4, at + 8)).toString('latin1'));
    expect(view.getUint32(at + 8 + length)).toBe(crc32(bytes.subarray(at + 4, at + 8 + length)));
    at += 12 + length;
  }

  expect(chunks).toEqual(['IHDR', 'IDAT', 'IEND']);
  expect([...bytes.subarray(16, 29)]).toEqual([0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
});

test('encodePng: refuses a picture whose bytes do not fit its size', () => {
  expect(() => encodePng({ width: 2, height: 2, data: new Uint8Array(15) })).toThrow(RangeError);
});

test('decodePng: blends transparent pixels with black', () => {
  const png = encode({
    width: 3,
    height: 1,
    data: Uint8Array.of(200, 100, 50, 255, 200, 100, 50, 128, 200, 100, 50, 0),
    channels: 4,
    depth: 8,
  });

  expect([...decodePng(png).data]).toEqual([200, 100, 50, 255, 100, 50, 25, 255, 0, 0, 0, 255]);
});

test.each([
  ['bytes that are not a PNG', Uint8Array.of(1, 2, 3), 'not a PNG'],
  ['an empty file', new Uint8Array(), 'not a PNG: it is empty'],
  [
    'a Git LFS pointer',
    Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'),
    'a Git LFS pointer instead of a PNG: fetch the picture with `git lfs pull`',
  ],
  ['a truncated PNG', encodePng(picture(8, 8, (i) => i)).subarray(0, 40), 'truncated'],
  ['a wrong checksum', encodePng(picture(8, 8, (i) => i)).with(29, 0), 'CRC'],
])('decodePng: refuses %s', (_what, bytes, message) => {
  expect(() => decodePng(bytes)).toThrow(PngError);
  expect(() => decodePng(bytes)).toThrow(message);
});

test('writePng: replaces a file atomically and leaves no temporary file', async () => {
  const path = join(directory, 'screen.png');
  writeFileSync(path, 'old');
  const old = statSync(path).ino;
  const shown = picture(5, 4, (i) => i);

  await writePng(path, shown);

  expect(decodePng(readFileSync(path))).toEqual(shown);
  expect(statSync(path).ino).not.toBe(old);
  expect(readdirSync(directory)).toEqual(['screen.png']);
});

test('writePng: leaves no temporary file when the rename fails', async () => {
  await expect(
    writePng(
      directory,
      picture(1, 1, () => 0),
    ),
  ).rejects.toThrow();

  expect(readdirSync(directory)).toEqual([]);
});

/** A chunk with its length and check sum. */
function chunk(type: string, content: Uint8Array): Buffer {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), content]);
  const numbers = Buffer.alloc(8);
  numbers.writeUInt32BE(content.length, 0);
  numbers.writeUInt32BE(crc32(typed), 4);
  return Buffer.concat([numbers.subarray(0, 4), typed, numbers.subarray(4)]);
}

interface Parts {
  readonly width: number;
  readonly height: number;
  readonly depth?: number;
  readonly colourType?: number;
  readonly interlace?: number;
  /** Rows with their filter bytes, not compressed. */
  readonly rows: Uint8Array;
  /** Chunks between header and pixels. */
  readonly before?: readonly Uint8Array[];
}

function png({ width, height, depth = 8, colourType = 2, interlace = 0, rows, before = [] }: Parts): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, colourType, 0, 0, interlace], 8);
  const signature = Buffer.from('89504e470d0a1a0a', 'hex');
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    ...before,
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', new Uint8Array()),
  ]);
}

describe('decodePng', () => {
  test('reads a 2-bit palette with alpha', () => {
    const palette = chunk('PLTE', Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 200));
    const alpha = chunk('tRNS', Uint8Array.of(255, 0, 128));

    const { data } = decodePng(
      png({
        width: 3,
        height: 1,
        depth: 2,
        colourType: 3,
        rows: Uint8Array.of(0, 0b00_01_10_00),
        before: [palette, alpha],
      }),
    );

    expect([...data]).toEqual([255, 0, 0, 255, 0, 0, 0, 255, 0, 0, 100, 255]);
  });

  test('blends a grey that tRNS makes transparent', () => {
    const { data } = decodePng(
      png({
        width: 3,
        height: 1,
        depth: 4,
        colourType: 0,
        rows: Uint8Array.of(0, 0x0f, 0x70),
        before: [chunk('tRNS', Uint8Array.of(0, 15))],
      }),
    );

    expect([...data]).toEqual([0, 0, 0, 255, 0, 0, 0, 255, 119, 119, 119, 255]);
  });

  test('blends a 16-bit colour that tRNS makes transparent', () => {
    const rows = Uint8Array.of(
      0,
      0x12,
      0x34,
      0xff,
      0xff,
      0x80,
      0x80,
      0x12,
      0x35,
      0xff,
      0xff,
      0x80,
      0x80,
      0,
      0,
      0,
      0,
      0,
      0,
    );

    const { data } = decodePng(
      png({
        width: 3,
        height: 1,
        depth: 16,
        rows,
        before: [chunk('tRNS', Uint8Array.of(0x12, 0x34, 0xff, 0xff, 0x80, 0x80))],
      }),
    );

    expect([...data]).toEqual([0, 0, 0, 255, 0x12, 255, 0x80, 255, 0, 0, 0, 255]);
  });

  test('skips profiles, texts and unknown chunks without decompressing them', () => {
    const bomb = Buffer.concat([Buffer.from('p\0\0', 'latin1'), Buffer.from('not zlib')]);

    const { data } = decodePng(
      png({
        width: 1,
        height: 1,
        rows: Uint8Array.of(0, 1, 2, 3),
        before: [chunk('iCCP', bomb), chunk('zTXt', bomb), chunk('quUx', bomb)],
      }),
    );

    expect([...data]).toEqual([1, 2, 3, 255]);
  });
});

test.each<[string, Uint8Array, string]>([
  [
    '4 billion pixels',
    png({ width: 0x7fffffff, height: 0x7fffffff, rows: new Uint8Array(9) }),
    'a PNG of 2147483647x2147483647',
  ],
  ['no pixels', png({ width: 0, height: 4, rows: new Uint8Array(4) }), 'a PNG of 0x4'],
  [
    'more pixels than the header says',
    png({ width: 2, height: 2, rows: new Uint8Array(50_000_000) }),
    'exceed the size in its header',
  ],
  [
    'fewer pixels than the header says',
    png({ width: 2, height: 2, rows: new Uint8Array(7) }),
    'truncated PNG: 7 of 14 bytes',
  ],
  [
    'fewer interlaced pixels than the header says',
    png({ width: 9, height: 9, interlace: 1, rows: new Uint8Array(100) }),
    'truncated PNG: 100 of 262 bytes',
  ],
  [
    'more 16-bit pixels than it would have memory for',
    png({ width: 16384, height: 4097, depth: 16, rows: new Uint8Array(9) }),
    'supported are 1 to 67108864 pixels of 16 bits',
  ],
  [
    'a palette of more than 256 colours',
    png({
      width: 1,
      height: 1,
      colourType: 3,
      rows: Uint8Array.of(0, 0),
      before: [chunk('PLTE', new Uint8Array(771))],
    }),
    'a palette of 771 bytes',
  ],
  [
    'a palette of more colours than the samples can name',
    png({
      width: 1,
      height: 1,
      depth: 1,
      colourType: 3,
      rows: Uint8Array.of(0, 0),
      before: [chunk('PLTE', new Uint8Array(9))],
    }),
    'a palette of 9 bytes',
  ],
  [
    'a palette with part of a colour',
    png({ width: 1, height: 1, colourType: 3, rows: Uint8Array.of(0, 0), before: [chunk('PLTE', new Uint8Array(4))] }),
    'a palette of 4 bytes',
  ],
  [
    'two palettes',
    png({
      width: 1,
      height: 1,
      colourType: 3,
      rows: Uint8Array.of(0, 0),
      before: [chunk('PLTE', new Uint8Array(3)), chunk('PLTE', new Uint8Array(3))],
    }),
    'two palettes',
  ],
  [
    'alphas of more colours than the palette has',
    png({
      width: 1,
      height: 1,
      colourType: 3,
      rows: Uint8Array.of(0, 0),
      before: [chunk('PLTE', new Uint8Array(3)), chunk('tRNS', new Uint8Array(2))],
    }),
    'tRNS chunk of 2 bytes',
  ],
  [
    'a transparent colour of too few samples',
    png({ width: 1, height: 1, rows: Uint8Array.of(0, 0, 0, 0), before: [chunk('tRNS', new Uint8Array(2))] }),
    'tRNS chunk of 2 bytes',
  ],
  [
    'palette colours without a palette',
    png({ width: 1, height: 1, colourType: 3, rows: Uint8Array.of(0, 0) }),
    'without a palette',
  ],
  [
    'a colour beyond the palette',
    png({
      width: 1,
      height: 1,
      colourType: 3,
      rows: Uint8Array.of(0, 1),
      before: [chunk('PLTE', Uint8Array.of(1, 2, 3))],
    }),
    'a pixel of colour 1',
  ],
  [
    'bits that the colour type does not have',
    png({ width: 1, height: 1, depth: 4, rows: Uint8Array.of(0, 0) }),
    'colour type 2, 4 bits',
  ],
  ['a filter there is not', png({ width: 1, height: 1, rows: Uint8Array.of(9, 0, 0, 0) }), 'filter 9'],
])('decodePng: refuses %s', (_what, bytes, message) => {
  expect(() => decodePng(bytes)).toThrow(PngError);
  expect(() => decodePng(bytes)).toThrow(message);
});

test('decodePng: returns what fast-png decodes, for every filter', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.infiniteStream(fc.nat(255))), {
        minLength: 1,
        maxLength: 9,
      }),
      fc.constantFrom([8, 0, 1], [8, 2, 3], [8, 6, 4], [16, 0, 1], [16, 2, 3], [16, 6, 4]),
      (width, lines, [depth, colourType, channels]) => {
        const bytes = (width * channels * depth) / 8;
        const rows = Uint8Array.from(lines.flatMap(([filter, values]) => [filter, ...values.take(bytes)]));
        const file = png({ width, height: lines.length, depth: depth, colourType: colourType, rows });
        const { data } = decode(file);
        const most = 2 ** depth - 1;
        const sample = (pixel: number, channel: number): number =>
          data[pixel * channels + (channels === 1 ? 0 : channel)]! / most;
        const expected = Array.from({ length: width * lines.length }, (_, pixel) => {
          const alpha = channels === 4 ? sample(pixel, 3) : 1;
          return [...[0, 1, 2].map((channel) => sample(pixel, channel) * alpha * 255), 255];
        }).flat();

        const off = Math.max(...decodePng(file).data.map((value, i) => Math.abs(value - expected[i]!)));
        expect(off).toBeLessThanOrEqual(1);
      },
    ),
    { numRuns: 200 },
  );
});

test('decodePng: reads a picture between a million empty IDAT chunks', () => {
  const whole = encodePng(noisePicture(8, 4, 1));
  const empty = chunk('IDAT', new Uint8Array());
  const million = Buffer.alloc(empty.length * 1e6, empty);

  // 33 is the end of the header, 12 the length of IEND.
  const file = Buffer.concat([whole.subarray(0, 33), million, whole.subarray(33, -12), empty, whole.subarray(-12)]);

  expect(decodePng(file)).toEqual(noisePicture(8, 4, 1));
});

test('pngSize: accepts the size of every screenshot that encodePng makes, and encodePng refuses larger ones', () => {
  expect(pngSize(png({ width: 16384, height: 8192, rows: new Uint8Array(9) }))).toMatchObject({
    width: 16384,
    height: 8192,
  });
  expect(() => encodePng({ width: 16384, height: 8193, data: { length: 16384 * 8193 * 4 } as Uint8Array })).toThrow(
    'supported are 1 to 134217728 pixels',
  );
});

test('readPng: names the file in its errors', async () => {
  const path = join(directory, 'screen.png');
  writeFileSync(path, 'a JPEG');

  await expect(readPng(path)).rejects.toThrow(`${path}: not a PNG`);
});

test.each([
  ['more', 50_000_000, 'exceed the size in its header'],
  ['fewer', 7, 'truncated PNG: 7 of 14 bytes'],
])('readPng: refuses %s pixels than the header says, as decodePng does', async (_, length, message) => {
  const path = join(directory, 'size.png');
  const bytes = png({ width: 2, height: 2, rows: new Uint8Array(length) });
  writeFileSync(path, bytes);

  await expect(readPng(path)).rejects.toThrow(message);
  expect(() => decodePng(bytes)).toThrow(message);
});

test('readPng: refuses pixels that cannot be decompressed', async () => {
  const path = join(directory, 'damaged.png');
  const damaged = Buffer.from(png({ width: 2, height: 2, rows: new Uint8Array(14) }));
  const idat = damaged.indexOf('IDAT');
  const length = damaged.readUInt32BE(idat - 4);
  damaged.fill(0xff, idat + 4, idat + 4 + length);
  damaged.writeUInt32BE(crc32(damaged.subarray(idat, idat + 4 + length)), idat + 4 + length);
  writeFileSync(path, damaged);

  await expect(readPng(path)).rejects.toThrow(`${path}: a PNG whose pixels cannot be decompressed`);
});

test('decodePng: throws only PngError for a damaged file', () => {
  const whole = encodePng(noisePicture(24, 16, 5));
  const refused = (bytes: Uint8Array): boolean => {
    try {
      const { width, height, data } = decodePng(bytes);
      expect(data.length).toBe(width * height * 4);
      return false;
    } catch (error) {
      expect(error).toBeInstanceOf(PngError);
      return true;
    }
  };

  for (let length = 0; length < whole.length; length++) expect(refused(whole.subarray(0, length))).toBe(true);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      (changes, isHeaderOnly) => {
        const bytes = whole.slice();
        for (const [at, value] of changes) bytes[isHeaderOnly ? 16 + (at % 13) : at] = value;
        // With the right check sum the damage gets further.
        new DataView(bytes.buffer).setUint32(29, crc32(bytes.subarray(12, 29)));
        refused(bytes);
      },
    ),
    { numRuns: 2000 },
  );
});

// Debian's package imagemagick, which test/rig/install.sh installs.
describe.skipIf(skipWithoutProgram('compare'))('decodePng of files by ImageMagick', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'scanout-png-'));
    writeFileSync(join(directory, 'colours.png'), encodePng(draw(37, 21, (x, y) => [(x % 7) * 34, (y % 5) * 51, 85])));
    writeFileSync(
      join(directory, 'grey.png'),
      encodePng(draw(37, 21, (x, y) => [0, 0, 0].fill(((x + y) & 1) * 255) as [number, number, number])),
    );
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  // The words after the name are what the file's header has to say, so that the kind is what is tested.
  test.each([
    ['colours', 'PNG8', ['-define', 'png:bit-depth=8'], 8, 3, 0],
    ['colours', 'PNG24', [], 8, 2, 0],
    ['colours', 'PNG32', [], 8, 6, 0],
    ['colours', 'PNG48', [], 16, 2, 0],
    ['colours', 'PNG64', [], 16, 6, 0],
    ['colours', 'PNG24', ['-interlace', 'PNG'], 8, 2, 1],
    ['grey', 'PNG', ['-define', 'png:color-type=0', '-define', 'png:bit-depth=1'], 1, 0, 0],
    ['grey', 'PNG', ['-define', 'png:color-type=0', '-define', 'png:bit-depth=4'], 4, 0, 0],
    ['grey', 'PNG', ['-define', 'png:color-type=0', '-define', 'png:bit-depth=16'], 16, 0, 0],
    ['grey', 'PNG', ['-interlace', 'PNG', '-define', 'png:color-type=0', '-define', 'png:bit-depth=1'], 1, 0, 1],
    ['grey', 'PNG', ['-interlace', 'PNG', '-define', 'png:color-type=3', '-define', 'png:bit-depth=2'], 2, 3, 1],
    ['grey', 'PNG', ['-define', 'png:color-type=4', '-define', 'png:bit-depth=8'], 8, 4, 0],
    ['grey', 'PNG', ['-define', 'png:color-type=3', '-define', 'png:bit-depth=2'], 2, 3, 0],
  ])('reads %s as %s %j', (name, format, options, depth, colourType, interlace) => {
    const from = join(directory, `${name}.png`);
    const to = join(directory, 'converted.png');
    expect(spawnSync('convert-im6', [from, ...options, `${format}:${to}`], { encoding: 'utf8' }).stderr).toBe('');
    const bytes = readFileSync(to);

    expect([bytes[24], bytes[25], bytes[28]]).toEqual([depth, colourType, interlace]);
    expect(decodePng(bytes)).toEqual(decodePng(readFileSync(from)));
  });

  test('blends half transparent pixels with black as ImageMagick does', () => {
    const [half, flat] = [join(directory, 'half.png'), join(directory, 'flat.png')];
    spawnSync('convert-im6', [
      join(directory, 'colours.png'),
      '-alpha',
      'set',
      '-channel',
      'A',
      '-fx',
      'i/w',
      `PNG32:${half}`,
    ]);
    spawnSync('convert-im6', [half, '-background', 'black', '-flatten', `PNG24:${flat}`]);
    const [ours, theirs] = [decodePng(readFileSync(half)), decodePng(readFileSync(flat))];

    const off = Math.max(...ours.data.map((value, i) => Math.abs(value - theirs.data[i]!)));
    expect(off).toBeLessThanOrEqual(1);
    expect(colourAt(ours, 0, 0)).toEqual([0, 0, 0]);
  });
});
