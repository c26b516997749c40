import { GBM_BO_TRANSFER_READ, GBM_BO_TRANSFER_WRITE } from '../../../protocols/gbm.ts';
import { addr64, u32 } from '../../../protocols/layout.ts';
import type { GbmBoPointer, GbmLibrary, GbmMapData } from './gbm-library.ts';
import type { SharedPointer } from './gbm-shared.ts';
import { MAX_VIEW_LENGTH, NativeView } from '../native-buffer.ts';

/** `write`: every pixel of the rectangle will be written, what was there may be lost. Writes to a mapping for `read` are lost or fault. */
export type GbmAccess = 'read' | 'write' | 'read-write';

/** In pixels of the buffer. */
export interface GbmRect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const FLAGS: Readonly<Record<GbmAccess, number>> = {
  read: GBM_BO_TRANSFER_READ,
  write: GBM_BO_TRANSFER_WRITE,
  'read-write': GBM_BO_TRANSFER_READ | GBM_BO_TRANSFER_WRITE,
};

/** A rectangle of a buffer as memory, from its first pixel to its last. After dispose its getters throw and views taken before are dead. */
export class GbmMapping implements Disposable {
  /** Bytes from row to row. */
  readonly stride: number;
  readonly #native: NativeView;
  readonly #unmap: () => void;
  #isDisposed = false;

  private constructor(stride: number, native: NativeView, unmap: () => void) {
    this.stride = stride;
    this.#native = native;
    this.#unmap = unmap;
  }

  /** Holds `bo`. Null, with errno set, if it cannot be mapped. For GbmBuffer, which has checked the rectangle. */
  static map(library: GbmLibrary, bo: SharedPointer<GbmBoPointer>, { x, y, width, height }: GbmRect, rowBytes: number, access: GbmAccess): GbmMapping | null {
    const stride = new DataView(new ArrayBuffer(u32.size));
    const mapData = new DataView(new ArrayBuffer(addr64.size));
    const address = library.map(bo.pointer, x, y, width, height, FLAGS[access], new Uint8Array(stride.buffer), new Uint8Array(mapData.buffer));
    if (address === 0) return null;
    const cookie = addr64.get(mapData, 0) as GbmMapData;
    const rowToRow = u32.get(stride, 0);
    const length = rowToRow * (height - 1) + rowBytes;
    if (length > MAX_VIEW_LENGTH) {
      library.unmap(bo.pointer, cookie);
      throw new RangeError(`a mapping of ${length} bytes (at most ${MAX_VIEW_LENGTH}): map parts of the buffer`);
    }
    bo.hold();
    return new GbmMapping(rowToRow, new NativeView(address, length), () => {
      library.unmap(bo.pointer, cookie);
      bo.letGo();
    });
  }

  /** The last row ends with its last pixel. */
  get bytes(): Uint8Array {
    return this.#native.bytes;
  }

  get view(): DataView {
    return this.#native.view;
  }

  /** What was written is in the buffer from now on. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#native.detach();
    this.#unmap();
  }
}
