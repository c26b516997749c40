import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc, formatName } from '../../protocols/drm-fourcc.ts';
import { VHOST_USER_GPU_CURSOR_SIZE } from '../../protocols/vhost-user-gpu.ts';
import type { Framebuffer, PagesBacking } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused, type Handle, type Shadow } from '../../src/core/output.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import type { Memory, ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { VmmDisplayError } from './errors.ts';

/** The protocol has XRGB8888 only; the alpha of a primary plane is ignored. */
export const FORMATS: readonly Fourcc[] = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
export const BYTES_PER_PIXEL = 4;

/** QEMU composes with pixman, whose coordinates are 16 bits. */
const MAX_SIDE = 32767;
/** The most that waits for a VMM that does not read, per scanout: an 8K picture. */
const MAX_PICTURE_BYTES = 128 * 2 ** 20;

/** A buffer of a VmmOutput. */
abstract class VmmHandle implements Handle {
  /** The attachment that presented it, while it is held. */
  holder: object | null = null;
  #isDisposed = false;

  get isHeld(): boolean {
    return this.holder !== null;
  }

  /** It cannot be presented any more. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.free();
  }

  /**
   * Called once. The VMM has copies of the pixels, or a descriptor of its own, so this does not wait until it
   * is not held.
   */
  protected abstract free(): void;
}

/** A buffer whose pixels `present` reads. */
export interface Readable extends VmmHandle {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly offset: number;
  readonly stride: number;
  readonly pixels: Memory | ScatteredMemory;
}

export class VmmShadow extends VmmHandle implements Shadow, Readable {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly offset = 0;
  readonly stride: number;
  readonly pixels: Mapping;

  /** SysError ENOMEM; VmmDisplayError `size`. */
  constructor(width: number, height: number, format: Fourcc) {
    super();
    if (!FORMATS.includes(format))
      throw new TypeError(`vmm: shadows are XRGB8888 or ARGB8888, not ${formatName(format)}`);
    if (isTooLarge(width, height))
      throw new VmmDisplayError('size', `vmm: a picture of ${width}x${height} is too large`);
    this.format = format;
    this.width = width;
    this.height = height;
    this.stride = width * BYTES_PER_PIXEL;
    this.pixels = Mapping.anonymous(this.stride * height);
  }

  beginWrite(): void {
    // It is ordinary memory that this process reads.
  }

  endWrite(): void {
    // It is ordinary memory that this process reads.
  }

  protected free(): void {
    this.pixels[Symbol.dispose]();
  }
}

/** Guest pages, which `present` reads. Owns nothing. */
export class PagesHandle extends VmmHandle implements Readable {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly offset: number;
  readonly stride: number;
  readonly #backing: PagesBacking;

  private constructor(framebuffer: Framebuffer, backing: PagesBacking) {
    super();
    const { offset, stride } = framebuffer.planes[0]!;
    this.format = framebuffer.format;
    this.width = framebuffer.width;
    this.height = framebuffer.height;
    this.offset = offset;
    this.stride = stride;
    this.#backing = backing;
  }

  static import(framebuffer: Framebuffer, backing: PagesBacking): PagesHandle | DmabufImportRefused {
    const refusal = refusalOf(framebuffer);
    if (refusal) return refusal;
    const { width, height, planes } = framebuffer;
    const { offset, stride } = planes[0]!;
    try {
      const end = offset + stride * (height - 1) + width * BYTES_PER_PIXEL;
      const { length } = backing.pixels();
      if (end > length)
        return new DmabufImportRefused(
          'resources',
          `vmm: a picture of ${end} bytes does not fit into ${length} bytes of pages`,
        );
    } catch (cause) {
      return new DmabufImportRefused('resources', `vmm: cannot read the guest's pages: ${String(cause)}`, { cause });
    }
    return new PagesHandle(framebuffer, backing);
  }

  get pixels(): Memory | ScatteredMemory {
    return this.#backing.pixels();
  }

  protected free(): void {
    // The pages and their mapping belong to the source.
  }
}

/** A dma-buf that the VMM reads itself. Owns a descriptor of it. */
export class DmabufHandle extends VmmHandle {
  readonly framebuffer: Framebuffer;
  readonly fd: OwnedFd;

  private constructor(framebuffer: Framebuffer, fd: OwnedFd) {
    super();
    this.framebuffer = framebuffer;
    this.fd = fd;
  }

  static import(framebuffer: Framebuffer, dmabuf: BorrowedFd): DmabufHandle | DmabufImportRefused {
    const refusal = refusalOf(framebuffer);
    if (refusal) return refusal;
    // A cursor is sent as pixels, which a shadow has.
    if (isCursorSized(framebuffer))
      return new DmabufImportRefused('resources', "vmm: a picture of a cursor's size is sent as pixels");
    // The messages have a stride but no offset.
    if (framebuffer.planes[0]!.offset !== 0)
      return new DmabufImportRefused('resources', 'vmm: the picture does not start where the dma-buf does');
    try {
      return new DmabufHandle(framebuffer, dupFd(dmabuf));
    } catch (cause) {
      return new DmabufImportRefused('resources', `vmm: cannot keep the dma-buf: ${String(cause)}`, { cause });
    }
  }

  protected free(): void {
    this.fd[Symbol.dispose]();
  }
}

/** Null for a dma-buf, for a handle that was disposed, and for none. */
export function readable(handle: Handle | null): Readable | null {
  return (handle instanceof PagesHandle || handle instanceof VmmShadow) && !handle.isDisposed ? handle : null;
}

function refusalOf({ format, modifier, width, height }: Framebuffer): DmabufImportRefused | null {
  if (!FORMATS.includes(format))
    return new DmabufImportRefused('format', `vmm: XRGB8888 and ARGB8888 are shown, not ${formatName(format)}`);
  if (modifier !== DRM_FORMAT_MOD_LINEAR)
    return new DmabufImportRefused('modifier', 'vmm: only linear buffers are shown');
  // Not permanent: the next picture of this format may be smaller.
  if (isTooLarge(width, height))
    return new DmabufImportRefused('resources', `vmm: a picture of ${width}x${height} is too large`);
  return null;
}

function isCursorSized({ width, height }: Framebuffer): boolean {
  return width <= VHOST_USER_GPU_CURSOR_SIZE && height <= VHOST_USER_GPU_CURSOR_SIZE;
}

function isTooLarge(width: number, height: number): boolean {
  return width > MAX_SIDE || height > MAX_SIDE || width * height * BYTES_PER_PIXEL > MAX_PICTURE_BYTES;
}
