import { closeSync, openSync, writeSync } from 'node:fs';
import { brotliCompress, brotliCompressSync, constants, crc32 } from 'node:zlib';
import { BLOCK_HEADER_SIZE, HEADER_SIZE, MAGIC, VERSION } from './format.ts';

/** Blocks that wait for compression or for one before them. */
const MAX_PENDING = 4;

/** Windows reach a whole block back: a console that scrolls repeats lines of megabytes ago. */
const OPTIONS = {
  params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 22 },
};

interface Block {
  readonly raw: Uint8Array;
  stored: Uint8Array | null;
}

/**
 * Writes blocks in order. They are compressed in libuv's threads; when those are behind by more
 * than a few blocks, `write` compresses in the caller's turn, so memory stays bounded (by the
 * raw size of five blocks) and a guest that draws faster than we compress is slowed down.
 */
export class RecordingWriter implements Disposable {
  /** Bytes of the file so far. */
  written = 0;
  readonly #onFailed: (error: Error) => void;
  readonly #pending: Block[] = [];
  #fd: number;

  private constructor(fd: number, onFailed: (error: Error) => void) {
    this.#fd = fd;
    this.#onFailed = onFailed;
  }

  /** Replaces the file, readable by its owner only. Throws the file system's errors; later ones go to `onFailed`, once. */
  static create(path: string, scanouts: number, onFailed: (error: Error) => void): RecordingWriter {
    const writer = new RecordingWriter(openSync(path, 'w', 0o600), onFailed);
    const header = new Uint8Array(HEADER_SIZE);
    header.set(MAGIC);
    header.set([VERSION, 0, scanouts, 0], MAGIC.length);
    writer.#append(header);
    return writer;
  }

  /** Takes over whole records, at most a block of them. */
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
    while (this.#fd >= 0 && this.#pending.length > 0 && (all || this.#pending[0]!.stored !== null)) this.#finish(this.#pending.shift()!);
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
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
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
