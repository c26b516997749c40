import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { brotliDecompressSync, crc32 } from 'node:zlib';
import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import { BLOCK_HEADER_SIZE, HEADER_SIZE, MAGIC, MAX_BLOCK, type RecordingEvent, RecordingError, VERSION } from './format.ts';
import { RecordDecoder } from './record-decoder.ts';

/** A recording to read: a path, or all of its bytes. */
export type RecordingInput = { readonly file: string } | { readonly bytes: Uint8Array };

interface Input extends Disposable {
  readonly length: number;
  /** Exactly `length` bytes, or fewer at the end. */
  read(offset: number, length: number): Uint8Array;
}

/** Records of a recording, one block in memory at a time. */
export class RecordingReader implements Disposable {
  readonly scanouts: number;
  readonly #input: Input;
  readonly #decoder = new RecordDecoder();
  #offset = HEADER_SIZE;

  private constructor(input: Input, scanouts: number) {
    this.#input = input;
    this.scanouts = scanouts;
  }

  /** RecordingError `magic`, `version`, `truncated`; the file system's errors for a path. */
  static open(from: RecordingInput): RecordingReader {
    const input = 'bytes' in from ? bytesInput(from.bytes) : fileInput(from.file);
    try {
      return new RecordingReader(input, readHeader(input.read(0, HEADER_SIZE)));
    } catch (error) {
      input[Symbol.dispose]();
      throw error;
    }
  }

  /** How far the reading is, 0 to 1. */
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
    if (rawLength > MAX_BLOCK || storedLength > MAX_BLOCK) throw new RecordingError('corrupt', `a block of ${rawLength} bytes, stored as ${storedLength}`);
    const stored = this.#input.read(this.#offset + BLOCK_HEADER_SIZE, storedLength);
    if (stored.length < storedLength) throw truncated();
    this.#offset += BLOCK_HEADER_SIZE + storedLength;
    if (crc32(stored) !== sum) throw new RecordingError('corrupt', `the block before byte ${this.#offset} fails its check sum`);
    return decompress(stored, rawLength);
  }
}

function readHeader(header: Uint8Array): number {
  if (!MAGIC.every((byte, i) => i >= header.length || header[i] === byte)) throw new RecordingError('magic', 'not a recording of a guest session');
  if (header.length < HEADER_SIZE) throw truncated();
  const version = header[8]! | (header[9]! << 8);
  if (version !== VERSION) throw new RecordingError('version', `a recording of version ${version}; this program reads version ${VERSION}`);
  const scanouts = header[10]!;
  if (scanouts < 1 || scanouts > VIRTIO_GPU_MAX_SCANOUTS) throw new RecordingError('malformed', `a recording of ${scanouts} scanouts`);
  return scanouts;
}

function decompress(stored: Uint8Array, rawLength: number): Uint8Array {
  let raw: Uint8Array;
  try {
    raw = brotliDecompressSync(stored, { maxOutputLength: Math.max(rawLength, 1) });
  } catch (error) {
    throw new RecordingError('corrupt', 'a block does not decompress', { cause: error });
  }
  if (raw.length !== rawLength) throw new RecordingError('corrupt', `a block of ${raw.length} bytes that promised ${rawLength}`);
  return raw;
}

function truncated(): RecordingError {
  return new RecordingError('truncated', 'the recording ends early: it was cut, or its recorder did not end well');
}

function bytesInput(bytes: Uint8Array): Input {
  return { length: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length), [Symbol.dispose]: () => undefined };
}

function fileInput(path: string): Input {
  let fd = openSync(path, 'r');
  return {
    length: fstatSync(fd).size,
    read(offset, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      for (let count = -1; count !== 0 && done < length; done += count) count = readSync(fd, bytes, done, length - done, offset + done);
      return bytes.subarray(0, done);
    },
    [Symbol.dispose]() {
      if (fd >= 0) closeSync(fd);
      fd = -1;
    },
  };
}
