import { closeSync, openSync, writeSync } from 'node:fs';
import { brotliCompress, brotliCompressSync, constants, crc32 } from 'node:zlib';
import type { Monitor } from '../../core/monitor.ts';
import {
  BLOCK_HEADER_SIZE,
  HEADER_SIZE,
  KIND,
  MAGIC,
  MAX_COMMAND,
  MAX_EDID,
  MAX_NAME,
  MAX_RESPONSE,
  MAX_WRITE,
  packedLength,
  Palette,
  VERSION,
} from './format.ts';
import type { DriverRegion } from './driver-memory.ts';

/** The most blocks that may wait to be compressed, or for a block before them. */
const MAX_PENDING = 4;

/** The window covers a whole block, because a console that scrolls repeats lines from megabytes ago. */
const OPTIONS = {
  params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 22 },
};

interface Block {
  readonly raw: Uint8Array;
  stored: Uint8Array | null;
}

/**
 * Writes blocks in order. They are compressed in libuv's threads. If those fall behind by more than a few blocks,
 * `write` compresses in the calling thread, which bounds memory to the raw size of five blocks and slows down a
 * guest that draws faster than its session can be compressed.
 */
export class RecordingWriter implements Disposable {
  /** The bytes in the file so far. */
  written = 0;
  readonly #onFailed: (error: Error) => void;
  readonly #pending: Block[] = [];
  #fd: number;

  private constructor(fd: number, onFailed: (error: Error) => void) {
    this.#fd = fd;
    this.#onFailed = onFailed;
  }

  /** Replaces the file, readable by its owner only. Throws the file system's error; a later one goes to `onFailed`, once. */
  static create(path: string, scanouts: number, onFailed: (error: Error) => void): RecordingWriter {
    const writer = new RecordingWriter(openSync(path, 'w', 0o600), onFailed);
    const header = new Uint8Array(HEADER_SIZE);
    header.set(MAGIC);
    header.set([VERSION, 0, scanouts, 0], MAGIC.length);
    writer.#append(header);
    return writer;
  }

  /** Takes over `raw`: whole records, at most a block of them. */
  write(raw: Uint8Array): void {
    if (this.#fd < 0 || raw.length === 0) return;
    const block: Block = { raw, stored: null };
    this.#pending.push(block);
    brotliCompress(raw, OPTIONS, (error, stored) => {
      if (error === null) block.stored = stored;
      this.#drain(false);
    });
    if (this.#pending.length > MAX_PENDING) this.#finish(this.#pending.shift()!);
  }

  /** Writes what is pending and closes the file. */
  [Symbol.dispose](): void {
    this.#drain(true);
    this.#close();
  }

  #drain(all: boolean): void {
    while (this.#fd >= 0 && this.#pending.length > 0 && (all || this.#pending[0]!.stored !== null))
      this.#finish(this.#pending.shift()!);
  }

  #finish(block: Block): void {
    const stored = block.stored ?? brotliCompressSync(block.raw, OPTIONS);
    const header = Buffer.alloc(BLOCK_HEADER_SIZE);
    header.writeUInt32LE(block.raw.length, 0);
    header.writeUInt32LE(stored.length, 4);
    header.writeUInt32LE(crc32(stored), 8);
    this.#append(Buffer.concat([header, stored]));
  }

  #append(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(this.#fd, bytes, done);
      this.written += bytes.length;
    } catch (error) {
      this.#pending.length = 0;
      this.#close();
      this.#onFailed(error as Error);
    }
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** More than the longest record takes besides its bytes. */
const OVERHEAD = 32 * 1024;
const MAX_RECORD = MAX_COMMAND + OVERHEAD;

/**
 * Encodes records into a buffer, which the caller takes when it is `full`. Steady use allocates nothing but
 * buffers. Times are microseconds since the start of the session.
 */
export class RecordEncoder {
  commands = 0;
  writes = 0;
  readonly #limit: number;
  #buffer: Uint8Array;
  #view: DataView;
  #at = 0;
  #timeUs = 0;
  #writeEnd = 0;
  /** The write that is being collected: neighbouring ones become one record. */
  readonly #run = new Uint8Array(MAX_WRITE);
  readonly #runPixels = new Uint32Array(this.#run.buffer);
  readonly #palette = new Palette(MAX_WRITE / 4);
  #runAddress = 0;
  #runLength = 0;

  /** A buffer is full after the first record that reaches beyond `limit` bytes. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#buffer = new Uint8Array(limit + MAX_RECORD);
    this.#view = new DataView(this.#buffer.buffer);
  }

  get full(): boolean {
    return this.#at >= this.#limit;
  }

  /** Everything that was encoded since the last call, as a copy. */
  take(): Uint8Array {
    this.#endRun();
    const taken = this.#buffer.slice(0, this.#at);
    this.#at = 0;
    return taken;
  }

  memory(regions: readonly DriverRegion[]): void {
    this.#begin(KIND.MEMORY);
    this.#varint(regions.length);
    for (const region of regions) {
      this.#varint(region.guestAddress);
      this.#varint(region.size);
    }
  }

  features(features: bigint): void {
    this.#begin(KIND.FEATURES);
    this.#view.setBigUint64(this.#at, features, true);
    this.#at += 8;
  }

  monitor(timeUs: number, scanout: number, monitor: Monitor | null): void {
    this.#begin(KIND.MONITOR);
    this.#time(timeUs);
    this.#byte(scanout);
    this.#byte(monitor === null ? 0 : 1);
    if (monitor === null) return;
    for (const value of [monitor.width, monitor.height, monitor.refreshMhz, monitor.widthMm, monitor.heightMm])
      this.#varint(value);
    this.#string(new TextEncoder().encode(monitor.name).subarray(0, MAX_NAME));
    this.#string((monitor.edid ?? new Uint8Array(0)).subarray(0, MAX_EDID));
  }

  /** `length` bytes from `bytes[from]` on, at most a page, are now at a guest physical address. */
  write(guestAddress: number, bytes: Uint8Array, from: number, length: number): void {
    if (guestAddress !== this.#runAddress + this.#runLength || this.#runLength + length > MAX_WRITE) {
      this.#endRun();
      this.#runAddress = guestAddress;
    }
    this.#run.set(bytes.subarray(from, from + length), this.#runLength);
    this.#runLength += length;
  }

  /** Requests longer than a reader accepts are cut; no command is as long. */
  command(timeUs: number, queue: number, responseSpace: number, request: Uint8Array, length: number): void {
    const kept = Math.min(length, MAX_COMMAND);
    this.#begin(KIND.COMMAND);
    this.#time(timeUs);
    this.#byte(queue);
    this.#varint(Math.min(responseSpace, MAX_RESPONSE));
    this.#varint(kept);
    this.#buffer.set(request.subarray(0, kept), this.#at);
    this.#at += kept;
    this.commands++;
  }

  reset(timeUs: number): void {
    this.#begin(KIND.RESET);
    this.#time(timeUs);
  }

  end(timeUs: number): void {
    this.#begin(KIND.END);
    this.#time(timeUs);
    this.#varint(this.commands);
    this.#varint(this.writes);
  }

  #begin(kind: number): void {
    this.#endRun();
    this.#byte(kind);
  }

  #endRun(): void {
    const length = this.#runLength;
    if (length === 0) return;
    this.#runLength = 0;
    const delta = this.#runAddress - this.#writeEnd;
    this.#writeEnd = this.#runAddress + length;
    this.writes++;
    const pixels = length / 4;
    const packs = Number.isInteger(pixels) && this.#palette.index(this.#runPixels, pixels);
    this.#byte(packs ? KIND.PALETTE : KIND.WRITE);
    this.#varint(delta >= 0 ? delta * 2 : -delta * 2 - 1);
    if (packs) {
      this.#packed(pixels);
      return;
    }
    this.#varint(length);
    this.#buffer.set(this.#run.subarray(0, length), this.#at);
    this.#at += length;
  }

  #packed(pixels: number): void {
    const { count, colours } = this.#palette;
    this.#varint(pixels);
    this.#byte(count);
    for (let i = 0; i < count; i++) {
      this.#view.setUint32(this.#at, colours[i]!, true);
      this.#at += 4;
    }
    this.#palette.pack(pixels, this.#buffer, this.#at);
    this.#at += packedLength(pixels, count);
  }

  #time(timeUs: number): void {
    const delta = Math.max(0, Math.round(timeUs) - this.#timeUs);
    this.#timeUs += delta;
    this.#varint(delta);
  }

  #string(bytes: Uint8Array): void {
    this.#varint(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #byte(value: number): void {
    this.#buffer[this.#at++] = value;
  }

  #varint(value: number): void {
    while (value >= 0x80) {
      this.#buffer[this.#at++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.#buffer[this.#at++] = value;
  }
}
