import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { viewOf } from './libc.ts';

/** V8 on Node 20 aborts the process on an ArrayBuffer above 4 GiB; nothing of ours comes near. */
export const MAX_VIEW_LENGTH = 3 * 2 ** 30;

type Transfer = (this: ArrayBuffer, newLength: number) => ArrayBuffer;

/**
 * `ArrayBuffer.prototype.transfer` detaches what structuredClone will not: Node marks foreign
 * memory as untransferable. Node 20 has it behind a V8 flag that counts for contexts made later,
 * and a built-in of another context works on our buffers.
 */
function findTransfer(): Transfer {
  const own = (ArrayBuffer.prototype as { transfer?: Transfer }).transfer;
  if (own !== undefined) return own;
  setFlagsFromString('--harmony-rab-gsab-transfer');
  return runInNewContext('ArrayBuffer.prototype.transfer') as Transfer;
}

const transfer = findTransfer();

/**
 * Foreign memory as typed arrays, which can be taken back: after `detach` every view ever made of
 * it is dead (a DataView throws, a Uint8Array has length 0), so the memory may be unmapped.
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
