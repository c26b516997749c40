import { crc32 } from 'node:zlib';
import type { Picture } from '../../src/core/picture.ts';
import { encodePng } from './png.ts';

/** One step of an animation: pixels that replace those at x, y of what was shown before. */
export interface AnimationFrame {
  readonly x: number;
  readonly y: number;
  readonly patch: Picture;
  /** How long it is shown. Times over 65.5 s are cut to that, the format's limit. */
  readonly durationMs: number;
}

const SIGNATURE_SIZE = 8;
const MAX_DELAY_MS = 0xffff;

/**
 * An animated PNG that plays `frames` over and over, each only as large as what it changes. Viewers that know
 * nothing of animations show the first one, which has to be as large as the whole: it gives the size. Throws
 * RangeError for no frames, or one that lies outside.
 *
 * Chunks acTL, fcTL and fdAT are those of the PNG Specification (Third Edition), 11.3.6.
 */
export function encodeApng(frames: readonly AnimationFrame[]): Uint8Array {
  const [first] = frames;
  if (!first) throw new RangeError('an animation has at least one frame');
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
      chunks.push(png.subarray(0, SIGNATURE_SIZE), chunk('IHDR', [...chunksOf(png, 'IHDR')][0]!), chunk('acTL', u32(frames.length, 0)));
    }
    chunks.push(chunk('fcTL', frameControl(sequence++, frame)));
    for (const data of chunksOf(png, 'IDAT')) {
      chunks.push(index === 0 ? chunk('IDAT', data) : chunk('fdAT', Buffer.concat([u32(sequence++), data])));
    }
  }
  chunks.push(chunk('IEND', u32()));
  return Buffer.concat(chunks);
}

/** Dispose op NONE and blend op SOURCE: what a frame does not cover stays. */
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

/** The data of each chunk of that type, in a PNG of our own making. */
function* chunksOf(png: Uint8Array, type: string): Generator<Uint8Array> {
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.length);
  for (let at = SIGNATURE_SIZE; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    if (bytes.toString('latin1', at + 4, at + 8) === type) yield bytes.subarray(at + 8, at + 8 + length);
    at += 12 + length;
  }
}
