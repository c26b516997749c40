import { ScanoutError } from '../../sys/errors.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { DriverRegion } from './driver-memory.ts';

/**
 * A recorded guest session, version 1. Integers are little-endian.
 *
 *     file    = header block*
 *     header  = "scanout\0"  u16 version  u8 scanouts  u8 zero
 *     block   = u32 rawLength  u32 storedLength  u32 crc32(stored)  stored
 *     stored  = brotli(record*), rawLength bytes of whole records
 *     record  = u8 kind  fields
 *
 * A `varint` is LEB128 of at most 2^53 - 1; a `zigzag` is a varint of n >= 0 ? 2n : -2n - 1.
 * Times are microseconds since the last record with a time; the first one is since the start.
 *
 *     END      = 0  varint time  varint commands  varint writes      (last record of the file)
 *     MEMORY   = 1  varint count  (varint guestAddress  varint size)*
 *     FEATURES = 2  u64 negotiated virtio features
 *     MONITOR  = 3  varint time  u8 scanout  u8 plugged  (when plugged:
 *                   varint width, height, refreshMhz, widthMm, heightMm  string name  string edid)
 *     WRITE    = 4  zigzag guestAddress - end of the write before  varint length  bytes
 *     COMMAND  = 5  varint time  u8 queue  varint responseSpace  varint length  bytes
 *     RESET    = 6  varint time
 *     PALETTE  = 7  zigzag as WRITE  varint pixels  u8 colours (1 to 16)  u32 colour*  packed
 *     string   = varint length  bytes
 *
 * WRITE has bytes of guest memory that changed before the next command; PALETTE is a WRITE of 4-byte pixels,
 * packed by `Palette`. Memory that was never written is zero, and neither MEMORY nor RESET changes its contents.
 * The commands of all queues are in the order in which the device took them. Blocks are compressed separately, so
 * a file that was cut off plays up to its last whole block.
 */

export const MAGIC: Uint8Array = new TextEncoder().encode('scanout\0');
export const VERSION = 1;
export const HEADER_SIZE = 12;
export const BLOCK_HEADER_SIZE = 12;

export const KIND = { END: 0, MEMORY: 1, FEATURES: 2, MONITOR: 3, WRITE: 4, COMMAND: 5, RESET: 6, PALETTE: 7 } as const;

/* Limits of what a reader accepts, and so of what a writer may produce. */
export const MAX_BLOCK = 8 * 2 ** 20;
export const MAX_REGIONS = 512;
export const MAX_WRITE = 64 * 1024;
export const MAX_COMMAND = 2 ** 20;
export const MAX_RESPONSE = 64 * 1024;
export const MAX_QUEUES = 2;
export const MAX_NAME = 64;
export const MAX_EDID = 1024;

/**
 * `magic`: not a recording; `version`: made by a newer program; `truncated`: ends early, and what came before is
 * good; `corrupt`: a block differs from what was written; `malformed`: a record is invalid; `too-large`: its guest
 * writes more memory than is allowed.
 */
export class RecordingError extends ScanoutError<
  'magic' | 'version' | 'truncated' | 'corrupt' | 'malformed' | 'too-large'
> {}

/** One record. `timeUs` is since the start of the session. Bytes are valid until the next record is read. */
export type RecordingEvent =
  | { readonly kind: 'memory'; readonly regions: readonly DriverRegion[] }
  | { readonly kind: 'features'; readonly features: bigint }
  | { readonly kind: 'monitor'; readonly timeUs: number; readonly scanout: number; readonly monitor: Monitor | null }
  | { readonly kind: 'write'; readonly guestAddress: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'command';
      readonly timeUs: number;
      readonly queue: number;
      readonly responseSpace: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: 'reset'; readonly timeUs: number }
  | { readonly kind: 'end'; readonly timeUs: number; readonly commands: number; readonly writes: number };

/** The most colours that pixels can be packed with. */
export const MAX_COLOURS = 16;

/** The bits of a packed pixel of `count` colours. */
function bitsFor(count: number): number {
  return count === 1 ? 0 : count === 2 ? 1 : count <= 4 ? 2 : 4;
}

/** The bytes of `pixels` packed pixels of `count` colours. */
export function packedLength(pixels: number, count: number): number {
  return Math.ceil((pixels * bitsFor(count)) / 8);
}

/**
 * Packs pixels of few colours, as text consoles have them, to 0, 1, 2 or 4 bits each, lowest bits first. Compression
 * alone would make them as small, but many times as many packed pictures fit into the block that a compressor
 * sees. Allocates at construction only.
 */
export class Palette {
  readonly colours = new Uint32Array(MAX_COLOURS);
  #count = 0;
  readonly #indices: Uint8Array;

  constructor(maxPixels: number) {
    this.#indices = new Uint8Array(maxPixels);
  }

  /** How many colours the last `index` found. */
  get count(): number {
    return this.#count;
  }

  /** Finds the colours of `length` pixels. False if there are too many. */
  index(pixels: Uint32Array, length: number): boolean {
    const { colours } = this;
    let count = 0;
    let last = -1;
    let lastIndex = 0;
    for (let i = 0; i < length; i++) {
      const pixel = pixels[i]!;
      if (pixel !== last) {
        lastIndex = 0;
        while (lastIndex < count && colours[lastIndex] !== pixel) lastIndex++;
        if (lastIndex === count) {
          if (count === MAX_COLOURS) return false;
          colours[count++] = pixel;
        }
        last = pixel;
      }
      this.#indices[i] = lastIndex;
    }
    this.#count = count;
    return true;
  }

  /** Packs the `length` pixels of the last `index`, which has to have returned true, into `into[at]`. */
  pack(length: number, into: Uint8Array, at: number): void {
    const bits = bitsFor(this.#count);
    if (bits === 0) return;
    const perByte = 8 / bits;
    for (let i = 0; i < length; i += perByte) {
      let byte = 0;
      for (let j = 0; j < perByte && i + j < length; j++) byte |= this.#indices[i + j]! << (j * bits);
      into[at++] = byte;
    }
  }
}

/** Undoes `pack`. False if an index has no colour. */
export function unpack(packed: Uint8Array, colours: readonly number[], pixels: Uint32Array, length: number): boolean {
  const bits = bitsFor(colours.length);
  if (bits === 0) {
    pixels.fill(colours[0]!, 0, length);
    return true;
  }
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  for (let i = 0; i < length; i++) {
    const colour = colours[(packed[Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & mask];
    if (colour === undefined) return false;
    pixels[i] = colour;
  }
  return true;
}
