import { closeSync, write, writeSync } from 'node:fs';
import { brotliCompress, brotliCompressSync, constants as zlib, crc32 } from 'node:zlib';
import type { Monitor } from '../../core/monitor.ts';
import { openReplacement } from '../../sys/replace-file.ts';
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

/** The most blocks that wait to be compressed or written before the writer is busy. */
const MAX_PENDING = 4;

/** The most blocks that are compressed at a time. libuv has four threads, which others need too. */
const MAX_JOBS = 2;

/** The window covers a whole block, because a console that scrolls repeats lines from megabytes ago. */
const OPTIONS = {
  params: { [zlib.BROTLI_PARAM_QUALITY]: 5, [zlib.BROTLI_PARAM_LGWIN]: 22 },
};

interface Block {
  readonly raw: Uint8Array;
  /** It is being compressed, or has been. */
  isTaken: boolean;
  /** The block as it is in the file, once it is compressed. */
  stored: Uint8Array | null;
}

/**
 * Compresses blocks and writes them in order, both in libuv's threads. The producer of blocks should stop while it
 * is busy: it keeps what it is given.
 */
export class RecordingWriter implements Disposable {
  /** The bytes in the file so far. */
  written = 0;
  /** Called when it may no longer be busy, also because it has ended. */
  onReady: () => void = () => undefined;
  readonly #onFailed: (error: Error) => void;
  readonly #pending: Block[] = [];
  #jobs = 0;
  #isWriting = false;
  #fd: number;

  private constructor(fd: number, onFailed: (error: Error) => void) {
    this.#fd = fd;
    this.#onFailed = onFailed;
  }

  /**
   * Replaces the file at a path, or a symlink there, by one that only its owner can read; or writes to the empty file of a
   * descriptor, which it closes. Throws the file system's error, SysError EEXIST if something else is there; a later
   * error goes to `onFailed`, once.
   */
  static create(file: string | number, scanouts: number, onFailed: (error: Error) => void): RecordingWriter {
    const writer = new RecordingWriter(typeof file === 'number' ? file : openReplacement(file), onFailed);
    const header = new Uint8Array(HEADER_SIZE);
    header.set(MAGIC);
    header.set([VERSION, 0, scanouts, 0], MAGIC.length);
    try {
      writer.#append(header);
    } catch (error) {
      writer.#fail(error as Error);
    }
    return writer;
  }

  /** So many blocks wait that no more should be made. */
  get isBusy(): boolean {
    return this.#pending.length >= MAX_PENDING;
  }

  /** Takes over `raw`: whole records, at most a block of them. */
  write(raw: Uint8Array): void {
    if (this.#fd < 0 || raw.length === 0) return;
    this.#pending.push({ raw, isTaken: false, stored: null });
    this.#work();
  }

  /** Writes what is pending and closes the file. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    try {
      // A write that is under way cannot be waited for. To write the same bytes at the same place again does no harm.
      for (const { raw, stored } of this.#pending)
        this.#append(stored ?? framed(raw, brotliCompressSync(raw, OPTIONS)));
      this.#end();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** Starts what can be started. */
  #work(): void {
    for (const block of this.#pending) {
      if (this.#jobs === MAX_JOBS) break;
      if (block.isTaken) continue;
      block.isTaken = true;
      this.#jobs++;
      brotliCompress(block.raw, OPTIONS, (error, compressed) => {
        this.#jobs--;
        if (this.#fd < 0) return;
        if (error) {
          this.#fail(error);
          return;
        }
        block.stored = framed(block.raw, compressed);
        this.#work();
      });
    }
    const stored = this.#pending[0]?.stored;
    if (stored && !this.#isWriting) this.#writeFirst(stored, 0);
  }

  /** Writes the first pending block from byte `done` on. */
  #writeFirst(stored: Uint8Array, done: number): void {
    const fd = this.#fd;
    this.#isWriting = true;
    write(fd, stored, done, stored.length - done, this.written + done, (error, count) => {
      this.#isWriting = false;
      if (this.#fd < 0) {
        closeSync(fd);
      } else if (error) {
        this.#fail(error);
      } else if (done + count < stored.length) {
        this.#writeFirst(stored, done + count);
      } else {
        this.written += stored.length;
        const wasBusy = this.isBusy;
        this.#pending.shift();
        this.#work();
        if (wasBusy) this.onReady();
      }
    });
  }

  #append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;)
      done += writeSync(this.#fd, bytes, done, bytes.length - done, this.written + done);
    this.written += bytes.length;
  }

  #fail(error: Error): void {
    this.#end();
    this.#onFailed(error);
  }

  /** Closes the file, now or when a write that is under way has ended. */
  #end(): void {
    if (!this.#isWriting) closeSync(this.#fd);
    this.#fd = -1;
    this.#pending.length = 0;
    this.onReady();
  }
}

/** A block with its header. */
function framed(raw: Uint8Array, compressed: Uint8Array): Uint8Array {
  const header = Buffer.alloc(BLOCK_HEADER_SIZE);
  header.writeUInt32LE(raw.length, 0);
  header.writeUInt32LE(compressed.length, 4);
  header.writeUInt32LE(crc32(compressed), 8);
  return Buffer.concat([header, compressed]);
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
