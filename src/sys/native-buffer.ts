import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { SysError } from './errors.ts';
import { calloc, free, viewOf } from './libc.ts';

/** V8 on Node 20 aborts the process on an ArrayBuffer above 4 GiB. Nothing here needs that much. */
export const MAX_VIEW_LENGTH = 3 * 2 ** 30;

type Transfer = (this: ArrayBuffer, newLength: number) => ArrayBuffer;

/**
 * `ArrayBuffer.prototype.transfer` detaches a buffer of foreign memory; structuredClone refuses to,
 * because Node marks such buffers as untransferable. Node 20 has `transfer` behind a V8 flag that
 * applies only to contexts made later, but a built-in of another context works on buffers of this one.
 */
function findTransfer(): Transfer {
  const own = (ArrayBuffer.prototype as { transfer?: Transfer }).transfer;
  if (own !== undefined) return own;
  setFlagsFromString('--harmony-rab-gsab-transfer');
  return runInNewContext('ArrayBuffer.prototype.transfer') as Transfer;
}

const transfer = findTransfer();

/**
 * Typed arrays over native memory that does not belong to V8. `detach` kills every view ever made
 * of it (a DataView throws, a Uint8Array has length 0), so that the memory can be unmapped or freed.
 */
export class NativeView {
  #bytes: Uint8Array | null;
  #view: DataView | null;

  constructor(address: number, length: number) {
    const buffer = viewOf(address, length);
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }

  get bytes(): Uint8Array {
    if (this.#bytes === null) throw new Error('native memory used after dispose');
    return this.#bytes;
  }

  get view(): DataView {
    if (this.#view === null) throw new Error('native memory used after dispose');
    return this.#view;
  }

  detach(): void {
    if (this.#bytes === null) return;
    transfer.call(this.#bytes.buffer as ArrayBuffer, 0);
    this.#bytes = null;
    this.#view = null;
  }
}

/**
 * Zeroed memory outside V8's heap, of fixed size and at a fixed address, for structs that the
 * kernel reads and writes. Aligned to 16 bytes. After dispose, its getters throw and views taken
 * earlier are detached.
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
