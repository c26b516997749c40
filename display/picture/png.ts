import { randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { crc32, inflateSync } from 'node:zlib';
import { decode, type DecodedPng, encode } from 'fast-png';
import { ScanoutError } from '../../src/sys/errors.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';

/** Encodes as a PNG of 8 bits, RGB and no metadata, so equal pictures make equal files. Throws RangeError if the bytes do not fit the size. */
export function encodePng(picture: Picture): Uint8Array {
  const { width, height, data } = picture;
  const pixels = width * height;
  if (data.length !== pixels * 4)
    throw new RangeError(`a ${width}x${height} picture has ${pixels * 4} bytes, not ${data.length}`);
  const rgb = new Uint8Array(pixels * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from]!;
    rgb[to + 1] = data[from + 1]!;
    rgb[to + 2] = data[from + 2]!;
  }
  return encode({ width, height, data: rgb, depth: 8, channels: 3 });
}

/**
 * Decodes a PNG as a screen shows it: 16 bits are rounded to 8, transparent pixels are blended with black, and colour
 * profiles are ignored. Reads every kind except interlaced PNGs below 8 bits. Allocates no more than the pixels need,
 * of which there may be 2^26, so untrusted files are safe. Throws PngError.
 */
export function decodePng(bytes: Uint8Array): Picture {
  const { header, essential } = checkPng(bytes);
  let png;
  try {
    png = decode(essential, { checkCrc: true });
  } catch (cause) {
    throw new PngError(
      'format',
      `a PNG that cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
  return { width: header.width, height: header.height, data: shownPixels(header, png) };
}

/** Writes a PNG atomically: a reader of `path` sees the old file or the whole new one. */
export async function writePng(path: string, picture: Picture): Promise<void> {
  await replaceFile(path, encodePng(picture));
}

/** Writes `bytes` to a file beside `path` and renames it to `path`; removes it if either fails. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, bytes, { flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** The bytes are not a PNG, or one of a kind that is not supported. */
export class PngError extends ScanoutError<'format'> {}

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

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** A monitor of 8192x8192; 256 MiB as a picture. */
const MAX_PIXELS = 2 ** 26;
/** The passes of an interlaced picture (Adam7): x, y of the first pixel, and the steps to the next. */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/**
 * Checks everything that determines how much a decoder allocates, before one runs: the size, and that the compressed
 * rows have exactly that size. Returns the header, and the file without chunks that the pixels do not need: colour
 * profiles and texts are compressed and could expand to anything. Throws PngError.
 */
function checkPng(bytes: Uint8Array): { readonly header: PngHeader; readonly essential: Uint8Array } {
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte))
    throw new PngError('format', 'not a PNG: it does not begin with the PNG signature');
  const kept: Uint8Array[] = [bytes.subarray(0, SIGNATURE.length)];
  const rows: Uint8Array[] = [];
  let header: PngHeader | null = null;
  for (const { type, content, whole } of chunks(bytes)) {
    if (header === null) {
      header = readHeader(type, content);
    } else if (type === 'IDAT') {
      rows.push(content);
    } else if (type !== 'PLTE' && type !== 'tRNS' && type !== 'IEND') {
      continue;
    }
    kept.push(whole);
  }
  checkRows(header!, Buffer.concat(rows));
  return { header: header!, essential: Buffer.concat(kept) };
}

interface Chunk {
  readonly type: string;
  readonly content: Uint8Array;
  /** The chunk with its length and checksum. */
  readonly whole: Uint8Array;
}

/** All chunks up to IEND; at least one. */
function* chunks(bytes: Uint8Array): Generator<Chunk> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = SIGNATURE.length, type = ''; type !== 'IEND';) {
    const end = at + 12 <= bytes.length ? at + 12 + view.getUint32(at) : Infinity;
    if (end > bytes.length)
      throw new PngError('format', `a truncated PNG: its ${bytes.length} bytes end inside a chunk`);
    type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    yield { type, content: bytes.subarray(at + 8, end - 4), whole: bytes.subarray(at, end) };
    at = end;
  }
}

function readHeader(type: string, content: Uint8Array): PngHeader {
  if (type !== 'IHDR' || content.length !== 13)
    throw new PngError('format', 'not a PNG: its first chunk is not a header');
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, colourType, , , interlace] = content.subarray(8) as unknown as [number, number, number, number, number];
  if (width === 0 || height === 0 || width * height > MAX_PIXELS) {
    throw new PngError('format', `a PNG of ${width}x${height}; supported are 1 to ${MAX_PIXELS} pixels`);
  }
  if (!COLOUR_TYPES[colourType]?.depths.includes(depth) || interlace > 1) {
    throw new PngError(
      'format',
      `a PNG of colour type ${colourType}, ${depth} bits and interlace method ${interlace}, which the format does not define`,
    );
  }
  const isInterlaced = interlace === 1;
  if (isInterlaced && depth < 8)
    throw new PngError('format', `an interlaced PNG of ${depth} bits: save it without interlacing`);
  return { width, height, depth, colourType, isInterlaced };
}

/** Checks that the rows decompress to the size in the header; stops decompressing where they exceed it. */
function checkRows(header: PngHeader, compressed: Uint8Array): void {
  const wanted = rowBytes(header);
  let length;
  try {
    length = inflateSync(compressed, { maxOutputLength: wanted }).length;
  } catch (cause) {
    const isTooMuch = cause instanceof RangeError;
    throw new PngError(
      'format',
      `a PNG whose pixels ${isTooMuch ? 'exceed the size in its header' : 'cannot be decompressed: the file is damaged or truncated'}`,
      { cause },
    );
  }
  if (length !== wanted) throw new PngError('format', `a truncated PNG: ${length} of ${wanted} bytes of pixels`);
}

/** The decompressed size; each row begins with a byte for its filter. */
function rowBytes({ width, height, depth, colourType, isInterlaced }: PngHeader): number {
  const bits = depth * COLOUR_TYPES[colourType]!.channels;
  const bytesOf = (columns: number, rows: number): number =>
    columns > 0 ? rows * (1 + Math.ceil((columns * bits) / 8)) : 0;
  if (!isInterlaced) return bytesOf(width, height);
  return PASSES.reduce(
    (sum, [x, y, dx, dy]) => sum + bytesOf(Math.ceil((width - x) / dx), Math.max(0, Math.ceil((height - y) / dy))),
    0,
  );
}

const INDEXED = 3;

/**
 * The pixels of a PNG as a screen shows them: 8 bits of R, G, B and an A of 255. The alpha of a PNG is not
 * premultiplied; it is blended with black here.
 */
function shownPixels(header: PngHeader, png: DecodedPng): Uint8Array {
  const { width, height, depth, colourType } = header;
  const samples = depth < 8 ? unpack(header, png.data) : png.data;
  const shown = new Uint8Array(width * height * 4).fill(255);
  const { palette } = png;
  if (colourType === INDEXED) {
    if (!palette) throw new PngError('format', 'a PNG with palette colours but without a palette');
    samples.forEach((index, i) => blend(shown, i * 4, paletteColour(palette, index)));
    return shown;
  }
  const { channels } = COLOUR_TYPES[colourType]!;
  const [isGrey, hasAlpha] = [channels < 3, channels % 2 === 0];
  const unit = 255 / (2 ** depth - 1);
  const transparent = png.transparency ?? [];
  for (let from = 0, to = 0; to < shown.length; from += channels, to += 4) {
    const [red, green, blue] = isGrey
      ? [samples[from]!, samples[from]!, samples[from]!]
      : [samples[from]!, samples[from + 1]!, samples[from + 2]!];
    const isHole =
      transparent.length > 0 &&
      red === transparent[0] &&
      (isGrey || (green === transparent[1] && blue === transparent[2]));
    const alpha = isHole ? 0 : hasAlpha ? (samples[from + channels - 1]! * unit) / 255 : 1;
    shown[to] = Math.round(red * unit * alpha);
    shown[to + 1] = Math.round(green * unit * alpha);
    shown[to + 2] = Math.round(blue * unit * alpha);
  }
  return shown;
}

function paletteColour(palette: NonNullable<DecodedPng['palette']>, index: number): readonly number[] {
  const colour = palette[index];
  if (!colour) throw new PngError('format', `a PNG with a pixel of colour ${index}; its palette has ${palette.length}`);
  return colour;
}

function blend(to: Uint8Array, at: number, [red, green, blue, alpha = 255]: readonly number[]): void {
  to[at] = Math.round((red! * alpha) / 255);
  to[at + 1] = Math.round((green! * alpha) / 255);
  to[at + 2] = Math.round((blue! * alpha) / 255);
}

/** One sample per byte, from rows that pack several samples into a byte and are padded to whole bytes. */
function unpack({ width, height, depth }: PngHeader, packed: ArrayLike<number>): Uint8Array {
  const samples = new Uint8Array(width * height);
  const stride = Math.ceil((width * depth) / 8);
  const mask = 2 ** depth - 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const bit = x * depth;
      samples[i] = (packed[y * stride + (bit >> 3)]! >> (8 - depth - (bit & 7))) & mask;
    }
  }
  return samples;
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
  for (const chunk of chunks(png)) if (chunk.type === type) yield chunk.content;
}
