import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync, inflateSync } from 'node:zlib';
import { encode } from 'fast-png';
import { decodePng, encodePng, encodePngAside } from '../../display/picture/png.ts';
import { type Picture, readerOf } from '../../src/core/picture.ts';
import type { Benchmark, Measurement } from './benchmark.ts';

const ROUNDS = 11;
const FIXTURE = join(import.meta.dirname, '../../fixtures/console.png');

/** What a guest's console shows, as often as it fits. */
function consoles(width: number, height: number): Picture {
  const console = decodePng(readFileSync(FIXTURE));
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x += console.width) {
      const from = (y % console.height) * console.width * 4;
      data.set(console.data.subarray(from, from + Math.min(console.width, width - x) * 4), (y * width + x) * 4);
    }
  }
  return { width, height, data };
}

/** Slow waves of colour, with noise in the lowest bits. */
function photograph(width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 4).fill(255);
  let seed = 1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        const wave = 128 + 80 * Math.sin(x / 97 + channel) + 40 * Math.cos(y / 61 + channel * 2);
        data[(y * width + x) * 4 + channel] = wave + (seed >>> 29);
      }
    }
  }
  return { width, height, data };
}

function withoutAlpha({ data }: Picture): Uint8Array {
  return data.filter((_, i) => i % 4 !== 3);
}

async function time(run: () => unknown): Promise<number[]> {
  const samples: number[] = [];
  for (let round = -2; round < ROUNDS; round++) {
    const started = performance.now();
    await run();
    if (round >= 0) samples.push(performance.now() - started);
  }
  return samples;
}

/** `level` is what the picture is compressed with. */
const PICTURES: readonly (readonly [name: string, picture: () => Picture, level: number, encodeMs: number | null])[] = [
  ['1080p console', () => consoles(1920, 1080), 3, 12],
  ['4K console', () => consoles(3840, 2160), 3, 40],
  ['1080p photograph', () => photograph(1920, 1080), 1, null],
];
/** Where the contents of the third chunk begin, which is the only IDAT: after the signature, IHDR, its length and type. */
const IDAT = 8 + 25 + 8;
/** What ends a file behind them: their checksum and IEND. */
const END = 4 + 12;
/** Files of ours against those of fast-png's default, zlib's level 6 without filters. */
const SIZE_GOAL = 1.05;

export const pngBench: Benchmark = {
  name: 'png',
  about: 'screenshots as PNG files: time and size',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const [name, make, level, encodeMs] of PICTURES) {
      progress(name);
      const picture = make();
      const { width, height } = picture;
      const file = encodePng(picture);
      const peer = encode({ width, height, data: withoutAlpha(picture), depth: 8, channels: 3 });
      const compressed = file.subarray(IDAT, -END);
      const rows = inflateSync(compressed);
      const common = { better: 'less', unit: 'ms' } as const;
      const encoding = await time(() => encodePngAside(readerOf(picture)));
      measurements.push(
        { ...common, name: `png/${name}, encode`, ours: encoding, peer: null, goal: encodeMs },
        {
          ...common,
          name: `png/${name}, encode, against zlib alone`,
          ours: encoding,
          peer: { name: 'zlib', samples: await time(() => deflateSync(rows, { level, chunkSize: 2 ** 20 })) },
          goal: null,
        },
        {
          ...common,
          name: `png/${name}, decode, against zlib alone`,
          ours: await time(() => decodePng(file)),
          peer: { name: 'zlib', samples: await time(() => inflateSync(compressed, { chunkSize: rows.length + 64 })) },
          goal: null,
        },
        {
          name: `png/${name}, size`,
          unit: 'bytes',
          better: 'less',
          ours: [file.length],
          peer: { name: 'fast-png', samples: [peer.length] },
          goal: SIZE_GOAL,
        },
      );
    }
    return measurements;
  },
};
