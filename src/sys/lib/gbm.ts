/**
 * Buffers that a GPU, a display and the CPU share: libgbm, the public entry of
 * `scanout-bridge/gbm`, usable alone. libgbm.so.1 is loaded when a device is first opened.
 *
 *     import { openSync } from 'node:fs';
 *     import { DRM_FORMAT, formatName } from 'scanout-bridge/drm-fourcc';
 *     import { GBM_BO_USE_LINEAR, GBM_BO_USE_RENDERING, GbmDevice, GbmError } from 'scanout-bridge/gbm';
 *
 *     const device = GbmDevice.open({ fd: openSync(process.argv[2] ?? '/dev/dri/renderD128', 'r+') });
 *     if (device instanceof GbmError) throw device;
 *     const usage = GBM_BO_USE_RENDERING | GBM_BO_USE_LINEAR;
 *     const buffer = device.createBuffer({ width: 64, height: 48, format: DRM_FORMAT.XRGB8888, usage });
 *     const mapping = buffer.map({ x: 0, y: 0, width: 64, height: 48 }, 'write');
 *     for (let y = 0; y < 48; y++) mapping.bytes.fill(0x80, y * mapping.stride, y * mapping.stride + 64 * 4);
 *     mapping[Symbol.dispose](); // the pixels are in the buffer now
 *     const dmabuf = buffer.exportPlane(0); // for a compositor, an encoder, another process
 *     console.log(formatName(buffer.format), buffer.planes);
 *     for (const each of [dmabuf, buffer, device]) each[Symbol.dispose]();
 *
 * The caller disposes everything it asked for, in any order: a mapping keeps its buffer's memory
 * alive, and a buffer its device. Sizes are in pixels, strides and offsets in bytes. What libgbm or
 * the driver refuses is a GbmError; arguments that can never be right are a RangeError.
 */
import {
  describeModifier,
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  formatInfo,
  formatName,
  type Modifier,
} from '../../../protocols/drm-fourcc.ts';
import {
  GBM_BO_IMPORT_FD_MODIFIER,
  GBM_BO_TRANSFER_READ,
  GBM_BO_TRANSFER_WRITE,
  GBM_BO_USE_LINEAR,
  gbm_import_fd_modifier_data,
  GBM_MAX_PLANES,
} from '../../../protocols/gbm.ts';
import { addr64, u32 } from '../../../protocols/layout.ts';
import { ScanoutError, SysError } from '../errors.ts';
import { type BorrowedFd, dupFd, OwnedFd } from '../fd.ts';
import { errno } from '../libc.ts';
import { MAX_VIEW_LENGTH, NativeView } from '../native-buffer.ts';
import { type GbmBoPointer, type GbmDevicePointer, type GbmLibrary, type GbmMapData, loadGbm } from './gbm-library.ts';

export {
  GBM_BO_USE_CURSOR,
  GBM_BO_USE_FRONT_RENDERING,
  GBM_BO_USE_LINEAR,
  GBM_BO_USE_PROTECTED,
  GBM_BO_USE_RENDERING,
  GBM_BO_USE_SCANOUT,
  GBM_BO_USE_WRITE,
} from '../../../protocols/gbm.ts';
export type { BorrowedFd, OwnedFd } from '../fd.ts';
// Types only: instances come from a device or a buffer.
export type { GbmBuffer, GbmMapping };

const MAX_U32 = 0xffff_ffff;

export type GbmErrorCode =
  /** libgbm.so.1 is not installed. */
  | 'library-missing'
  /** libgbm has no driver for the device. */
  | 'device-refused'
  /** No buffer with this format, size, usage and these modifiers. */
  | 'buffer-refused'
  | 'import-refused'
  | 'export-refused'
  | 'map-refused';

/** libgbm refused. `cause` is a SysError with the errno it left. */
export class GbmError extends ScanoutError<GbmErrorCode> {}

export interface GbmBufferOptions {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  /** GBM_BO_USE_* or-ed together. */
  readonly usage: number;
  /**
   * Layouts that the driver may choose from; do not combine with GBM_BO_USE_LINEAR. Default: the
   * driver's choice for the usage.
   */
  readonly modifiers?: readonly Modifier[];
}

/** A memory plane of a buffer to import: where it starts in its dma-buf, and the distance between rows, in bytes. */
export interface GbmImportPlane {
  /** Borrowed. Planes that lie in one dma-buf all name it. */
  readonly fd: BorrowedFd;
  readonly offset: number;
  readonly stride: number;
}

export interface GbmImportOptions {
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier: Modifier;
  /** One to four. */
  readonly planes: readonly GbmImportPlane[];
}

/**
 * Allocates buffers on one DRM device. After dispose it makes no more; libgbm's own device is freed
 * with the last buffer. GEM handles are those of the open file it was given.
 */
export class GbmDevice implements Disposable {
  readonly #library: GbmLibrary;
  readonly #device: SharedPointer<GbmDevicePointer>;
  #isDisposed = false;

  private constructor(library: GbmLibrary, device: GbmDevicePointer, fd: OwnedFd) {
    this.#library = library;
    this.#device = new SharedPointer(device, (pointer) => {
      library.destroyDevice(pointer);
      fd[Symbol.dispose]();
    });
  }

  /**
   * `fd` is an open /dev/dri/card* or renderD*. The caller keeps it: the device holds a duplicate.
   * Returns the reason instead of throwing it if libgbm or a driver for the device is missing; for
   * cards without a driver of their own, Mesa renders in software. Loads the driver, which takes tens
   * of milliseconds, or seconds from a slow disk. Only tests pass `library`.
   */
  static open(fd: BorrowedFd, library: GbmLibrary | Error = loadGbm()): GbmDevice | GbmError {
    if (library instanceof Error) {
      return new GbmError(
        'library-missing',
        `libgbm.so.1 cannot be loaded; install the package libgbm1 (${library.message})`,
        { cause: library },
      );
    }
    const own = dupFd(fd);
    const device = library.createDevice(own.fd);
    if (device !== 0) return new GbmDevice(library, device, own);
    const cause = SysError.fromErrno('gbm_create_device', errno());
    own[Symbol.dispose]();
    return new GbmError(
      'device-refused',
      `libgbm has no driver for this device: ${cause.message}; install the package libgl1-mesa-dri`,
      { cause },
    );
  }

  /** `drm` with every driver of Mesa. */
  get backendName(): string {
    return this.#library.backendName(this.#pointer);
  }

  /** Whether buffers of this format can be made for this usage (GBM_BO_USE_* or-ed together). */
  supports(format: Fourcc, usage: number): boolean {
    return this.#library.isFormatSupported(this.#pointer, format, usage) !== 0;
  }

  /**
   * Memory planes of a buffer with this layout, including auxiliary ones; null if the driver has no
   * such buffer or does not say.
   */
  planeCount(format: Fourcc, modifier: Modifier): number | null {
    const count = this.#library.modifierPlaneCount?.(this.#pointer, format, modifier) ?? -1;
    return count > 0 ? count : null;
  }

  /**
   * Makes a buffer with undefined contents. If the driver does not support modifiers, it is asked
   * for a buffer without one, provided that the list has LINEAR or INVALID. GbmError
   * `buffer-refused`; RangeError for a side that is not between 1 and 2^32 - 1.
   */
  createBuffer(options: GbmBufferOptions): GbmBuffer {
    const { width, height, format, usage, modifiers } = options;
    checkSize(width, height);
    const device = this.#pointer;
    const bo = modifiers
      ? this.#createWithModifiers(device, options, modifiers)
      : this.#library.create(device, width, height, format, usage);
    if (bo !== 0) return this.#adopt(bo);
    const cause = SysError.fromErrno('gbm_bo_create', errno());
    const layouts = modifiers ? `, modifiers ${modifiers.map(describeModifier).join(', ')}` : '';
    throw new GbmError(
      'buffer-refused',
      `the driver cannot make a buffer of ${width}x${height} ${formatName(format)}, usage 0x${usage.toString(16)}${layouts}: ${cause.message}`,
      { cause },
    );
  }

  /**
   * Makes a buffer of existing dma-bufs and keeps their memory alive. The kernel gives one dma-buf
   * one GEM handle for each open file, so import it there through GBM or by ioctl, never both.
   * GbmError `import-refused`; RangeError for an impossible size or number of planes.
   */
  import({ width, height, format, modifier, planes }: GbmImportOptions, usage: number): GbmBuffer {
    checkSize(width, height);
    if (planes.length < 1 || planes.length > GBM_MAX_PLANES)
      throw new RangeError(`a buffer of ${planes.length} planes (1 to ${GBM_MAX_PLANES})`);
    const upToFour = (value: (plane: GbmImportPlane) => number, none: number): number[] =>
      Array.from({ length: GBM_MAX_PLANES }, (_, i) => (planes[i] ? value(planes[i]) : none));
    const data = gbm_import_fd_modifier_data.encode({
      width,
      height,
      format,
      num_fds: planes.length,
      fds: upToFour(({ fd }) => fd.fd, -1),
      strides: upToFour(({ stride }) => stride, 0),
      offsets: upToFour(({ offset }) => offset, 0),
      modifier,
    });
    const bo = this.#library.import(this.#pointer, GBM_BO_IMPORT_FD_MODIFIER, data, usage);
    if (bo !== 0) return this.#adopt(bo);
    const cause = SysError.fromErrno('gbm_bo_import', errno());
    throw new GbmError(
      'import-refused',
      `the driver cannot import a buffer of ${width}x${height} ${formatName(format)} ${describeModifier(modifier)}, strides ${planes.map(({ stride }) => stride).join(', ')}: ${cause.message}`,
      { cause },
    );
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#device.release();
  }

  get #pointer(): GbmDevicePointer {
    if (this.#isDisposed) throw new Error('GBM device used after dispose');
    return this.#device.pointer;
  }

  #adopt(bo: GbmBoPointer): GbmBuffer {
    return new GbmBuffer(this.#library, this.#device, bo);
  }

  #createWithModifiers(
    device: GbmDevicePointer,
    { width, height, format, usage }: GbmBufferOptions,
    modifiers: readonly Modifier[],
  ): GbmBoPointer {
    const { createWithModifiers, createWithModifiers2, create } = this.#library;
    const list = new Uint8Array(BigUint64Array.from(modifiers).buffer);
    const bo = createWithModifiers2
      ? createWithModifiers2(device, width, height, format, list, modifiers.length, usage)
      : createWithModifiers(device, width, height, format, list, modifiers.length);
    if (bo !== 0) return bo;
    if (modifiers.includes(DRM_FORMAT_MOD_INVALID)) return create(device, width, height, format, usage);
    return modifiers.includes(DRM_FORMAT_MOD_LINEAR)
      ? create(device, width, height, format, usage | GBM_BO_USE_LINEAR)
      : bo;
  }
}

function checkSize(width: number, height: number): void {
  const isSide = (side: number): boolean => Number.isInteger(side) && side > 0 && side <= MAX_U32;
  if (!isSide(width) || !isSide(height)) throw new RangeError(`a buffer of ${width}x${height} pixels`);
}

/** The kernel's number for a buffer, valid for one open file of a DRM device. */
export type GemHandle = number & { readonly __brand: 'GemHandle' };

/** Where a memory plane starts in its dma-buf, and the distance between rows, in bytes. */
export interface GbmPlane {
  readonly offset: number;
  readonly stride: number;
}

/** Memory for pixels. After dispose only its description can still be read; everything else throws. */
class GbmBuffer implements Disposable {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  /** The layout that the driver chose; DRM_FORMAT_MOD_INVALID if it does not say. */
  readonly modifier: Modifier;
  readonly planes: readonly GbmPlane[];
  readonly #library: GbmLibrary;
  readonly #bo: SharedPointer<GbmBoPointer>;
  #isDisposed = false;

  /** Takes ownership of `bo` and holds its device. Called by GbmDevice only. */
  constructor(library: GbmLibrary, device: SharedPointer<GbmDevicePointer>, bo: GbmBoPointer) {
    device.hold();
    this.#library = library;
    this.#bo = new SharedPointer(bo, (pointer) => {
      library.destroy(pointer);
      device.release();
    });
    this.width = library.width(bo);
    this.height = library.height(bo);
    this.format = library.format(bo) as Fourcc;
    this.modifier = BigInt(library.modifier(bo)) as Modifier;
    // Some backends return -1 for a buffer of a single plane.
    const count = Math.max(1, library.planeCount(bo));
    this.planes = Array.from({ length: count }, (_, i) => ({
      offset: library.offset(bo, i),
      stride: library.stride(bo, i),
    }));
  }

  /**
   * The memory of a plane as a dma-buf, close-on-exec, owned by the caller; several planes may lie
   * in one. Whether it can be mapped for writing depends on the driver. GbmError `export-refused`:
   * Mesa does not export GBM_BO_USE_WRITE buffers. RangeError for a plane it does not have.
   */
  exportPlane(plane: number): OwnedFd {
    this.#checkPlane(plane);
    const bo = this.#pointer;
    const { fd, fdForPlane } = this.#library;
    if (!fdForPlane && plane > 0)
      throw this.#refusal('export-refused', `this libgbm.so.1 is too old to export plane ${plane}`);
    const number = fdForPlane ? fdForPlane(bo, plane) : fd(bo);
    if (number < 0)
      throw this.#refusal('export-refused', `plane ${plane} cannot be exported`, 'gbm_bo_get_fd_for_plane');
    return OwnedFd.adopt(number);
  }

  /** The plane's GEM handle in the device's open file. The buffer closes it. Errors as for `exportPlane`. */
  gemHandle(plane: number): GemHandle {
    this.#checkPlane(plane);
    const handle = this.#library.handle(this.#pointer, plane);
    if (handle <= 0)
      throw this.#refusal('export-refused', `plane ${plane} has no GEM handle`, 'gbm_bo_get_handle_for_plane');
    return handle as GemHandle;
  }

  /**
   * Maps a rectangle of the pixels for the CPU, linear whatever the modifier. This is often a copy,
   * so what is written reaches the buffer only when the mapping is disposed. The mapping keeps the
   * memory alive. GbmError `map-refused`; RangeError for a rectangle that exceeds the buffer.
   */
  map(rect: GbmRect, access: GbmAccess): GbmMapping {
    const { x, y, width, height } = rect;
    const isInside =
      [x, y, width, height].every(Number.isInteger) &&
      x >= 0 &&
      y >= 0 &&
      width > 0 &&
      height > 0 &&
      x + width <= this.width &&
      y + height <= this.height;
    if (!isInside)
      throw new RangeError(`${width}x${height} at ${x},${y} exceeds a buffer of ${this.width}x${this.height} pixels`);
    const info = formatInfo(this.format);
    const pixel = info?.planes.length === 1 ? info.planes[0]! : null;
    if (pixel?.blockWidth !== 1 || pixel.blockHeight !== 1)
      throw this.#refusal('map-refused', 'only formats with one plane and whole bytes per pixel can be mapped');
    this.#checkAlive();
    const mapping = GbmMapping.map(this.#library, this.#bo, rect, width * pixel.bytesPerBlock, access);
    if (mapping) return mapping;
    throw this.#refusal('map-refused', `${width}x${height} pixels cannot be mapped`, 'gbm_bo_map');
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#bo.release();
  }

  /** For a call of the library. Throws after dispose, also while a mapping still holds the memory. */
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
    const cause = call === undefined ? undefined : SysError.fromErrno(call, errno());
    const why = cause ? `: ${cause.message}` : '';
    return new GbmError(code, `${this.width}x${this.height} ${formatName(this.format)}: ${what}${why}`, { cause });
  }
}

/**
 * `write`: every pixel of the rectangle will be written, so its contents may be lost. Writing to a
 * mapping made for `read` has no effect or kills the process.
 */
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

/**
 * A rectangle of a buffer as memory, from its first pixel to its last. After dispose its getters
 * throw and views taken earlier are detached.
 */
class GbmMapping implements Disposable {
  /** Distance between rows, in bytes. */
  readonly stride: number;
  readonly #native: NativeView;
  readonly #unmap: () => void;
  #isDisposed = false;

  private constructor(stride: number, native: NativeView, unmap: () => void) {
    this.stride = stride;
    this.#native = native;
    this.#unmap = unmap;
  }

  /** Holds `bo`. Null, with errno set, if it cannot be mapped. Called by GbmBuffer, which has checked the rectangle. */
  static map(
    library: GbmLibrary,
    bo: SharedPointer<GbmBoPointer>,
    { x, y, width, height }: GbmRect,
    rowBytes: number,
    access: GbmAccess,
  ): GbmMapping | null {
    const stride = new DataView(new ArrayBuffer(u32.size));
    const mapData = new DataView(new ArrayBuffer(addr64.size));
    const address = library.map(
      bo.pointer,
      x,
      y,
      width,
      height,
      FLAGS[access],
      new Uint8Array(stride.buffer),
      new Uint8Array(mapData.buffer),
    );
    if (address === 0) return null;
    const cookie = addr64.get(mapData, 0) as GbmMapData;
    const bytesPerRow = u32.get(stride, 0);
    const length = bytesPerRow * (height - 1) + rowBytes;
    if (length > MAX_VIEW_LENGTH) {
      library.unmap(bo.pointer, cookie);
      throw new RangeError(`a mapping of ${length} bytes (at most ${MAX_VIEW_LENGTH}): map parts of the buffer`);
    }
    bo.hold();
    return new GbmMapping(bytesPerRow, new NativeView(address, length), () => {
      library.unmap(bo.pointer, cookie);
      bo.release();
    });
  }

  /** The last row ends with its last pixel. */
  get bytes(): Uint8Array {
    return this.#native.bytes;
  }

  get view(): DataView {
    return this.#native.view;
  }

  /** Puts what was written into the buffer. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#native.detach();
    this.#unmap();
  }
}

/**
 * A C object with a use count: its owner holds it, and so does every object that points into it.
 * The last `release` frees it; after that `pointer` throws.
 */
class SharedPointer<P extends number> {
  readonly #free: (pointer: P) => void;
  readonly #pointer: P;
  #holders = 1;

  /** Held once, by the caller. */
  constructor(pointer: P, free: (pointer: P) => void) {
    this.#pointer = pointer;
    this.#free = free;
  }

  get pointer(): P {
    if (this.#holders === 0) throw new Error('GBM object used after it was freed');
    return this.#pointer;
  }

  hold(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) this.#free(this.#pointer);
  }
}
