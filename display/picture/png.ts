import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { crc32, createDeflate, deflateSync, inflate, inflateSync, type ZlibOptions } from 'node:zlib';
import { replaceFile } from '../../src/sys/replace-file.ts';
import { ScanoutError } from '../../src/sys/errors.ts';
import type { Size } from '../../src/core/geometry.ts';
import { type Picture, type PictureReader, readerOf } from '../../src/core/picture.ts';

/** The bytes are not a PNG, or one of a kind that is not supported. */
export class PngError extends ScanoutError<'format'> {}

/** A monitor of 16384x8192; 512 MiB as a picture. Half as many if a sample has 16 bits. */
const MAX_PIXELS = 2 ** 27;

/**
 * Encodes as a PNG of 8 bits, RGB and no metadata, so equal pictures make equal files. Throws RangeError if the bytes do
 * not fit the size, PngError for more pixels than `decodePng` reads.
 */
export function encodePng(picture: Picture): Uint8Array {
  const source = readerOf(picture);
  checkSize(source);
  const isFlat = hasFlatParts(source);
  const rows = new Uint8Array(rowsSize(picture.width, picture.height));
  let length = 0;
  for (const band of filteredBands(source, isFlat)) {
    rows.set(band, length);
    length += band.length;
  }
  return assemble(picture, deflateSync(rows, compression(isFlat)));
}

/**
 * Encodes the same file: a band of rows is compressed on another thread while the next one is read, and the event loop turns
 * in between. Rejects with PngError for too many pixels, and as `read` throws.
 */
export async function encodePngAside(source: PictureReader): Promise<Uint8Array> {
  checkSize(source);
  const isFlat = hasFlatParts(source);
  const compressed: Uint8Array[] = [];
  const deflater = createDeflate(compression(isFlat)).on('data', (part: Uint8Array) => compressed.push(part));
  const compress = (band: Uint8Array): Promise<void> =>
    new Promise((resolve) => {
      deflater.write(band, () => resolve());
    });
  const compressAll = async (): Promise<void> => {
    let before = Promise.resolve();
    for (const band of filteredBands(source, isFlat)) {
      await before;
      before = compress(band);
      await setImmediate();
    }
    await before;
    deflater.end();
  };
  try {
    await Promise.all([compressAll(), once(deflater, 'end')]);
  } finally {
    deflater.destroy();
  }
  return assemble(source, Buffer.concat(compressed));
}

function checkSize({ width, height }: Size): void {
  if (width * height > MAX_PIXELS)
    throw new PngError('format', `a picture of ${width}x${height}; supported are 1 to ${MAX_PIXELS} pixels`);
}

/** How zlib makes small files soonest: repeated runs are worth a search, and differences between rows are not. */
const FLAT = { level: 3, chunkSize: 2 ** 20 };
const UNEVEN = { level: 1, chunkSize: 2 ** 20 };
const compression = (isFlat: boolean): ZlibOptions => (isFlat ? FLAT : UNEVEN);
/** Pixels that are read at once, in about a millisecond. */
const BAND = 2 ** 17;
/** Every how many rows are looked at. */
const SAMPLED_ROWS = 16;

/** Whether most pixels have the colour of their left neighbour, as on a desktop and unlike in a photograph. */
function hasFlatParts(source: PictureReader): boolean {
  const { width, height } = source;
  const row = new Uint8Array(width * 4);
  const pixels = signedWords(row);
  let looked = 0;
  let same = 0;
  for (let y = 0; y < height; y += SAMPLED_ROWS) {
    source.read(y, y + 1, row);
    looked += width - 1;
    for (let at = 1; at < width; at++) if (((pixels[at]! ^ pixels[at - 1]!) & 0xff_ff_ff) === 0) same++;
  }
  return same * 2 >= looked;
}

/** Signed, because V8 allocates a number for each opaque pixel that is unsigned until it has compiled the loops. */
function signedWords({ buffer, byteOffset, length }: Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length >>> 2);
}

/** Bytes of rows of R, G, B, each after the byte of its filter. */
function rowsSize(width: number, count: number): number {
  return count * (1 + width * 3);
}

/** The rows that are to be compressed, from the top, each until the next but one. */
function* filteredBands(source: PictureReader, isFlat: boolean): Generator<Uint8Array, void> {
  const { width, height } = source;
  const count = Math.min(Math.ceil(BAND / width), height);
  // With room for the row above.
  const bytes = new Uint8Array((count + 1) * width * 4);
  const pixels = signedWords(bytes);
  let [next, last] = [new Uint8Array(rowsSize(width, count + 1)), new Uint8Array(rowsSize(width, count + 1))];
  for (let top = 0; top < height; top += count) {
    const bottom = Math.min(top + count, height);
    const above = isFlat ? top : Math.max(0, top - 1);
    source.read(above, bottom, bytes.subarray(0, (bottom - above) * width * 4));
    const rows = next.subarray(0, rowsSize(width, bottom - above));
    fillRows(rows, pixels, width, bottom - above);
    if (!isFlat) subtractRowsAbove(rows, width * 3);
    yield rows.subarray(rowsSize(width, top - above));
    [next, last] = [last, next];
  }
}

/** Without filters. Four pixels become three words at a time. */
function fillRows(rows: Uint8Array, pixels: Int32Array, width: number, count: number): void {
  const words = new Int32Array(Math.ceil(width / 4) * 3);
  const row = new Uint8Array(words.buffer, 0, width * 3);
  for (let y = 0; y < count; y++) {
    const end = (y + 1) * width;
    // The last step of a row may reach into the next, and beyond the end, where there is nothing.
    for (let from = y * width, to = 0; from < end; from += 4, to += 3) {
      const second = pixels[from + 1]!;
      const third = pixels[from + 2]!;
      words[to] = (pixels[from]! & 0xffffff) | (second << 24);
      words[to + 1] = ((second >>> 8) & 0xffff) | (third << 16);
      words[to + 2] = ((third >>> 16) & 0xff) | (pixels[from + 3]! << 8);
    }
    rows[rowsSize(width, y)] = NONE;
    rows.set(row, rowsSize(width, y) + 1);
  }
}

/** Filters rows of `stride` bytes, the lowest first, by those above. The first stays as it is. */
function subtractRowsAbove(rows: Uint8Array, stride: number): void {
  for (let start = rows.length - 1 - stride; start > stride; start -= 1 + stride) {
    rows[start] = UP;
    const end = start + 1 + stride;
    for (let at = start + 1; at < end; at++) rows[at] = rows[at]! - rows[at - 1 - stride]!;
  }
}

function assemble({ width, height }: Size, compressed: Uint8Array): Uint8Array {
  return Buffer.concat([
    Uint8Array.from(SIGNATURE),
    chunk('IHDR', Buffer.concat([u32(width, height), Uint8Array.of(8, RGB, 0, 0, 0)])),
    chunk('IDAT', compressed),
    chunk('IEND', u32()),
  ]);
}

/**
 * Writes a PNG as `replaceFile` does. A `mode` that is not given makes it readable by its owner only. The picture must not
 * change meanwhile.
 */
export async function writePng(path: string, picture: Picture, mode?: number): Promise<void> {
  await replaceFile(path, await encodePngAside(readerOf(picture)), mode);
}

/** Reads and decodes a file. Rejects with PngError, which names the file, or the file system's error. */
export async function readPng(path: string): Promise<Picture> {
  const bytes = await readFile(path);
  try {
    const png = parse(bytes);
    // On another thread, so that two files take the time of one.
    return paintRows(png, await promisify(inflate)(png.compressed, inflation(png.header)).catch(refuseRows));
  } catch (cause) {
    if (!(cause instanceof PngError)) throw cause;
    throw new PngError('format', `${path}: ${cause.message}`, { cause });
  }
}

/**
 * Decodes a PNG as a screen shows it: 16 bits are rounded to 8, transparent pixels are blended with black, and colour
 * profiles are ignored. Allocates the pixels, the rows that they are decoded from and a copy of the file, so untrusted
 * files are safe: there may be 2^27 pixels, or 2^26 of 16 bits. Throws PngError.
 */
export function decodePng(bytes: Uint8Array): Picture {
  const png = parse(bytes);
  return paintRows(png, inflateRows(png));
}

function inflateRows({ header, compressed }: Parsed): Uint8Array {
  try {
    return inflateSync(compressed, inflation(header));
  } catch (cause) {
    return refuseRows(cause);
  }
}

function paintRows({ header, ...colours }: Parsed, rows: Uint8Array): Picture {
  const wanted = rowBytes(header);
  if (rows.length !== wanted)
    throw new PngError('format', `a truncated PNG: ${rows.length} of ${wanted} bytes of pixels`);
  const { width, height } = header;
  const picture = { width, height, data: new Uint8Array(width * height * 4) };
  const paint = painter(header, colours, picture.data);
  const bits = header.depth * COLOUR_TYPES[header.colourType]!.channels;
  let at = 0;
  for (const [x, y, dx, dy] of header.isInterlaced ? PASSES : WHOLE) {
    const columns = Math.ceil((width - x) / dx);
    const length = Math.ceil((columns * bits) / 8);
    for (let row = y; row < height && columns > 0; row += dy) {
      unfilter(rows, at, length, Math.ceil(bits / 8), row === y);
      paint(rows, at + 1, columns, (row * width + x) * 4, dx * 4);
      at += 1 + length;
    }
  }
  return picture;
}

/** The size that the header of a PNG states; nothing else of the file is checked. Throws PngError. */
export function pngSize(bytes: Uint8Array): Size {
  checkSignature(bytes);
  const { type, start, end } = chunks(bytes).next().value!;
  return readHeader(type, bytes.subarray(start, end));
}

/** The contents of the IHDR chunk. */
interface PngHeader extends Size {
  /** Bits per sample. */
  readonly depth: number;
  readonly colourType: number;
  readonly isInterlaced: boolean;
}

/** The colour types of the PNG specification: possible bits per sample, and samples per pixel. */
const COLOUR_TYPES: Readonly<Record<number, { readonly depths: readonly number[]; readonly channels: number }>> = {
  0: { depths: [1, 2, 4, 8, 16], channels: 1 },
  2: { depths: [8, 16], channels: 3 },
  3: { depths: [1, 2, 4, 8], channels: 1 },
  4: { depths: [8, 16], channels: 2 },
  6: { depths: [8, 16], channels: 4 },
};
const RGB = 2;
const INDEXED = 3;

/** Filters of rows. */
const NONE = 0;
const SUB = 1;
const UP = 2;
const AVERAGE = 3;
const PAETH = 4;

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** How the text file begins that Git has in place of a file that Git LFS keeps. */
const LFS_POINTER = 'version https://git-lfs.github.com/spec/';

/** x, y of the first pixel of a pass, and the steps to the next. */
type Pass = readonly [x: number, y: number, dx: number, dy: number];
const WHOLE: readonly Pass[] = [[0, 0, 1, 1]];
/** The passes of an interlaced picture (Adam7). */
const PASSES: readonly Pass[] = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

/** The chunks that give samples their colours; null if there is none. */
interface Colours {
  /** R, G, B of up to 256 colours. */
  readonly palette: Uint8Array | null;
  /** As in tRNS: the alphas of palette colours, or the one sample value that is transparent. */
  readonly transparency: Uint8Array | null;
}

interface Parsed extends Colours {
  readonly header: PngHeader;
  /** The contents of all IDAT chunks. */
  readonly compressed: Uint8Array;
}

/** Ignores chunks that the pixels do not need: colour profiles and texts are compressed and could expand to anything. */
function parse(bytes: Uint8Array): Parsed {
  checkSignature(bytes);
  const compressed = new Uint8Array(bytes.length);
  let length = 0;
  let header: PngHeader | null = null;
  let palette: Uint8Array | null = null;
  let transparency: Uint8Array | null = null;
  for (const { type, start, end } of chunks(bytes)) {
    if (header === null) {
      header = readHeader(type, checked(bytes, start, end));
    } else if (type === 'IDAT') {
      if (end === start) continue;
      compressed.set(checked(bytes, start, end), length);
      length += end - start;
    } else if (type === 'PLTE' && header.colourType === INDEXED) {
      if (palette) throw new PngError('format', 'a PNG with two palettes');
      palette = checked(bytes, start, end);
      checkPalette(header, palette);
    } else if (type === 'tRNS' && header.colourType <= INDEXED) {
      if (transparency) throw new PngError('format', 'a PNG with two tRNS chunks');
      transparency = checked(bytes, start, end);
      checkTransparency(header, palette, transparency);
    }
  }
  return { header: header!, compressed: compressed.subarray(0, length), palette, transparency };
}

function checkSignature(bytes: Uint8Array): void {
  if (SIGNATURE.every((byte, i) => bytes[i] === byte)) return;
  if (bytes.length === 0) throw new PngError('format', 'not a PNG: it is empty');
  if (Buffer.from(bytes.subarray(0, LFS_POINTER.length)).toString('latin1') === LFS_POINTER)
    throw new PngError('format', 'a Git LFS pointer instead of a PNG: fetch the picture with `git lfs pull`');
  throw new PngError('format', 'not a PNG: it does not begin with the PNG signature');
}

/** A chunk's contents are the bytes from `start` to `end`, with the type before and a checksum behind them. */
interface Chunk {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

/** All chunks up to IEND; at least one. */
function* chunks(bytes: Uint8Array): Generator<Chunk, void> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = SIGNATURE.length, type = ''; type !== 'IEND';) {
    const start = at + 8;
    const end = start + 4 <= bytes.length ? start + view.getUint32(at) : Infinity;
    if (end + 4 > bytes.length)
      throw new PngError('format', `a truncated PNG: its ${bytes.length} bytes end inside a chunk`);
    type = String.fromCharCode(bytes[at + 4]!, bytes[at + 5]!, bytes[at + 6]!, bytes[at + 7]!);
    yield { type, start, end };
    at = end + 4;
  }
}

/** The contents of a chunk, whose CRC is right. */
function checked(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const stated = new DataView(bytes.buffer, bytes.byteOffset + end, 4).getUint32(0);
  if (crc32(bytes.subarray(start - 4, end)) !== stated)
    throw new PngError('format', 'a damaged PNG: the CRC of a chunk is wrong');
  return bytes.subarray(start, end);
}

function readHeader(type: string, content: Uint8Array): PngHeader {
  if (type !== 'IHDR' || content.length !== 13)
    throw new PngError('format', 'not a PNG: its first chunk is not a header');
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, colourType, compression, filter, interlace] = content.subarray(8) as unknown as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (!COLOUR_TYPES[colourType]?.depths.includes(depth) || compression !== 0 || filter !== 0 || interlace > 1) {
    throw new PngError(
      'format',
      `a PNG of colour type ${colourType}, ${depth} bits, compression ${compression}, filter ${filter} and interlace method ${interlace}, which the format does not define`,
    );
  }
  const most = depth === 16 ? MAX_PIXELS / 2 : MAX_PIXELS;
  if (width === 0 || height === 0 || width * height > most)
    throw new PngError('format', `a PNG of ${width}x${height}; supported are 1 to ${most} pixels of ${depth} bits`);
  return { width, height, depth, colourType, isInterlaced: interlace === 1 };
}

/** PNG Specification (Third Edition), 11.2.2: 1 to 256 colours, no more than the samples can name. */
function checkPalette({ depth }: PngHeader, { length }: Uint8Array): void {
  if (length === 0 || length % 3 !== 0 || length > 3 * 2 ** depth)
    throw new PngError('format', `a PNG of ${depth} bits with a palette of ${length} bytes`);
}

/** PNG Specification (Third Edition), 11.3.1.1: one sample, three samples, or an alpha for each of the first palette colours. */
function checkTransparency({ colourType }: PngHeader, palette: Uint8Array | null, { length }: Uint8Array): void {
  const isValid =
    colourType === INDEXED
      ? palette !== null && length <= palette.length / 3
      : length === 2 * COLOUR_TYPES[colourType]!.channels;
  if (!isValid) throw new PngError('format', `a PNG with a tRNS chunk of ${length} bytes`);
}

/** How the rows are decompressed, which must have exactly the size that the header says; it stops where they exceed it. */
function inflation(header: PngHeader): ZlibOptions {
  const wanted = rowBytes(header);
  // In one piece: pieces would have to be joined, which takes twice the memory.
  return { maxOutputLength: wanted, chunkSize: wanted + MIN_CHUNK };
}

function refuseRows(cause: unknown): never {
  const isTooMuch = cause instanceof RangeError;
  throw new PngError(
    'format',
    `a PNG whose pixels ${isTooMuch ? 'exceed the size in its header' : 'cannot be decompressed: the file is damaged or truncated'}`,
    { cause },
  );
}

/** The smallest chunkSize of zlib. */
const MIN_CHUNK = 64;

/** The decompressed size; each row begins with a byte for its filter. */
function rowBytes({ width, height, depth, colourType, isInterlaced }: PngHeader): number {
  const bits = depth * COLOUR_TYPES[colourType]!.channels;
  const bytesOf = (columns: number, rows: number): number =>
    columns > 0 ? rows * (1 + Math.ceil((columns * bits) / 8)) : 0;
  return (isInterlaced ? PASSES : WHOLE).reduce(
    (sum, [x, y, dx, dy]) => sum + bytesOf(Math.ceil((width - x) / dx), Math.max(0, Math.ceil((height - y) / dy))),
    0,
  );
}

/**
 * Undoes the filter of the row at `at` in place (PNG Specification, 9.2): a byte for the filter, then `length` bytes.
 * The row above is right before it, if it is not the first of its pass. `unit` is the bytes of a pixel, at least 1.
 */
function unfilter(rows: Uint8Array, at: number, length: number, unit: number, isFirst: boolean): void {
  const filter = rows[at]!;
  if (filter === 0) return;
  if (filter > PAETH) throw new PngError('format', `a PNG with filter ${filter}, which the format does not define`);
  const start = at + 1;
  const end = start + length;
  const up = length + 1;
  const first = Math.min(start + unit, end);
  if (filter === SUB) {
    for (let i = first; i < end; i++) rows[i]! += rows[i - unit]!;
  } else if (filter === UP) {
    if (!isFirst) for (let i = start; i < end; i++) rows[i]! += rows[i - up]!;
  } else if (filter === AVERAGE) {
    for (let i = start; i < end; i++) {
      const left = i < first ? 0 : rows[i - unit]!;
      rows[i]! += (left + (isFirst ? 0 : rows[i - up]!)) >> 1;
    }
  } else if (isFirst) {
    for (let i = first; i < end; i++) rows[i]! += rows[i - unit]!;
  } else {
    for (let i = start; i < first; i++) rows[i]! += rows[i - up]!;
    for (let i = first; i < end; i++) rows[i]! += paeth(rows[i - unit]!, rows[i - up]!, rows[i - up - unit]!);
  }
}

function paeth(left: number, above: number, corner: number): number {
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

/** Writes the pixels of the row at `at` as a screen shows them to every `step` bytes of the picture from `to` on. */
type Paint = (rows: Uint8Array, at: number, columns: number, to: number, step: number) => void;

/** Pixels become 8 bits of R, G, B and an A of 255. The alpha of a PNG is not premultiplied; it is blended with black here. */
function painter(header: PngHeader, colours: Colours, shown: Uint8Array): Paint {
  const { width, depth, colourType, isInterlaced } = header;
  const sample = depth === 8 ? byteAt : depth === 16 ? wordAt : bitsAt(depth);
  if (colourType === INDEXED) {
    const shades = paletteShades(colours);
    return (rows, at, columns, to, step) => {
      for (let i = 0; i < columns; i++, to += step) {
        const index = sample(rows, at, i);
        if (index * 3 >= shades.length)
          throw new PngError('format', `a PNG with a pixel of colour ${index}; its palette has ${shades.length / 3}`);
        shown[to] = shades[index * 3]!;
        shown[to + 1] = shades[index * 3 + 1]!;
        shown[to + 2] = shades[index * 3 + 2]!;
        shown[to + 3] = 255;
      }
    };
  }
  // What screenshots are.
  if (colourType === RGB && depth === 8 && !colours.transparency && !isInterlaced) return rgbPainter(width, shown);
  const { channels } = COLOUR_TYPES[colourType]!;
  const [isGrey, hasAlpha] = [channels < 3, channels % 2 === 0];
  const unit = 255 / (2 ** depth - 1);
  const hole = colours.transparency && Array.from({ length: channels }, (_, i) => wordAt(colours.transparency!, 0, i));
  return (rows, at, columns, to, step) => {
    for (let i = 0, from = 0; i < columns; i++, from += channels, to += step) {
      const red = sample(rows, at, from);
      const green = isGrey ? red : sample(rows, at, from + 1);
      const blue = isGrey ? red : sample(rows, at, from + 2);
      const isHole = hole !== null && red === hole[0] && (isGrey || (green === hole[1] && blue === hole[2]));
      const alpha = isHole ? 0 : hasAlpha ? (sample(rows, at, from + channels - 1) * unit) / 255 : 1;
      const scale = unit * alpha;
      // Rounded up from a half, which for numbers that are not negative is what Math.round does.
      shown[to] = red * scale + 0.5;
      shown[to + 1] = green * scale + 0.5;
      shown[to + 2] = blue * scale + 0.5;
      shown[to + 3] = 255;
    }
  };
}

/** For R, G, B of 8 bits, of which three words become four pixels at a time. */
function rgbPainter(width: number, shown: Uint8Array): Paint {
  const pixels = new Int32Array(shown.buffer);
  // The last step of a row takes words beyond its end.
  const words = new Int32Array(Math.ceil(width / 4) * 3);
  const row = new Uint8Array(words.buffer);
  return (rows, at, columns, to) => {
    row.set(rows.subarray(at, at + columns * 3));
    const end = to / 4 + columns;
    for (let pixel = to / 4, from = 0; pixel < end; pixel += 4, from += 3) {
      const first = words[from]!;
      const second = words[from + 1]!;
      const third = words[from + 2]!;
      pixels[pixel] = first | OPAQUE;
      if (pixel + 1 < end) pixels[pixel + 1] = (first >>> 24) | (second << 8) | OPAQUE;
      if (pixel + 2 < end) pixels[pixel + 2] = (second >>> 16) | (third << 16) | OPAQUE;
      if (pixel + 3 < end) pixels[pixel + 3] = (third >>> 8) | OPAQUE;
    }
  };
}

/** The alpha of a signed word 0xAABBGGRR. */
const OPAQUE = -0x1000000;

function byteAt(rows: Uint8Array, at: number, index: number): number {
  return rows[at + index]!;
}

function wordAt(rows: Uint8Array, at: number, index: number): number {
  return (rows[at + index * 2]! << 8) | rows[at + index * 2 + 1]!;
}

/** Reads samples of which a byte has several, the first in its high bits. */
function bitsAt(depth: number): (rows: Uint8Array, at: number, index: number) => number {
  const mask = 2 ** depth - 1;
  return (rows, at, index) => {
    const bit = index * depth;
    return (rows[at + (bit >> 3)]! >> (8 - depth - (bit & 7))) & mask;
  };
}

/** R, G, B of each palette colour, blended with black. */
function paletteShades({ palette, transparency }: Colours): Uint8Array {
  if (!palette) throw new PngError('format', 'a PNG with palette colours but without a palette');
  return palette.map((value, i) => Math.round((value * (transparency?.[Math.floor(i / 3)] ?? 255)) / 255));
}

/** One step of an animation: a patch that replaces pixels at x, y of the picture before. */
export interface AnimationFrame {
  readonly x: number;
  readonly y: number;
  readonly patch: Picture;
  /** How long the step is shown, at most 65.5 s, the limit of the format. */
  readonly durationMs: number;
}

const MAX_DELAY_MS = 0xffff;

/**
 * Encodes an animated PNG that repeats `frames`, each of which is only as large as what it changes. The first frame
 * has the size of the whole picture; viewers without support for animations show that one. Throws RangeError for no
 * frames, or a frame that is not inside the first.
 *
 * Chunks acTL, fcTL and fdAT are those of the PNG Specification (Third Edition), 11.3.6.
 */
export function encodeApng(frames: readonly AnimationFrame[]): Uint8Array {
  const [first] = frames;
  if (!first) throw new RangeError('an animation needs at least one frame');
  const { width, height } = first.patch;
  const chunks: Uint8Array[] = [];
  let sequence = 0;
  for (const [index, frame] of frames.entries()) {
    const { x, y, patch } = frame;
    if (x < 0 || y < 0 || x + patch.width > width || y + patch.height > height) {
      throw new RangeError(`frame ${index}: ${patch.width}x${patch.height}+${x}+${y} is not inside ${width}x${height}`);
    }
    const png = encodePng(patch);
    if (index === 0) {
      chunks.push(
        png.subarray(0, SIGNATURE.length),
        chunk('IHDR', [...contents(png, 'IHDR')][0]!),
        chunk('acTL', u32(frames.length, 0)),
      );
    }
    chunks.push(chunk('fcTL', frameControl(sequence++, frame)));
    for (const data of contents(png, 'IDAT')) {
      chunks.push(index === 0 ? chunk('IDAT', data) : chunk('fdAT', Buffer.concat([u32(sequence++), data])));
    }
  }
  chunks.push(chunk('IEND', u32()));
  return Buffer.concat(chunks);
}

/** The contents of fcTL, with dispose op NONE and blend op SOURCE: pixels outside the patch stay as they were. */
function frameControl(sequence: number, { x, y, patch, durationMs }: AnimationFrame): Uint8Array {
  const bytes = Buffer.alloc(26);
  [sequence, patch.width, patch.height, x, y].forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  bytes.writeUInt16BE(Math.min(Math.max(Math.round(durationMs), 0), MAX_DELAY_MS), 20);
  bytes.writeUInt16BE(1000, 22);
  return bytes;
}

function u32(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  return bytes;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  return Buffer.concat([u32(data.length), named, u32(crc32(named))]);
}

/** The contents of all chunks of a type. */
function* contents(png: Uint8Array, type: string): Generator<Uint8Array> {
  for (const chunk of chunks(png)) if (chunk.type === type) yield png.subarray(chunk.start, chunk.end);
}
