import { describeModifier, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, type Fourcc, formatName, type Modifier } from '../../../protocols/drm-fourcc.ts';
import { GBM_BO_IMPORT_FD_MODIFIER, GBM_BO_USE_LINEAR, gbm_import_fd_modifier_data, GBM_MAX_PLANES } from '../../../protocols/gbm.ts';
import { SysError } from '../errors.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../fd.ts';
import { GbmBuffer } from './gbm-buffer.ts';
import { GbmError } from './gbm-error.ts';
import { type GbmBoPointer, type GbmDevicePointer, type GbmLibrary, loadGbm } from './gbm-library.ts';
import { SharedPointer } from './gbm-shared.ts';

const MAX_U32 = 0xffff_ffff;

export interface GbmBufferOptions {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  /** GBM_BO_USE_* or-ed together. */
  readonly usage: number;
  /** The layouts to choose from, without GBM_BO_USE_LINEAR in `usage`; default: whatever the driver thinks best for that usage. */
  readonly modifiers?: readonly Modifier[];
}

/** A memory plane of a buffer to import: bytes into its dma-buf, and from row to row. */
export interface GbmImportPlane {
  /** Stays the caller's. Planes in one dma-buf all name it. */
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
 * An allocator of buffers for one DRM device. Buffers keep it alive: after dispose it makes no
 * more of them, and goes with the last. Its GEM handles are those of the open file it was given.
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
   * `fd` is an open /dev/dri/card* or renderD*, and stays the caller's; the device keeps a
   * duplicate. Returns the reason, rather than throwing, where libgbm or a driver for the device
   * is missing; Mesa draws by software on cards it has none for. Loads the driver: tens of
   * milliseconds, seconds from a slow disk. `library` is for tests.
   */
  static open(fd: BorrowedFd, library: GbmLibrary | Error = loadGbm()): GbmDevice | GbmError {
    if (library instanceof Error) {
      return new GbmError('library-missing', `libgbm.so.1 cannot be loaded; install the package libgbm1 (${library.message})`, { cause: library });
    }
    const own = dupFd(fd);
    const device = library.createDevice(own.fd);
    if (device !== 0) return new GbmDevice(library, device, own);
    const cause = SysError.fromErrno('gbm_create_device');
    own[Symbol.dispose]();
    return new GbmError('device-refused', `libgbm has no driver for this device: ${cause.message}; install the package libgl1-mesa-dri`, { cause });
  }

  /** `drm` for all of Mesa's drivers. */
  get backendName(): string {
    return this.#library.backendName(this.#pointer);
  }

  /** Whether buffers of this format can be made for this usage (GBM_BO_USE_* or-ed together). */
  supports(format: Fourcc, usage: number): boolean {
    return this.#library.isFormatSupported(this.#pointer, format, usage) !== 0;
  }

  /** Memory planes of a buffer with this layout, auxiliary ones included; null if the driver has no such buffer or cannot tell. */
  planeCount(format: Fourcc, modifier: Modifier): number | null {
    const count = this.#library.modifierPlaneCount?.(this.#pointer, format, modifier) ?? -1;
    return count > 0 ? count : null;
  }

  /**
   * A new buffer, what is in it undefined. A driver that knows no modifiers is asked without, as
   * far as LINEAR or INVALID in the list allow that. GbmError `buffer-refused`; RangeError for a
   * size that is none.
   */
  createBuffer(options: GbmBufferOptions): GbmBuffer {
    const { width, height, format, usage, modifiers } = options;
    checkSize(width, height);
    const device = this.#pointer;
    const bo = modifiers ? this.#createWithModifiers(device, options, modifiers) : this.#library.create(device, width, height, format, usage);
    if (bo !== 0) return this.#adopt(bo);
    const cause = SysError.fromErrno('gbm_bo_create');
    const layouts = modifiers ? `, modifiers ${modifiers.map(describeModifier).join(', ')}` : '';
    throw new GbmError('buffer-refused', `the driver has no buffer of ${width}x${height} ${formatName(format)}, usage 0x${usage.toString(16)}${layouts}: ${cause.message}`, { cause });
  }

  /**
   * Somebody's dma-bufs as a buffer, which keeps their memory. The kernel gives one dma-buf one
   * GEM handle in an open file: import it there by GBM or by hand, never both. GbmError
   * `import-refused`; RangeError for a size or a number of planes that is none.
   */
  import({ width, height, format, modifier, planes }: GbmImportOptions, usage: number): GbmBuffer {
    checkSize(width, height);
    if (planes.length < 1 || planes.length > GBM_MAX_PLANES) throw new RangeError(`a buffer of ${planes.length} planes (1 to ${GBM_MAX_PLANES})`);
    const upToFour = (value: (plane: GbmImportPlane) => number, none: number): number[] => Array.from({ length: GBM_MAX_PLANES }, (_, i) => (planes[i] ? value(planes[i]) : none));
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
    const cause = SysError.fromErrno('gbm_bo_import');
    throw new GbmError('import-refused', `the driver takes no buffer of ${width}x${height} ${formatName(format)} ${describeModifier(modifier)}, strides ${planes.map(({ stride }) => stride).join(', ')}: ${cause.message}`, { cause });
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#device.letGo();
  }

  get #pointer(): GbmDevicePointer {
    if (this.#isDisposed) throw new Error('GBM device used after dispose');
    return this.#device.pointer;
  }

  #adopt(bo: GbmBoPointer): GbmBuffer {
    return new GbmBuffer(this.#library, this.#device, bo);
  }

  #createWithModifiers(device: GbmDevicePointer, { width, height, format, usage }: GbmBufferOptions, modifiers: readonly Modifier[]): GbmBoPointer {
    const { createWithModifiers, createWithModifiers2, create } = this.#library;
    const list = new Uint8Array(BigUint64Array.from(modifiers).buffer);
    const bo = createWithModifiers2
      ? createWithModifiers2(device, width, height, format, list, modifiers.length, usage)
      : createWithModifiers(device, width, height, format, list, modifiers.length);
    if (bo !== 0) return bo;
    if (modifiers.includes(DRM_FORMAT_MOD_INVALID)) return create(device, width, height, format, usage);
    return modifiers.includes(DRM_FORMAT_MOD_LINEAR) ? create(device, width, height, format, usage | GBM_BO_USE_LINEAR) : bo;
  }
}

function checkSize(width: number, height: number): void {
  const isSide = (side: number): boolean => Number.isInteger(side) && side > 0 && side <= MAX_U32;
  if (!isSide(width) || !isSide(height)) throw new RangeError(`a buffer of ${width}x${height} pixels`);
}
