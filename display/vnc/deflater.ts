import { constants, createDeflate, type Deflate } from 'node:zlib';

/** Bytes that zlib has room for at once: most rectangles are one trip to its thread. */
const CHUNK = 2 ** 17;

/** One zlib stream, which a viewer inflates piece by piece as long as it is connected. */
export class Deflater {
  readonly #stream: Deflate;
  #level: number;
  #out: Buffer[] = [];

  /** `level` as of zlib, 0 to 9. */
  constructor(level: number) {
    this.#level = level;
    this.#stream = createDeflate({ level, flush: constants.Z_SYNC_FLUSH, chunkSize: CHUNK });
    // What is emitted is part of a larger buffer that is written to once only.
    this.#stream.on('data', (piece: Buffer) => this.#out.push(piece));
  }

  /** All that the viewer needs to have `bytes`, which must not change until it is there. One call at a time. */
  async deflate(bytes: Uint8Array, level: number): Promise<Buffer> {
    if (level !== this.#level) {
      this.#level = level;
      await new Promise<void>((resolve) => this.#stream.params(level, constants.Z_DEFAULT_STRATEGY, resolve));
    }
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()));
    const [first, ...rest] = this.#out;
    this.#out = [];
    return rest.length === 0 ? first! : Buffer.concat([first!, ...rest]);
  }

  close(): void {
    this.#stream.close();
  }
}
