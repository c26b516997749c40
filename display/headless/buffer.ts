import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { readDmabuf } from '../../src/sys/dma-buf.ts';
import type { Framebuffer, MemoryPlane } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused, type Shadow } from '../../src/core/output.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { BGRA, type LayerBuffer } from './scene.ts';

const BYTES_PER_PIXEL = 4;

/** What a headless screen reads: 32-bit pixels in a shadow of its own, or in a dma-buf it imported. */
export class HeadlessBuffer implements Shadow, LayerBuffer {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly offset: number;
  readonly order = BGRA;
  readonly pixels: Mapping;
  /** Null for a shadow. */
  readonly #dmabuf: OwnedFd | null;
  /** How many planes of the frames shown and waiting have it. */
  #users = 0;
  #isDisposed = false;

  private constructor(
    width: number,
    height: number,
    format: Fourcc,
    plane: MemoryPlane,
    pixels: Mapping,
    dmabuf: OwnedFd | null,
  ) {
    this.width = width;
    this.height = height;
    this.format = format;
    this.offset = plane.offset;
    this.stride = plane.stride;
    this.pixels = pixels;
    this.#dmabuf = dmabuf;
  }

  /** Zeroed. SysError ENOMEM; RangeError for a size that is not positive or beyond 3 GiB. */
  static shadow(width: number, height: number, format: Fourcc): HeadlessBuffer {
    const stride = width * BYTES_PER_PIXEL;
    return new HeadlessBuffer(width, height, format, { offset: 0, stride }, Mapping.anonymous(stride * height), null);
  }

  /** A linear 32-bit dma-buf. It stays the caller's; the handle keeps its memory alive. */
  static import(framebuffer: Framebuffer, dmabuf: BorrowedFd): HeadlessBuffer | DmabufImportRefused {
    const { width, height, format } = framebuffer;
    const plane = framebuffer.planes[0];
    if (!plane || plane.stride < width * BYTES_PER_PIXEL) {
      return new DmabufImportRefused(
        'size',
        `headless: rows of ${width} pixels do not fit a stride of ${plane?.stride ?? 0} bytes`,
      );
    }
    let fd: OwnedFd | null = null;
    try {
      const own = (fd = dupFd(dmabuf));
      const length = plane.offset + plane.stride * (height - 1) + width * BYTES_PER_PIXEL;
      // Succeeds for a dma-buf only: any other file could be truncated under the mapping.
      const pixels = readDmabuf(own, () => Mapping.file(own, 0, length, 'read'));
      return new HeadlessBuffer(width, height, format, plane, pixels, fd);
    } catch (cause) {
      fd?.[Symbol.dispose]();
      const reason = cause instanceof Error ? cause.message : String(cause);
      return new DmabufImportRefused('resources', `headless: cannot map the dma-buf for reading: ${reason}`, { cause });
    }
  }

  get isImport(): boolean {
    return this.#dmabuf !== null;
  }

  get isOpaque(): boolean {
    return this.format === DRM_FORMAT.XRGB8888;
  }

  get isHeld(): boolean {
    return this.#users > 0;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  beginWrite(): void {
    // A shadow is ordinary memory that this process reads.
  }

  endWrite(): void {
    // A shadow is ordinary memory that this process reads.
  }

  /** A plane of a frame has it from now on. */
  acquire(): void {
    this.#users++;
  }

  /** Undoes one `acquire`. Frees a disposed buffer that no frame has any longer. */
  release(): void {
    this.#users--;
    if (this.#isDisposed && this.#users === 0) this.#free();
  }

  /** Calls `look` with the mapped memory, which for a dma-buf is made coherent with its device's. SysError EBUSY. */
  read<T>(look: (memory: Uint8Array) => T): T {
    if (!this.#dmabuf) return look(this.pixels.bytes);
    return readDmabuf(this.#dmabuf, () => look(this.pixels.bytes));
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#users === 0) this.#free();
  }

  #free(): void {
    this.pixels[Symbol.dispose]();
    this.#dmabuf?.[Symbol.dispose]();
  }
}
