import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pixelmatch from 'pixelmatch';
import { comparePictures, type CompareOptions } from '../../display/picture/compare.ts';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { alternate, type BenchContext, type Benchmark, type Measurement } from './benchmark.ts';

const ROOT = join(import.meta.dirname, '../..');
const SCANOUT = join(ROOT, 'dist/src/cli/main.js');

const ROUNDS = 11;
/** Comparisons in memory per sample, which is their mean. */
const REPEATS = 5;
const FILE_ROUNDS = 9;

const SIZES: readonly (readonly [string, Size])[] = [
  ['1080p', { width: 1920, height: 1080 }],
  ['4K', { width: 3840, height: 2160 }],
];

/** A picture of that size, tiled with a picture of a console. */
function screen({ width, height }: Size): Picture {
  const tile = decodePng(readFileSync(join(ROOT, 'fixtures/console.png')));
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    const row = tile.data.subarray((y % tile.height) * tile.width * 4, ((y % tile.height) + 1) * tile.width * 4);
    for (let x = 0; x < width; x += tile.width)
      data.set(row.subarray(0, Math.min(tile.width, width - x) * 4), (y * width + x) * 4);
  }
  return { width, height, data };
}

function changed(picture: Picture, change: (bytes: Uint8Array, stride: number) => void): Picture {
  const data = picture.data.slice();
  change(data, picture.width * 4);
  return { ...picture, data };
}

const CASES: readonly (readonly [string, (picture: Picture) => Picture])[] = [
  ['same', (picture) => changed(picture, () => undefined)],
  [
    '5 pixels',
    (picture) =>
      changed(picture, (bytes, stride) =>
        [100, 101, 102, 500, 900].forEach((y) => (bytes[y * stride + 4 * y]! ^= 255)),
      ),
  ],
  ['a line of text', (picture) => changed(picture, (bytes, stride) => bytes.copyWithin(16 * stride, 0, 16 * stride))],
  [
    'all',
    (picture) => changed(picture, (bytes) => bytes.forEach((value, i) => (bytes[i] = i % 4 === 3 ? 255 : 255 - value))),
  ],
];

interface Pair {
  readonly name: string;
  readonly expected: Picture;
  readonly actual: Picture;
}

function milliseconds(run: () => void): number {
  const started = performance.now();
  for (let n = 0; n < REPEATS; n++) run();
  return (performance.now() - started) / REPEATS;
}

async function against(
  name: string,
  peer: string,
  goal: number | null,
  ours: () => void,
  theirs: () => void,
): Promise<Measurement> {
  const samples = await alternate(
    ROUNDS,
    () => milliseconds(ours),
    () => milliseconds(theirs),
  );
  return {
    name: `compare-pictures/${name}, ${peer}`,
    unit: 'ms',
    better: 'less',
    ours: samples.ours,
    peer: { name: peer, samples: samples.peer },
    goal,
  };
}

/** Compares pixels in memory, against a library that reads all of them. */
async function inMemory({ name, expected, actual }: Pair): Promise<Measurement[]> {
  const { width, height } = expected;
  const perceptual: CompareOptions = { threshold: 0.1, ignoreAntialiasing: true };
  const compare = (options?: CompareOptions) => () => comparePictures(expected, actual, options);
  return [
    await against(`${name}, exact`, 'pixelmatch', 1, compare(), () =>
      pixelmatch(expected.data, actual.data, undefined, width, height, { threshold: 0, includeAA: true }),
    ),
    await against(`${name}, perceptual`, 'pixelmatch', 1, compare(perceptual), () =>
      pixelmatch(expected.data, actual.data, undefined, width, height, { threshold: 0.1 }),
    ),
    await against(
      `${name}, explained`,
      'comparing alone',
      null,
      () => comparePictures(expected, actual).explanation,
      compare(),
    ),
  ];
}

/** Compares PNG files by whole commands, including their start and the decoding. */
async function onFiles({ name, expected, actual }: Pair, directory: string): Promise<Measurement[]> {
  const [a, b] = [join(directory, 'expected.png'), join(directory, 'actual.png')];
  writeFileSync(a, encodePng(expected));
  writeFileSync(b, encodePng(actual));
  const command = (program: string, args: string[]) => (): number => {
    const started = performance.now();
    const { error, signal } = spawnSync(program, args, { stdio: 'ignore' });
    if (error ?? signal) throw error ?? new Error(`${program} ended by ${signal}`);
    return performance.now() - started;
  };
  const ours = command(process.execPath, [SCANOUT, 'compare', a, b]);
  const peer = "ImageMagick's compare -metric AE";
  const samples = await alternate(FILE_ROUNDS, ours, command('compare', ['-metric', 'AE', a, b, 'null:']));
  return [
    {
      name: `compare-pictures/${name}, command, ${peer}`,
      unit: 'ms',
      better: 'less',
      ours: samples.ours,
      peer: { name: peer, samples: samples.peer },
      isPaired: true,
      goal: 1,
    },
  ];
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  const measurements: Measurement[] = [];
  const directory = mkdtempSync(join(tmpdir(), 'scanout-bench-'));
  try {
    for (const [size, dimensions] of SIZES) {
      const expected = screen(dimensions);
      for (const [what, change] of CASES) {
        const pair = { name: `${size} ${what}`, expected, actual: change(expected) };
        progress(pair.name);
        measurements.push(...(await inMemory(pair)), ...(await onFiles(pair, directory)));
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  return measurements;
}

export const comparePicturesBench: Benchmark = {
  name: 'compare-pictures',
  about: "comparing screenshots of 1080p and 4K, against pixelmatch and ImageMagick's compare",
  needsQuiet: true,
  missing: () => {
    if (!existsSync('/usr/bin/compare')) return "ImageMagick's compare: sh test/rig/install.sh";
    return existsSync(SCANOUT) ? null : 'dist: npm run build';
  },
  run,
};
