import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { brotliDecompressSync, crc32 } from 'node:zlib';
import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import type { Monitor } from '../../core/monitor.ts';
import {
  BLOCK_HEADER_SIZE,
  HEADER_SIZE,
  KIND,
  MAGIC,
  MAX_BLOCK,
  MAX_COLOURS,
  MAX_COMMAND,
  MAX_EDID,
  MAX_NAME,
  MAX_QUEUES,
  MAX_REGIONS,
  MAX_RESPONSE,
  MAX_WRITE,
  packedLength,
  RecordingError,
  type RecordingEvent,
  unpack,
  VERSION,
} from './format.ts';
import { DRIVER_ADDRESS, type DriverRegion } from './driver-memory.ts';

/** A recording to read: its path, or all of its bytes. */
export type RecordingInput = { readonly file: string } | { readonly bytes: Uint8Array };

interface Input extends Disposable {
  readonly length: number;
  /** `length` bytes; fewer at the end. */
  read(offset: number, length: number): Uint8Array;
}

/** Reads the records of a recording, with one block in memory at a time. */
export class RecordingReader implements Disposable {
  readonly scanouts: number;
  readonly #input: Input;
  readonly #decoder = new RecordDecoder();
  #offset = HEADER_SIZE;

  private constructor(input: Input, scanouts: number) {
    this.#input = input;
    this.scanouts = scanouts;
  }

  /** RecordingError `magic`, `version`, `truncated`, `malformed`; the file system's errors for a path. */
  static open(from: RecordingInput): RecordingReader {
    const input = 'bytes' in from ? bytesInput(from.bytes) : fileInput(from.file);
    try {
      return new RecordingReader(input, readHeader(input.read(0, HEADER_SIZE)));
    } catch (error) {
      input[Symbol.dispose]();
      throw error;
    }
  }

  /** How much has been read, 0 to 1. */
  get fraction(): number {
    return this.#offset / Math.max(this.#input.length, HEADER_SIZE);
  }

  /** The next record; null after the last. RecordingError `truncated`, `corrupt`, `malformed`. */
  next(): RecordingEvent | null {
    while (this.#decoder.empty) {
      if (this.#offset === this.#input.length) {
        if (this.#decoder.ended) return null;
        throw truncated();
      }
      this.#decoder.feed(this.#block());
    }
    return this.#decoder.next();
  }

  [Symbol.dispose](): void {
    this.#input[Symbol.dispose]();
  }

  #block(): Uint8Array {
    const header = this.#input.read(this.#offset, BLOCK_HEADER_SIZE);
    if (header.length < BLOCK_HEADER_SIZE) throw truncated();
    const view = new DataView(header.buffer, header.byteOffset);
    const rawLength = view.getUint32(0, true);
    const storedLength = view.getUint32(4, true);
    const sum = view.getUint32(8, true);
    if (rawLength === 0 || rawLength > MAX_BLOCK || storedLength > MAX_BLOCK)
      throw new RecordingError('corrupt', `a block of ${rawLength} bytes, stored as ${storedLength}`);
    const stored = this.#input.read(this.#offset + BLOCK_HEADER_SIZE, storedLength);
    if (stored.length < storedLength) throw truncated();
    this.#offset += BLOCK_HEADER_SIZE + storedLength;
    if (crc32(stored) !== sum)
      throw new RecordingError('corrupt', `the block before byte ${this.#offset} does not match its checksum`);
    return decompress(stored, rawLength);
  }
}

function readHeader(header: Uint8Array): number {
  if (!MAGIC.every((byte, i) => i >= header.length || header[i] === byte))
    throw new RecordingError('magic', 'not a recording of a guest session');
  if (header.length < HEADER_SIZE) throw truncated();
  const version = header[8]! | (header[9]! << 8);
  if (version !== VERSION)
    throw new RecordingError('version', `a recording of version ${version}; this program reads version ${VERSION}`);
  const scanouts = header[10]!;
  if (scanouts < 1 || scanouts > VIRTIO_GPU_MAX_SCANOUTS)
    throw new RecordingError(
      'malformed',
      `a recording of ${scanouts} scanouts; there are 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`,
    );
  return scanouts;
}

function decompress(stored: Uint8Array, rawLength: number): Uint8Array {
  let raw: Uint8Array;
  try {
    raw = brotliDecompressSync(stored, { maxOutputLength: Math.max(rawLength, 1) });
  } catch (error) {
    throw new RecordingError('corrupt', 'a block cannot be decompressed', { cause: error });
  }
  if (raw.length !== rawLength)
    throw new RecordingError('corrupt', `a block has ${raw.length} bytes instead of ${rawLength}`);
  return raw;
}

function truncated(): RecordingError {
  return new RecordingError('truncated', 'the recording ends early: the file was cut off, or its recorder was killed');
}

function bytesInput(bytes: Uint8Array): Input {
  return {
    length: bytes.length,
    read: (offset, length) => bytes.subarray(offset, offset + length),
    [Symbol.dispose]: () => undefined,
  };
}

function fileInput(path: string): Input {
  let fd = openSync(path, 'r');
  return {
    length: fstatSync(fd).size,
    read(offset, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      for (let count = -1; count !== 0 && done < length; done += count)
        count = readSync(fd, bytes, done, length - done, offset + done);
      return bytes.subarray(0, done);
    },
    [Symbol.dispose]() {
      if (fd >= 0) closeSync(fd);
      fd = -1;
    },
  };
}

/** Decodes the records of blocks and checks them: every event it returns is safe to act on. RecordingError `malformed`. */
export class RecordDecoder {
  #bytes: Uint8Array = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  #timeUs = 0;
  #writeEnd = 0;
  #commands = 0;
  #writes = 0;
  #ended = false;
  /** The pixels of a packed write. */
  readonly #pixels = new Uint32Array(MAX_WRITE / 4);

  /** The END record has been read. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The block has been read to its end. */
  get empty(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Sets the next block, which is borrowed until it is `empty`. */
  feed(block: Uint8Array): void {
    this.#bytes = block;
    this.#view = new DataView(block.buffer, block.byteOffset, block.length);
    this.#at = 0;
    if (this.#ended && block.length > 0) throw malformed('records after the end');
  }

  /** The next record. The block must not be `empty`. */
  next(): RecordingEvent {
    const kind = this.#byte();
    switch (kind) {
      case KIND.END:
        return this.#end();
      case KIND.MEMORY:
        return { kind: 'memory', regions: this.#regions() };
      case KIND.FEATURES:
        this.#need(8);
        this.#at += 8;
        return { kind: 'features', features: this.#view.getBigUint64(this.#at - 8, true) };
      case KIND.MONITOR:
        return {
          kind: 'monitor',
          timeUs: this.#time(),
          scanout: this.#below(this.#byte(), VIRTIO_GPU_MAX_SCANOUTS, 'scanout'),
          monitor: this.#monitor(),
        };
      case KIND.WRITE:
        return this.#write(this.#varint(), this.#run(MAX_WRITE));
      case KIND.PALETTE:
        return this.#write(this.#varint(), this.#unpacked());
      case KIND.COMMAND: {
        this.#commands++;
        const timeUs = this.#time();
        const queue = this.#below(this.#byte(), MAX_QUEUES, 'queue');
        const responseSpace = this.#below(this.#varint(), MAX_RESPONSE + 1, 'response space');
        const bytes = this.#run(MAX_COMMAND);
        if (bytes.length + responseSpace === 0) throw malformed('a command of no bytes');
        return { kind: 'command', timeUs, queue, responseSpace, bytes };
      }
      case KIND.RESET:
        return { kind: 'reset', timeUs: this.#time() };
      default:
        throw malformed(`record of kind ${kind}`);
    }
  }

  #end(): RecordingEvent {
    const timeUs = this.#time();
    const commands = this.#varint();
    const writes = this.#varint();
    if (commands !== this.#commands || writes !== this.#writes) {
      throw malformed(
        `${this.#commands} commands and ${this.#writes} writes, but the end counts ${commands} and ${writes}`,
      );
    }
    if (!this.empty) throw malformed('records after the end');
    this.#ended = true;
    return { kind: 'end', timeUs, commands, writes };
  }

  #regions(): readonly DriverRegion[] {
    const count = this.#below(this.#varint(), MAX_REGIONS + 1, 'number of memory regions');
    const regions: DriverRegion[] = [];
    for (let i = 0; i < count; i++) {
      const guestAddress = this.#varint();
      const size = this.#varint();
      if (size === 0 || guestAddress + size > DRIVER_ADDRESS)
        throw malformed(`memory region of ${size} bytes at 0x${guestAddress.toString(16)}`);
      regions.push({ guestAddress, size });
    }
    const sorted = regions.toSorted((a, b) => a.guestAddress - b.guestAddress);
    if (sorted.some((region, i) => i > 0 && sorted[i - 1]!.guestAddress + sorted[i - 1]!.size > region.guestAddress))
      throw malformed('memory regions overlap');
    return regions;
  }

  #monitor(): Monitor | null {
    if (this.#byte() === 0) return null;
    const [width, height, refreshMhz, widthMm, heightMm] = Array.from({ length: 5 }, () =>
      this.#below(this.#varint(), 2 ** 31, 'size'),
    ) as [number, number, number, number, number];
    const name = new TextDecoder().decode(this.#run(MAX_NAME));
    const edid = this.#run(MAX_EDID).slice();
    const monitor = { width, height, refreshMhz, widthMm, heightMm, name };
    return edid.length === 0 ? monitor : { ...monitor, edid };
  }

  #write(zigzag: number, bytes: Uint8Array): RecordingEvent {
    this.#writes++;
    const guestAddress = this.#writeEnd + (zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2);
    if (guestAddress < 0 || guestAddress + bytes.length > DRIVER_ADDRESS) throw malformed(`write at ${guestAddress}`);
    this.#writeEnd = guestAddress + bytes.length;
    return { kind: 'write', guestAddress, bytes };
  }

  #unpacked(): Uint8Array {
    const pixels = this.#below(this.#varint(), MAX_WRITE / 4 + 1, 'number of pixels');
    const count = this.#byte();
    if (pixels === 0 || count === 0 || count > MAX_COLOURS) throw malformed(`${pixels} pixels of ${count} colours`);
    this.#need(count * 4);
    const colours = Array.from({ length: count }, (_, i) => this.#view.getUint32(this.#at + i * 4, true));
    this.#at += count * 4;
    const packed = packedLength(pixels, count);
    this.#need(packed);
    if (!unpack(this.#bytes.subarray(this.#at, this.#at + packed), colours, this.#pixels, pixels))
      throw malformed('a pixel without a colour');
    this.#at += packed;
    return new Uint8Array(this.#pixels.buffer, 0, pixels * 4);
  }

  #time(): number {
    this.#timeUs += this.#varint();
    if (!Number.isSafeInteger(this.#timeUs)) throw malformed('time beyond 2^53 microseconds');
    return this.#timeUs;
  }

  #run(limit: number): Uint8Array {
    const length = this.#varint();
    if (length > limit) throw malformed(`${length} bytes where at most ${limit} may be`);
    this.#need(length);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #below(value: number, limit: number, what: string): number {
    if (value >= limit) throw malformed(`${what} ${value}`);
    return value;
  }

  #byte(): number {
    this.#need(1);
    return this.#bytes[this.#at++]!;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 56; scale *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
    }
    throw malformed('a number beyond 2^53');
  }

  #need(length: number): void {
    if (this.#at + length > this.#bytes.length) throw malformed('a record reaches past its block');
  }
}

function malformed(what: string): RecordingError {
  return new RecordingError('malformed', `the recording is not valid: ${what}`);
}
