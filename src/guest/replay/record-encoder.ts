import type { Monitor } from '../../core/monitor.ts';
import { KIND, MAX_COMMAND, MAX_EDID, MAX_NAME, MAX_RESPONSE, MAX_WRITE } from './format.ts';
import { Palette, packedLength } from './palette.ts';
import type { MemoryRegion } from './sparse-memory.ts';

/** The longest record but its bytes. */
const OVERHEAD = 32 * 1024;
const MAX_RECORD = MAX_COMMAND + OVERHEAD;

/**
 * Records as bytes, into a buffer that is taken away when it is `full`. Steady use allocates
 * nothing but buffers. Times are microseconds from the start of the session.
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
  /** The write being put together: neighbouring ones become one record. */
  readonly #run = new Uint8Array(MAX_WRITE);
  readonly #runPixels = new Uint32Array(this.#run.buffer);
  readonly #palette = new Palette(MAX_WRITE / 4);
  #runAddress = 0;
  #runLength = 0;

  /** Buffers end at the first record beyond `limit` bytes. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#buffer = new Uint8Array(limit + MAX_RECORD);
    this.#view = new DataView(this.#buffer.buffer);
  }

  get full(): boolean {
    return this.#at >= this.#limit;
  }

  /** Everything encoded since the last call, the caller's to keep. */
  take(): Uint8Array {
    this.#endRun();
    const taken = this.#buffer.slice(0, this.#at);
    this.#at = 0;
    return taken;
  }

  memory(regions: readonly MemoryRegion[]): void {
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
    for (const value of [monitor.width, monitor.height, monitor.refreshMhz, monitor.widthMm, monitor.heightMm]) this.#varint(value);
    this.#string(new TextEncoder().encode(monitor.name).subarray(0, MAX_NAME));
    this.#string((monitor.edid ?? new Uint8Array(0)).subarray(0, MAX_EDID));
  }

  /** `length` bytes of `bytes[from]` lie at a guest physical address from now on; at most a page. */
  write(guestAddress: number, bytes: Uint8Array, from: number, length: number): void {
    if (guestAddress !== this.#runAddress + this.#runLength || this.#runLength + length > MAX_WRITE) {
      this.#endRun();
      this.#runAddress = guestAddress;
    }
    this.#run.set(bytes.subarray(from, from + length), this.#runLength);
    this.#runLength += length;
  }

  /** Longer requests are cut to what a reader accepts: no device of ours runs those. */
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
