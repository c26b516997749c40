import { inflateSync } from 'node:zlib';
import { ScanoutError } from '../../src/sys/errors.ts';
import type { Size } from '../../src/core/geometry.ts';

/** Bytes that are no PNG, or one of a kind we do not read. */
export class PngError extends ScanoutError<'format'> {}

/** What IHDR says. */
export interface PngHeader extends Size {
  /** Bits of a sample. */
  readonly depth: number;
  readonly colourType: number;
  readonly isInterlaced: boolean;
}

/** The PNG specification's colour types: bits a sample may have, samples of a pixel. */
export const COLOUR_TYPES: Readonly<Record<number, { readonly depths: readonly number[]; readonly channels: number }>> = {
  0: { depths: [1, 2, 4, 8, 16], channels: 1 },
  2: { depths: [8, 16], channels: 3 },
  3: { depths: [1, 2, 4, 8], channels: 1 },
  4: { depths: [8, 16], channels: 2 },
  6: { depths: [8, 16], channels: 4 },
};

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** A monitor of 8192x8192; 256 MiB as a picture. */
const MAX_PIXELS = 2 ** 26;
/** x, y of the first pixel and steps to the next, of each pass of an interlaced picture (Adam7). */
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] as const;

/**
 * Checks what a decoder would have to allocate for, before one does: the size, and that the compressed
 * rows are exactly those of that size. Returns the header, and the file without what pixels do not
 * need, as profiles and texts may be compressed as well. Throws PngError.
 */
export function checkPng(bytes: Uint8Array): { readonly header: PngHeader; readonly essential: Uint8Array } {
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) throw new PngError('format', 'not a PNG: it does not begin with the signature of one');
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
  /** With length and check sum. */
  readonly whole: Uint8Array;
}

/** All to the one that ends the file; at least one. */
function* chunks(bytes: Uint8Array): Generator<Chunk> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = SIGNATURE.length, type = ''; type !== 'IEND'; ) {
    const end = at + 12 <= bytes.length ? at + 12 + view.getUint32(at) : Infinity;
    if (end > bytes.length) throw new PngError('format', `a PNG that is cut short: ${bytes.length} bytes end within a chunk`);
    type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    yield { type, content: bytes.subarray(at + 8, end - 4), whole: bytes.subarray(at, end) };
    at = end;
  }
}

function readHeader(type: string, content: Uint8Array): PngHeader {
  if (type !== 'IHDR' || content.length !== 13) throw new PngError('format', 'not a PNG: it does not begin with a header');
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, colourType, , , interlace] = content.subarray(8) as unknown as [number, number, number, number, number];
  if (width === 0 || height === 0 || width * height > MAX_PIXELS) {
    throw new PngError('format', `a PNG of ${width}x${height}: pictures of 1 to ${MAX_PIXELS} pixels are read`);
  }
  if (!COLOUR_TYPES[colourType]?.depths.includes(depth) || interlace > 1) {
    throw new PngError('format', `a PNG of colour type ${colourType}, ${depth} bits and interlace method ${interlace}, which the format does not know`);
  }
  const isInterlaced = interlace === 1;
  if (isInterlaced && depth < 8) throw new PngError('format', `an interlaced PNG of ${depth} bits: save it without interlacing`);
  return { width, height, depth, colourType, isInterlaced };
}

/** That inflating gives what the size says. It stops at that, whatever the compressed bytes would go on to give. */
function checkRows(header: PngHeader, compressed: Uint8Array): void {
  const wanted = rowBytes(header);
  let length;
  try {
    length = inflateSync(compressed, { maxOutputLength: wanted }).length;
  } catch (cause) {
    const isTooMuch = cause instanceof RangeError;
    throw new PngError('format', `a PNG whose pixels ${isTooMuch ? 'are more than its size says' : 'cannot be decompressed: the file is damaged or cut short'}`, { cause });
  }
  if (length !== wanted) throw new PngError('format', `a PNG that is cut short: ${length} of ${wanted} bytes of pixels`);
}

/** Each row has a byte for its filter. */
function rowBytes({ width, height, depth, colourType, isInterlaced }: PngHeader): number {
  const bits = depth * COLOUR_TYPES[colourType]!.channels;
  const bytesOf = (columns: number, rows: number): number => (columns > 0 ? rows * (1 + Math.ceil((columns * bits) / 8)) : 0);
  if (!isInterlaced) return bytesOf(width, height);
  return PASSES.reduce((sum, [x, y, dx, dy]) => sum + bytesOf(Math.ceil((width - x) / dx), Math.max(0, Math.ceil((height - y) / dy))), 0);
}
