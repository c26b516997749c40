import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FindOptions, Needle } from '../../display/picture/needle.ts';
import { crop } from '../../display/picture/difference.ts';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { cacheDir } from '../rig/guest-image.ts';
import { alternate, type BenchContext, type Benchmark, type Measurement } from './benchmark.ts';
import { lines } from './lines.ts';

const ROUNDS = 11;
const OCR_ROUNDS = 3;
const WIDTH = 1920;
const HEIGHT = 1080;
/** Near the end of a scan. */
const PLACE: Rect = { x: 1700, y: 1000, width: 160, height: 32 };
/** What a needle of os-autoinst allows: 96 percent. */
const SIMILAR = 0.04;
const TINYCV = join(cacheDir, 'tinycv');

const consolePicture = (): Picture => decodePng(readFileSync(join(import.meta.dirname, '../../fixtures/console.png')));

/** Consoles side by side, with a button on them. */
function screen(): Picture {
  const { width, height, data } = consolePicture();
  const pixels = new Uint8Array(WIDTH * HEIGHT * 4);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x += width) {
      const from = (y % height) * width * 4;
      pixels.set(data.subarray(from, from + Math.min(width, WIDTH - x) * 4), (y * WIDTH + x) * 4);
    }
  }
  const picture = { width: WIDTH, height: HEIGHT, data: pixels };
  for (let y = 4; y < PLACE.height - 4; y++) {
    for (let x = 4; x < PLACE.width - 4; x++) {
      const at = ((PLACE.y + y) * WIDTH + PLACE.x + x) * 4;
      // A shade, with the text that is there.
      pixels[at + 2] = Math.max(pixels[at + 2]!, 120 + y);
    }
  }
  return picture;
}

/** The same with each channel a little off. */
function similar({ width, height, data }: Picture): Picture {
  return { width, height, data: data.map((value, i) => (i % 4 === 3 ? value : Math.min(255, value + (i % 3)))) };
}

function without(picture: Picture): Picture {
  const data = picture.data.slice();
  for (let y = PLACE.y; y < PLACE.y + PLACE.height; y++)
    data.fill(0x20, (y * WIDTH + PLACE.x) * 4, (y * WIDTH + PLACE.x + PLACE.width) * 4);
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  return { ...picture, data };
}

function sample(name: string, goal: number, run: () => unknown): Measurement {
  const ours: number[] = [];
  for (let round = -2; round < ROUNDS; round++) {
    const started = performance.now();
    run();
    if (round >= 0) ours.push(performance.now() - started);
  }
  return { name: `find/${name}`, unit: 'ms', better: 'less', ours, peer: null, goal };
}

/** What a test does when the picture is not there: it looks, and describes the most similar place. */
function miss(needle: Needle, picture: Picture, options: FindOptions): void {
  if (typeof needle.findOrDescribe(picture, options) !== 'string') throw new Error('found what is not there');
}

function hit(needle: Needle, picture: Picture, options: FindOptions): void {
  const found = needle.find(picture, options);
  if (found?.x !== PLACE.x || found.y !== PLACE.y) throw new Error('not found where it is');
}

/** tinycv, which os-autoinst looks for needles with, and one screen. */
class Tinycv implements AsyncDisposable {
  readonly #program;
  readonly #line: () => Promise<string>;

  /** `needle` is a whole screen, of which PLACE is looked for. */
  constructor(screen: string, needle: string) {
    const area = Object.values(PLACE).map(String);
    const script = join(import.meta.dirname, 'find/tinycv.pl');
    this.#program = spawn('perl', [`-I${TINYCV}`, script, screen, needle, ...area], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#line = lines(this.#program.stdout, 'tinycv');
  }

  /** Milliseconds that it takes to look no more than `margin` pixels away, and whether it is there. */
  async look(margin: number): Promise<{ ms: number; isFound: boolean }> {
    this.#program.stdin.write(`${margin}\n`);
    const [ms = NaN, similarity = NaN, x, y] = (await this.#line()).split(' ').map(Number);
    return { ms, isFound: similarity >= 1 - SIMILAR && x === PLACE.x && y === PLACE.y };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#program, 'close');
    this.#program.stdin.end();
    await closed;
  }
}

/** Looking for similar pixels, against tinycv. */
async function againstTinycv(screens: Readonly<Record<'there' | 'gone', Picture>>): Promise<Measurement[]> {
  const directory = mkdtempSync(join(tmpdir(), 'scanout-bench-find-'));
  try {
    const file = (name: string, picture: Picture): string => {
      const path = join(directory, `${name}.png`);
      writeFileSync(path, encodePng(picture));
      return path;
    };
    const nearly = similar(screens.there);
    const needle = new Needle(crop(nearly, PLACE), null);
    const needleFile = file('needle', nearly);
    const row = async (name: string, where: 'there' | 'gone', margin: number | null): Promise<Measurement> => {
      const screen = screens[where];
      await using tinycv = new Tinycv(file(where, screen), needleFile);
      const options = {
        threshold: SIMILAR,
        near: PLACE,
        ...(margin === null ? { anywhere: true } : { margin }),
      };
      const look = where === 'there' ? hit : miss;
      const { ours, peer } = await alternate(
        ROUNDS,
        () => {
          const started = performance.now();
          look(needle, screen, options);
          return performance.now() - started;
        },
        async () => {
          const { ms, isFound } = await tinycv.look(margin ?? WIDTH);
          if (isFound !== (where === 'there')) throw new Error(`tinycv says ${isFound} of a picture that is ${where}`);
          return ms;
        },
      );
      return {
        name: `find/1080p ${name}`,
        unit: 'ms',
        better: 'less',
        ours,
        peer: { name: 'tinycv', samples: peer },
        goal: 1,
      };
    };
    return [
      await row('anywhere, similar, there', 'there', null),
      await row('anywhere, similar, not there', 'gone', null),
      await row('within 50 pixels, similar, there', 'there', 50),
      await row('within 50 pixels, similar, not there', 'gone', 50),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  progress('pictures');
  const there = screen();
  const gone = without(there);
  const button = crop(there, PLACE);
  const exact = new Needle(button, null);
  const measurements = [
    sample('1080p anywhere, equal, there', 10, () => hit(exact, there, {})),
    sample('1080p anywhere, equal, not there', 30, () => miss(exact, gone, {})),
  ];
  progress('tinycv');
  measurements.push(...(await againstTinycv({ there, gone })));
  progress('text');
  const console = consolePicture();
  const reader = await ScreenReader.open();
  const png = encodePng(console);
  const { ours, peer } = await alternate(
    OCR_ROUNDS,
    () => {
      const started = performance.now();
      const text = reader.readConsole(console);
      if (text?.unread !== 0) throw new Error('no font of this machine has the glyphs of the console');
      return performance.now() - started;
    },
    () => {
      const started = performance.now();
      const { status, error } = spawnSync('tesseract', ['stdin', 'stdout'], { input: png });
      if (status !== 0) throw error ?? new Error(`tesseract ended with ${status}`);
      return performance.now() - started;
    },
  );
  measurements.push({
    name: 'find/text of a console',
    unit: 'ms',
    better: 'less',
    ours,
    peer: { name: 'tesseract', samples: peer },
    goal: null,
  });
  return measurements;
}

export const find: Benchmark = {
  name: 'find',
  about: 'finding a picture on a screen of 1080p, and reading a console, against tinycv and tesseract',
  needsQuiet: true,
  missing: () =>
    spawnSync('tesseract', ['--version']).error || !existsSync(join(TINYCV, 'auto'))
      ? 'tesseract, tinycv and console fonts: sh test/rig/install.sh'
      : null,
  run,
};
