import { type Fourcc, formatInfo, formatName, type Modifier } from '../../../protocols/drm-fourcc.ts';
import { SysError } from '../errors.ts';
import { OwnedFd } from '../fd.ts';
import { GbmError } from './gbm-error.ts';
import type { GbmBoPointer, GbmDevicePointer, GbmLibrary } from './gbm-library.ts';
import { type GbmAccess, GbmMapping, type GbmRect } from './gbm-mapping.ts';
import { SharedPointer } from './gbm-shared.ts';

/** A number the kernel gave to memory, for one open file of a DRM device. */
export type GemHandle = number & { readonly __brand: 'GemHandle' };

/** Where a memory plane starts inside its dma-buf and how far its rows are apart, in bytes. */
export interface GbmPlane {
  readonly offset: number;
  readonly stride: number;
}

/** Memory for pixels. What it looks like can be read for ever; after dispose everything else throws. */
export class GbmBuffer implements Disposable {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  /** The layout the driver chose; DRM_FORMAT_MOD_INVALID if it does not say. */
  readonly modifier: Modifier;
  readonly planes: readonly GbmPlane[];
  readonly #library: GbmLibrary;
  readonly #bo: SharedPointer<GbmBoPointer>;
  #isDisposed = false;

  /** Takes over `bo` and holds its device. Made by GbmDevice only. */
  constructor(library: GbmLibrary, device: SharedPointer<GbmDevicePointer>, bo: GbmBoPointer) {
    device.hold();
    this.#library = library;
    this.#bo = new SharedPointer(bo, (pointer) => {
      library.destroy(pointer);
      device.letGo();
    });
    this.width = library.width(bo);
    this.height = library.height(bo);
    this.format = library.format(bo) as Fourcc;
    this.modifier = BigInt(library.modifier(bo)) as Modifier;
    // Some backends answer -1 for what has no planes to speak of.
    const count = Math.max(1, library.planeCount(bo));
    this.planes = Array.from({ length: count }, (_, i) => ({ offset: library.offset(bo, i), stride: library.stride(bo, i) }));
  }

  /**
   * The memory of a plane as a dma-buf of the caller's, close-on-exec; planes may share one. Whether
   * it can be mapped for writing is the driver's choice. GbmError `export-refused`: Mesa exports
   * no GBM_BO_USE_WRITE buffers; RangeError for a plane it does not have.
   */
  exportPlane(plane: number): OwnedFd {
    this.#checkPlane(plane);
    const bo = this.#pointer;
    const { fd, fdForPlane } = this.#library;
    if (!fdForPlane && plane > 0) throw this.#refusal('export-refused', `this libgbm.so.1 is too old to export plane ${plane}`);
    const number = fdForPlane ? fdForPlane(bo, plane) : fd(bo);
    if (number < 0) throw this.#refusal('export-refused', `plane ${plane} cannot be exported`, 'gbm_bo_get_fd_for_plane');
    return OwnedFd.adopt(number);
  }

  /** The plane's GEM handle in the device's open file: the buffer's, who closes it. As `exportPlane`. */
  gemHandle(plane: number): GemHandle {
    this.#checkPlane(plane);
    const handle = this.#library.handle(this.#pointer, plane);
    if (handle <= 0) throw this.#refusal('export-refused', `plane ${plane} has no GEM handle`, 'gbm_bo_get_handle_for_plane');
    return handle as GemHandle;
  }

  /**
   * A rectangle of the pixels for the CPU, linear whatever the modifier, often by way of a copy:
   * what was written is in the buffer once the mapping is disposed. The mapping keeps the memory.
   * GbmError `map-refused`; RangeError for a rectangle that leaves the buffer.
   */
  map(rect: GbmRect, access: GbmAccess): GbmMapping {
    const { x, y, width, height } = rect;
    const isInside = [x, y, width, height].every(Number.isInteger) && x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= this.width && y + height <= this.height;
    if (!isInside) throw new RangeError(`${width}x${height} at ${x},${y} of a buffer of ${this.width}x${this.height} pixels`);
    const info = formatInfo(this.format);
    const pixel = info?.planes.length === 1 ? info.planes[0]! : null;
    if (pixel?.blockWidth !== 1 || pixel.blockHeight !== 1) throw this.#refusal('map-refused', 'only formats with whole bytes a pixel, in one plane, can be mapped');
    this.#checkAlive();
    const mapping = GbmMapping.map(this.#library, this.#bo, rect, width * pixel.bytesPerBlock, access);
    if (mapping) return mapping;
    throw this.#refusal('map-refused', `${width}x${height} pixels cannot be mapped`, 'gbm_bo_map');
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#bo.letGo();
  }

  /** For a call of the library; a mapping may hold the memory longer than its owner. */
  get #pointer(): GbmBoPointer {
    this.#checkAlive();
    return this.#bo.pointer;
  }

  #checkAlive(): void {
    if (this.#isDisposed) throw new Error('GBM buffer used after dispose');
  }

  #checkPlane(plane: number): void {
    if (this.planes[plane] === undefined) throw new RangeError(`plane ${plane} of a buffer of ${this.planes.length}`);
  }

  #refusal(code: GbmError['code'], what: string, call?: string): GbmError {
    const cause = call === undefined ? undefined : SysError.fromErrno(call);
    const why = cause ? `: ${cause.message}` : '';
    return new GbmError(code, `${this.width}x${this.height} ${formatName(this.format)}: ${what}${why}`, { cause });
  }
}
