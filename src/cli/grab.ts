import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { ExportedDisplay, ExportError } from '../../display/export/import.ts';
import { y4mFrame, y4mHeader } from '../../display/picture/y4m.ts';
import { UsageError } from '../core/errors.ts';
import type { Picture } from '../core/picture.ts';
import { parseSeconds } from './control-options.ts';
import { endSignal, printError } from './terminal.ts';

const DEFAULT_FPS = 30;

interface Options {
  y4m?: true;
  raw?: true;
  scanout: number;
  cursor: boolean;
  seconds?: number;
  fps: number;
}

export function command(): Command {
  return new Command('grab')
    .argument('<socket>', 'the SOCKET of a running `scanout run --output export:SOCKET`')
    .addOption(
      new Option('--y4m', 'write a YUV4MPEG2 stream with 12 bits, which is exact; the default').conflicts('raw'),
    )
    .option('--raw', 'write rows of 8-bit R, G, B, A')
    .option('--seconds <number>', 'end after so many seconds of film (default: when interrupted)', parseSeconds)
    .option('--fps <number>', 'pictures per second of film', parseFps, DEFAULT_FPS)
    .option('--scanout <number>', "which of the guest's monitors, counted from 0", parseIndex, 0)
    .option('--no-cursor', 'omit the hardware cursor')
    .addHelpText(
      'after',
      `
Writes the guest's screen to stdout, for a pipe. The film has the size of its first picture; others are cut, or get
black margins. To watch it, or to make a film of it without loss:
  scanout grab /run/vm/export.sock | ffplay -
  scanout grab /run/vm/export.sock | ffmpeg -i - -c:v ffv1 film.mkv

Example:
  $ scanout grab /tmp/export.sock --seconds 1`,
    )
    .action(async (path: string, options: Options) => {
      const { stdout } = process;
      if (stdout.isTTY)
        throw new UsageError('grab: stdout is a terminal; write to a pipe or a file: scanout grab … | ffplay -');
      using display = await ExportedDisplay.connect(path);
      if (options.scanout >= display.scanouts)
        throw new UsageError(`--scanout ${options.scanout}: the guest has ${display.scanouts}, counted from 0`);
      await film(display, options, stdout);
    });
}

/** Writes the newest picture at an even pace, from the first one on. */
async function film(display: ExportedDisplay, options: Options, stdout: NodeJS.WriteStream): Promise<void> {
  const { fps, seconds = Infinity } = options;
  const newest = new Newest(display, options);
  // Of a reader that goes, an error comes first, which is no failure.
  const heard = (event: 'close' | 'drain'): Promise<void> => new Promise((resolve) => stdout.once(event, resolve));
  const state = { isOver: false };
  const end = (): void => void (state.isOver = true);
  const ended = Promise.race([endSignal(), heard('close'), newest.ended]).then(end, end);
  await Promise.race([newest.first, ended]);
  const { picture: first } = newest;
  if (!first) {
    await newest.ended;
    throw new ExportError('closed', 'the bridge ended before the guest showed a picture');
  }
  if (!options.raw) stdout.write(y4mHeader(first.width, first.height, fps));
  else printError(`raw pictures: ${first.width}x${first.height} RGBA, ${fps} per second`);
  const start = performance.now();
  let encoded: Uint8Array | null = null;
  let of: Picture | null = null;
  for (let written = 0; !state.isOver && written < seconds * fps; written++) {
    const due = start + (written * 1000) / fps - performance.now();
    if (due > 0) await Promise.race([sleep(due), ended]);
    const { picture } = newest;
    if (!encoded || (picture && picture !== of)) {
      of = picture;
      const fitted = fit(picture ?? first, first);
      encoded = options.raw ? fitted.data : y4mFrame(fitted);
    }
    if (!stdout.write(encoded)) await Promise.race([heard('drain'), ended]);
  }
  await newest.stop();
}

/** The newest picture of a scanout, which is read at once so that the guest may go on. */
class Newest {
  picture: Picture | null = null;
  readonly first: Promise<void>;
  /** Resolves when there will be no more. Rejects as the display does. */
  readonly ended: Promise<void>;
  readonly #display: ExportedDisplay;
  #onFirst: () => void = () => undefined;

  constructor(display: ExportedDisplay, options: Pick<Options, 'scanout' | 'cursor'>) {
    this.#display = display;
    this.first = new Promise((resolve) => (this.#onFirst = resolve));
    this.ended = this.#follow(options);
    this.ended.catch(() => undefined);
  }

  stop(): Promise<void> {
    this.#display[Symbol.dispose]();
    return this.ended;
  }

  async #follow({ scanout, cursor }: Pick<Options, 'scanout' | 'cursor'>): Promise<void> {
    for await (const frame of this.#display) {
      using read = frame;
      if (read.scanout !== scanout) continue;
      const picture = read.picture({ cursor });
      if (!picture) continue;
      this.picture = picture;
      this.#onFirst();
    }
  }
}

/** The picture on a canvas of another size: what does not fit is cut, what is left is black. */
function fit(picture: Picture, { width, height }: Picture): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const data = new Uint8Array(width * height * 4);
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  const row = Math.min(width, picture.width) * 4;
  for (let y = 0; y < Math.min(height, picture.height); y++)
    data.set(picture.data.subarray(y * picture.width * 4, y * picture.width * 4 + row), y * width * 4);
  return { width, height, data };
}

function parseIndex(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('write a whole number, 0 or more.');
  return Number(text);
}

function parseFps(text: string): number {
  const fps = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (fps < 1 || fps > 240) throw new InvalidArgumentError('write a whole number from 1 to 240.');
  return fps;
}
