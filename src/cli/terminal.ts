import { Option } from 'commander';
import { type Log, type LogLevel, printable } from '../core/log.ts';
import type { Picture } from '../core/picture.ts';

const LEVELS: readonly LogLevel[] = ['info', 'warn', 'error'];

export function logLevelOption(): Option {
  return new Option('--log-level <level>', 'least important messages to print on stderr')
    .choices(LEVELS)
    .default('info');
}

/** Prints text, which may come from a guest or peer, and a line break on stdout. */
export function print(text: string): void {
  process.stdout.write(`${lines(text)}\n`);
}

/** Prints a value as JSON on stdout, in one line if `indent` is 0. */
export function printJson(value: unknown, indent = 2): void {
  // JSON.stringify escapes the other control characters.
  const escape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  print(JSON.stringify(value, null, indent).replace(/[\u007f-\u009f]/g, escape));
}

/** As `print`, on stderr. */
export function printError(text: string): void {
  process.stderr.write(`${lines(text)}\n`);
}

function lines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Log lines that wait for a slow reader of stderr, in bytes. */
const MAX_WAITING = 2 ** 20;

/**
 * Prints each message as a line on stderr. What a slow reader does not take is kept up to a limit; then lines are left
 * out, and their number is printed when the reader goes on.
 */
export function stderrLog(least: LogLevel, stream: NodeJS.WriteStream = process.stderr): Log {
  const from = LEVELS.indexOf(least);
  let omitted = 0;
  const write = (level: LogLevel, message: string): void => {
    const time = new Date().toISOString().slice(11, 23);
    // Overwrites a progress line, if there is one.
    const clear = stream.isTTY ? '\r\x1b[K' : '';
    stream.write(`${clear}${time} ${level.padEnd(5)} ${printable(message)}\n`);
  };
  return (level, message) => {
    if (LEVELS.indexOf(level) < from) return;
    if (stream.writableLength > MAX_WAITING) {
      omitted++;
      return;
    }
    if (omitted > 0) write('warn', `${omitted} log lines were left out: the reader of stderr is too slow`);
    omitted = 0;
    write(level, message);
  };
}

const BAR_WIDTH = 30;
/** Per cent between the lines that are printed when the stream is not a terminal. */
const STEP = 10;

/** Shows progress: as a bar that is redrawn on a terminal, else as a line for every ten per cent. */
export class Progress implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  #percent = -1;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** `fraction` is 0 to 1. */
  show(fraction: number): void {
    const percent = Math.floor(fraction * 100);
    if (this.#stream.isTTY) {
      if (percent === this.#percent) return;
      const done = Math.floor(fraction * BAR_WIDTH);
      this.#stream.write(`\r[${'#'.repeat(done)}${'.'.repeat(BAR_WIDTH - done)}] ${percent}%`);
    } else {
      if (Math.floor(percent / STEP) === Math.floor(this.#percent / STEP)) return;
      this.#stream.write(`${percent}%\n`);
    }
    this.#percent = percent;
  }

  /** Clears the bar. */
  [Symbol.dispose](): void {
    if (this.#stream.isTTY && this.#percent >= 0) this.#stream.write('\r\x1b[K');
  }
}

/** Set for a `scanout run` that another one started beside QEMU; it prints these lines on stdout for that. */
export const SUPERVISED = 'SCANOUT_SUPERVISED';
export const READY = 'ready';
export const WINDOWS_CLOSED = 'windows closed';

export const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Resolves with the next SIGINT, SIGTERM or SIGHUP, which then does not kill the process, so that the caller can clean
 * up. A second signal of the same kind kills it at once.
 */
export function endSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of END_SIGNALS) process.once(signal, resolve);
  });
}

/**
 * Renders a picture as lines of half blocks, at most `columns` wide, with 24-bit colours or the 256 of xterm. Each
 * character shows two pixels, one above the other; a picture that is shrunk has averaged pixels.
 */
export function renderPicture(picture: Picture, columns: number, trueColour: boolean): string {
  const width = Math.max(1, Math.min(columns, picture.width));
  const lines = Math.max(1, Math.round((picture.height * width) / picture.width / 2));
  const colour = trueColour ? (c: Colour) => `2;${c.join(';')}` : (c: Colour) => `5;${nearestOf256(c)}`;
  let text = '';
  for (let line = 0; line < lines; line++) {
    let before = '';
    for (let column = 0; column < width; column++) {
      const top = colour(average(picture, column, width, line * 2, lines * 2));
      const bottom = colour(average(picture, column, width, line * 2 + 1, lines * 2));
      const style = `\x1b[38;${top};48;${bottom}m`;
      if (style !== before) text += style;
      before = style;
      text += '▀';
    }
    text += '\x1b[0m\n';
  }
  return text;
}

/** Whether the terminal announces 24-bit colour. */
export function hasTrueColour(env: NodeJS.ProcessEnv): boolean {
  return env['COLORTERM'] === 'truecolor' || env['COLORTERM'] === '24bit';
}

type Colour = readonly [red: number, green: number, blue: number];

/** The mean colour of a cell, where the picture is divided into columns x rows cells. */
function average(picture: Picture, column: number, columns: number, row: number, rows: number): Colour {
  const [left, right] = span(column, columns, picture.width);
  const [top, bottom] = span(row, rows, picture.height);
  let red = 0;
  let green = 0;
  let blue = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const at = (y * picture.width + x) * 4;
      red += picture.data[at]!;
      green += picture.data[at + 1]!;
      blue += picture.data[at + 2]!;
    }
  }
  const count = (right - left) * (bottom - top);
  return [Math.round(red / count), Math.round(green / count), Math.round(blue / count)];
}

/** The pixels of a cell: at least one, even if there are more cells than pixels. */
function span(index: number, cells: number, pixels: number): [number, number] {
  const start = Math.min(Math.floor((index * pixels) / cells), pixels - 1);
  return [start, Math.max(start + 1, Math.floor(((index + 1) * pixels) / cells))];
}

const CUBE = [0, 95, 135, 175, 215, 255];

/** The nearest colour in xterm's palette: 16 to 231 are a 6x6x6 cube, 232 to 255 greys from 8 in steps of 10. */
function nearestOf256([red, green, blue]: Colour): number {
  const cube = [red, green, blue].map((value) => nearestIndex(CUBE, value));
  const grey = Math.min(23, Math.max(0, Math.round(((red + green + blue) / 3 - 8) / 10)));
  const greyLevel = 8 + grey * 10;
  const cubeError = (red - CUBE[cube[0]!]!) ** 2 + (green - CUBE[cube[1]!]!) ** 2 + (blue - CUBE[cube[2]!]!) ** 2;
  const greyError = (red - greyLevel) ** 2 + (green - greyLevel) ** 2 + (blue - greyLevel) ** 2;
  return greyError < cubeError ? 232 + grey : 16 + 36 * cube[0]! + 6 * cube[1]! + cube[2]!;
}

function nearestIndex(values: readonly number[], wanted: number): number {
  return values.reduce(
    (best, value, index) => (Math.abs(value - wanted) < Math.abs(values[best]! - wanted) ? index : best),
    0,
  );
}
