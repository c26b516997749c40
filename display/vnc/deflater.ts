import { constants, createDeflate, type Deflate } from 'node:zlib';

/** One zlib stream, which a viewer inflates piece by piece as long as it is connected. */
export class Deflater {
  readonly #stream: Deflate;
  #level: number;
  #out: Buffer[] = [];

  /** `level` as of zlib, 0 to 9. */
  constructor(level: number) {
    this.#level = level;
    this.#stream = createDeflate({ level });
    // What is emitted is part of a larger buffer that is written to once only.
    this.#stream.on('data', (piece: Buffer) => this.#out.push(piece));
  }

  /** All that the viewer needs to have `bytes`, which must not change until it is there. One call at a time. */
  async deflate(bytes: Uint8Array, level: number): Promise<Buffer> {
    if (level !== this.#level) {
      this.#level = level;
      await new Promise<void>((resolve) => this.#stream.params(level, constants.Z_DEFAULT_STRATEGY, resolve));
    }
    this.#stream.write(bytes);
    await new Promise<void>((resolve) => this.#stream.flush(constants.Z_SYNC_FLUSH, resolve));
    const out = Buffer.concat(this.#out);
    this.#out = [];
    return out;
  }

  close(): void {
    this.#stream.close();
  }
}
