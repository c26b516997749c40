import { calloc, free } from './libc.ts';
import { SysError } from './errors.ts';
import { NativeView } from './native-view.ts';

/**
 * Zeroed memory outside V8's heap, of fixed size, whose address never moves: for structs handed
 * to the kernel. Aligned to 16 bytes. Everything throws after dispose, older views included.
 */
export class NativeBuffer implements Disposable {
  readonly length: number;
  #address: number;
  readonly #native: NativeView;

  private constructor(address: number, length: number) {
    this.#address = address;
    this.length = length;
    this.#native = new NativeView(address, length);
  }

  /** SysError ENOMEM; RangeError for a length that is not a positive integer. */
  static allocate(length: number): NativeBuffer {
    if (!Number.isSafeInteger(length) || length <= 0) throw new RangeError(`not a buffer length: ${length}`);
    const address = calloc(1, length);
    if (address === 0) throw new SysError('calloc', 'ENOMEM', `${length} bytes`);
    return new NativeBuffer(address, length);
  }

  get address(): number {
    if (this.#address === 0) throw new Error('native memory used after dispose');
    return this.#address;
  }

  get bytes(): Uint8Array {
    return this.#native.bytes;
  }

  get view(): DataView {
    return this.#native.view;
  }

  [Symbol.dispose](): void {
    if (this.#address === 0) return;
    this.#native.detach();
    free(this.#address);
    this.#address = 0;
  }
}
