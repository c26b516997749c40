/** Text on a screen: exactly where it is a Linux console, by OCR otherwise. */
import { execFile } from 'node:child_process';
import { UsageError } from '../../src/core/errors.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { ConsoleReader } from './console-text.ts';
import { crop, formatRect, formatSize, intersection } from './difference.ts';
import { DisplayError } from './errors.ts';
import { encodePng } from './png.ts';
import { installedFonts, readPsf } from './psf.ts';

export interface TextOptions {
  /** The part of the screen to read, in its pixels. Of a console the cells whose middles lie in it. Default: all of it. */
  readonly region?: Rect;
  /** PSF files of the fonts that the guest's console may have, before those that are installed on this machine. */
  readonly fonts?: readonly string[];
}

export interface ScreenText {
  /** Lines without the blanks at their ends, and no empty ones at the end. '\ufffd' is a cell of a console with no glyph of its font. */
  readonly text: string;
  /** `console-font`: its characters are those on the screen. `tesseract`: they may be wrong. */
  readonly readBy: 'console-font' | 'tesseract';
  /** The name of the font's file: the first of those that have these glyphs. Null if all is blank, or tesseract has read it. */
  readonly font: string | null;
  /** How many cells of a console have no glyph of its font. */
  readonly unread: number;
}

/** How long tesseract may take for a screen. */
const OCR_TIMEOUT_MS = 60_000;
const MAX_OUTPUT = 2 ** 24;
const OCR = 'tesseract';

/** Reads screens. Those that show the same font as the one before take a few milliseconds. */
export class ScreenReader {
  readonly #console: ConsoleReader;
  readonly #region: Rect | undefined;

  private constructor(console: ConsoleReader, region: Rect | undefined) {
    this.#console = console;
    this.#region = region;
  }

  /** Loads fonts. Rejects with FontError for one in `fonts` that is invalid, or the file system's error. */
  static async open({ region, fonts = [] }: TextOptions = {}): Promise<ScreenReader> {
    if (region && !isWhole(region)) throw new UsageError(`text: region ${formatRect(region)} has no whole pixels`);
    const own = await Promise.all(fonts.map(readPsf));
    installed ??= installedFonts();
    const reader =
      own.length > 0
        ? new ConsoleReader([...own, ...(await installed)])
        : (shared ??= new ConsoleReader(await installed));
    return new ScreenReader(reader, region);
  }

  /** The text of a console; null if the screen shows anything else. UsageError for a region that is not on the screen. */
  readConsole(picture: Picture): ScreenText | null {
    const found = this.#console.read(picture, this.#regionOn(picture));
    return found && { ...found, readBy: 'console-font' };
  }

  /** As `readConsole`, and by tesseract where that is null. Rejects with DisplayError `unreadable` if that is not installed, or fails. */
  async read(picture: Picture, signal?: AbortSignal): Promise<ScreenText> {
    const found = this.readConsole(picture);
    if (found) return found;
    const region = this.#regionOn(picture);
    const text = await recognise(region ? crop(picture, region) : picture, signal);
    return { text, readBy: 'tesseract', font: null, unread: 0 };
  }

  /** Whether the region to read is wholly on a screen of that size. */
  isOn(size: Size): boolean {
    const region = this.#region;
    if (!region) return true;
    const inside = intersection(region, { x: 0, y: 0, width: size.width, height: size.height });
    return inside.width === region.width && inside.height === region.height;
  }

  #regionOn(picture: Picture): Rect | undefined {
    if (this.isOn(picture)) return this.#region;
    throw new UsageError(`text: region ${formatRect(this.#region!)} is not on a screen of ${formatSize(picture)}`);
  }
}

function isWhole({ x, y, width, height }: Rect): boolean {
  return [x, y, width, height].every(Number.isInteger) && width > 0 && height > 0;
}

/** Loaded once for a process; what is installed does not change. */
let installed: ReturnType<typeof installedFonts> | null = null;
let shared: ConsoleReader | null = null;

function recognise(picture: Picture, signal: AbortSignal | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: OCR_TIMEOUT_MS,
      maxBuffer: MAX_OUTPUT,
      encoding: 'utf8',
      ...(signal && { signal }),
    } as const;
    const child = execFile(OCR, ['stdin', 'stdout'], options, (cause, stdout, stderr) => {
      if (!cause) {
        resolve(trimmed(stdout));
        return;
      }
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const advice =
        cause.code === ('ENOENT' as never)
          ? 'install tesseract to have it read by OCR (Debian: tesseract-ocr), or give `fonts` the font of the console: `setfont -O font.psf` writes it in the guest'
          : `tesseract failed: ${stderr.trim() || cause.message}`;
      reject(
        new DisplayError('unreadable', `the screen shows no text of a console font that is known here: ${advice}`, {
          picture,
          cause,
        }),
      );
    });
    // One that ends without reading is reported by its exit code.
    child.stdin!.on('error', () => undefined);
    child.stdin!.end(encodePng(picture));
  });
}

function trimmed(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
    .trim();
}
