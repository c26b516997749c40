import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Needle } from '../../display/picture/needle.ts';
import { crop } from '../../display/picture/difference.ts';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { alternate, type BenchContext, type Benchmark, type Measurement } from './benchmark.ts';

const ROUNDS = 11;
const OCR_ROUNDS = 3;
const WIDTH = 1920;
const HEIGHT = 1080;
/** Near the end of a scan. */
const PLACE: Rect = { x: 1700, y: 1000, width: 160, height: 32 };

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

function sample(name: string, goal: number | null, run: () => unknown): Measurement {
  const ours: number[] = [];
  for (let round = -2; round < ROUNDS; round++) {
    const started = performance.now();
    run();
    if (round >= 0) ours.push(performance.now() - started);
  }
  return { name: `find/${name}`, unit: 'ms', better: 'less', ours, peer: null, goal };
}

/** What a test does when the picture is not there: it looks, and describes the most similar place. */
function miss(needle: Needle, picture: Picture, threshold: number): void {
  if (needle.find(picture, { threshold })) throw new Error('found what is not there');
  needle.describeNearest(picture, { threshold });
}

function hit(needle: Needle, picture: Picture, threshold: number): void {
  const found = needle.find(picture, { threshold });
  if (found?.x !== PLACE.x || found.y !== PLACE.y) throw new Error('not found where it is');
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  progress('pictures');
  const there = screen();
  const gone = without(there);
  const button = crop(there, PLACE);
  const exact = new Needle(button, null);
  const nearly = new Needle(similar(button), null);
  const measurements = [
    sample('1080p anywhere, equal, there', 10, () => hit(exact, there, 0)),
    sample('1080p anywhere, equal, not there', 30, () => miss(exact, gone, 0)),
    sample('1080p anywhere, similar, there', null, () => hit(nearly, there, 0.04)),
    sample('1080p anywhere, similar, not there', null, () => miss(nearly, gone, 0.04)),
  ];
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
  const name = 'tesseract';
  return [
    ...measurements,
    {
      name: `find/text of a console, ${name}`,
      unit: 'ms',
      better: 'less',
      ours,
      peer: { name, samples: peer },
      goal: 1,
    },
  ];
}

export const find: Benchmark = {
  name: 'find',
  about: 'finding a picture on a screen of 1080p, and reading a console, against tesseract',
  needsQuiet: true,
  missing: () =>
    spawnSync('tesseract', ['--version']).error ? 'tesseract and console fonts: sh test/rig/install.sh' : null,
  run,
};
