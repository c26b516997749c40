/**
 * Fonts of the Linux console: PC Screen Font files of both versions, also compressed by gzip. The layouts are those of
 * kbd's include/kbd/kfont.h.
 */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ScanoutError } from '../../src/sys/errors.ts';

/** The bytes are not a PSF font, or one that no console can have. */
export class FontError extends ScanoutError<'format'> {}

export interface ConsoleFont {
  /** That of the file, without its extensions. */
  readonly name: string;
  /** Pixels of a glyph. */
  readonly width: number;
  readonly height: number;
  /** For each glyph its rows from the top, each of ceil(width / 8) bytes, the leftmost pixel in the highest bit. */
  readonly glyphs: Uint8Array;
  /** What each glyph stands for: ASCII if it may, else the first character that the file lists; '\ufffd' if it lists none. */
  readonly characters: readonly string[];
}

/** Console fonts are at most a few hundred KiB. */
const MAX_BYTES = 2 ** 22;
/** Those of the kernel (drivers/tty/vt/vt.c). */
const MAX_WIDTH = 64;
const MAX_HEIGHT = 128;

const UNKNOWN = '\ufffd';

/** PSF 1: magic, mode, bytes per glyph. */
const PSF1_MAGIC = 0x0436;
const PSF1_HEADER = 4;
const PSF1_MODE512 = 0x01;
/** The table has single characters, or sequences also. */
const PSF1_MODEHASTABLE = 0x02 | 0x04;
const PSF1_SEPARATOR = 0xffff;
const PSF1_STARTSEQ = 0xfffe;

/** PSF 2, in words: magic, version, bytes of the header, flags, glyphs, bytes per glyph, height, width. */
const PSF2_MAGIC = 0x864ab572;
const PSF2_HEADER = 32;
const PSF2_HAS_UNICODE_TABLE = 0x01;
const PSF2_SEPARATOR = 0xff;
const PSF2_STARTSEQ = 0xfe;

/** Throws FontError. */
export function parsePsf(file: Uint8Array, name: string): ConsoleFont {
  const bytes = Buffer.from(isGzip(file) ? unzip(file) : file);
  if (bytes.length >= PSF1_HEADER && bytes.readUInt16LE(0) === PSF1_MAGIC) return parsePsf1(bytes, name);
  if (bytes.length >= PSF2_HEADER && bytes.readUInt32LE(0) === PSF2_MAGIC) return parsePsf2(bytes, name);
  throw new FontError('format', 'not a PSF font: it begins with neither of the two signatures');
}

function isGzip(file: Uint8Array): boolean {
  return file[0] === 0x1f && file[1] === 0x8b;
}

function unzip(file: Uint8Array): Uint8Array {
  try {
    return gunzipSync(file, { maxOutputLength: MAX_BYTES });
  } catch (cause) {
    throw new FontError('format', `a gzip file that cannot be unpacked: ${(cause as Error).message}`, { cause });
  }
}

function parsePsf1(bytes: Buffer, name: string): ConsoleFont {
  const mode = bytes[2]!;
  const height = bytes[3]!;
  const count = mode & PSF1_MODE512 ? 512 : 256;
  const { glyphs, table } = split(bytes, PSF1_HEADER, { width: 8, height, count, size: height });
  const characters = mode & PSF1_MODEHASTABLE ? characters1(table, count) : latin1(count);
  return { name, width: 8, height, glyphs, characters };
}

function parsePsf2(bytes: Buffer, name: string): ConsoleFont {
  const [version, header, flags, count, size, height, width] = Array.from({ length: 7 }, (_, i) =>
    bytes.readUInt32LE(4 + 4 * i),
  ) as [number, number, number, number, number, number, number];
  if (version !== 0) throw new FontError('format', `a PSF font of version 2.${version}; known is 2.0`);
  const { glyphs, table } = split(bytes, header, { width, height, count, size });
  const characters = flags & PSF2_HAS_UNICODE_TABLE ? characters2(table, count) : latin1(count);
  return { name, width, height, glyphs, characters };
}

function split(
  bytes: Buffer,
  header: number,
  { width, height, count, size }: { width: number; height: number; count: number; size: number },
): { glyphs: Uint8Array; table: Buffer } {
  if (width < 1 || width > MAX_WIDTH || height < 1 || height > MAX_HEIGHT)
    throw new FontError(
      'format',
      `glyphs of ${width}x${height} pixels; a console has 1x1 to ${MAX_WIDTH}x${MAX_HEIGHT}`,
    );
  if (size !== height * Math.ceil(width / 8))
    throw new FontError(
      'format',
      `glyphs of ${width}x${height} pixels have ${height * Math.ceil(width / 8)} bytes, not ${size}`,
    );
  const end = header + count * size;
  if (header < PSF1_HEADER || count < 1 || end > bytes.length)
    throw new FontError('format', `a truncated font: ${count} glyphs of ${size} bytes in a file of ${bytes.length}`);
  // A plain array: `slice` of a Buffer does not copy.
  return { glyphs: new Uint8Array(bytes.subarray(header, end)), table: bytes.subarray(end) };
}

/** Without a table the position is the character. */
function latin1(count: number): string[] {
  return Array.from({ length: count }, (_, code) => characterOf(code < 256 ? [code] : []));
}

/** A list of characters in UCS-2 for each glyph, then sequences of them. */
function characters1(table: Buffer, count: number): string[] {
  const characters: string[] = [];
  let codes: number[] = [];
  let isSequence = false;
  for (let at = 0; at + 1 < table.length && characters.length < count; at += 2) {
    const code = table.readUInt16LE(at);
    if (code === PSF1_SEPARATOR) {
      characters.push(characterOf(codes));
      [codes, isSequence] = [[], false];
    } else if (code === PSF1_STARTSEQ) isSequence = true;
    else if (!isSequence) codes.push(code);
  }
  return completed(characters, count);
}

/** The same in UTF-8, in which neither separator occurs. */
function characters2(table: Buffer, count: number): string[] {
  const characters: string[] = [];
  for (let at = 0; at < table.length && characters.length < count;) {
    const end = table.indexOf(PSF2_SEPARATOR, at);
    if (end < 0) break;
    const sequences = table.subarray(at, end).indexOf(PSF2_STARTSEQ);
    const single = table.toString('utf8', at, sequences < 0 ? end : at + sequences);
    characters.push(characterOf(Array.from(single, (character) => character.codePointAt(0)!)));
    at = end + 1;
  }
  return completed(characters, count);
}

function completed(characters: string[], count: number): string[] {
  if (characters.length < count)
    throw new FontError('format', `a truncated table: it has characters for ${characters.length} of ${count} glyphs`);
  return characters;
}

/** Control characters and halves of surrogate pairs are none that a screen shows. */
function characterOf(codes: readonly number[]): string {
  const shown = codes.filter(
    (code) => code >= 0x20 && !(code >= 0x7f && code < 0xa0) && !(code >= 0xd800 && code < 0xe000),
  );
  const code = shown.find((code) => code < 0x7f) ?? shown[0];
  return code === undefined ? UNKNOWN : String.fromCodePoint(code);
}

/** Reads a font. Rejects with FontError, which names the file, or the file system's error. */
export async function readPsf(path: string): Promise<ConsoleFont> {
  const bytes = await readFile(path);
  try {
    return parsePsf(bytes, basename(path).replace(FILE, ''));
  } catch (cause) {
    if (!(cause instanceof FontError)) throw cause;
    throw new FontError('format', `${path}: ${cause.message}`, { cause });
  }
}

const FILE = /\.psfu?(\.gz)?$/;

/** Where distributions install them: Debian and Ubuntu (console-setup-linux), Arch (kbd), Fedora and openSUSE (kbd). */
export const FONT_FOLDERS = ['/usr/share/consolefonts', '/usr/share/kbd/consolefonts', '/usr/lib/kbd/consolefonts'];

/** Of fonts with the same glyphs the first one is named: those that distributions use before all others. */
const USUAL = /^(Lat15|Uni2|eurlatgr|default)/;

/** All fonts that are installed on this machine. Files that are no fonts are left out. */
export async function installedFonts(folders: readonly string[] = FONT_FOLDERS): Promise<readonly ConsoleFont[]> {
  const fonts: ConsoleFont[] = [];
  for (const folder of folders) {
    const names = (await readdir(folder).catch(() => [])).filter((name) => FILE.test(name)).sort();
    for (const name of [...names.filter((name) => USUAL.test(name)), ...names.filter((name) => !USUAL.test(name))]) {
      const font = await readPsf(join(folder, name)).catch(() => null);
      if (font) fonts.push(font);
    }
  }
  return fonts;
}
