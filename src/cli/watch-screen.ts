import { printable } from '../core/log.ts';
import type { Picture } from '../core/picture.ts';
import { hasTrueColour, renderPicture } from './terminal.ts';

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** All of a terminal: a picture, and lines of text below it. What the terminal showed before comes back when it is disposed. */
export class WatchScreen implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #trueColour = hasTrueColour(process.env);

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    stream.write(ENTER);
  }

  /** Does nothing while the terminal has not taken what was drawn before. Lines that are too long are cut. */
  draw(picture: Picture | null, lines: readonly string[]): void {
    const stream = this.#stream;
    if (stream.writableLength > 0) return;
    const { columns, rows } = stream;
    const shown = lines.slice(0, rows).map((line) => printable(line).slice(0, columns));
    const room = rows - shown.length;
    const text = picture && room > 0 ? renderPicture(picture, fit(picture, columns, room), this.#trueColour) : '';
    // Each line is drawn over the one before it, which flickers less than an empty screen in between.
    const drawn = `${text}${shown.join('\n')}`.replaceAll('\n', '\x1b[K\r\n');
    stream.write(`\x1b[H${drawn}\x1b[K\x1b[J`);
  }

  [Symbol.dispose](): void {
    this.#stream.write(LEAVE);
  }
}

/** The columns in which a picture has at most `rows` lines. */
function fit({ width, height }: Picture, columns: number, rows: number): number {
  return Math.max(1, Math.min(columns, Math.floor((rows * 2 * width) / height)));
}
