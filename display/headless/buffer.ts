import { DMA_BUF_SYNC_READ } from '../../protocols/dma-buf.ts';
import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { withCpuAccess } from '../../src/sys/dma-buf.ts';
import type { Framebuffer, MemoryPlane } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused, type Shadow } from '../../src/core/output.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { Mapping } from '../../src/sys/mapping.ts';

const BYTES_PER_PIXEL = 4;

/** What a headless screen reads: 32-bit pixels in a shadow of its own or in somebody's dma-buf. */
export class HeadlessBuffer implements Shadow {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly offset: number;
  readonly pixels: Mapping;
  /** Null for a shadow. */
  readonly #dmabuf: OwnedFd | null;
  /** Frames, shown or waiting, that have it. */
  #users = 0;
  #disposed = false;
  #freed = false;

  private constructor(width: number, height: number, format: Fourcc, plane: MemoryPlane, pixels: Mapping, dmabuf: OwnedFd | null) {
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

  /** A linear 32-bit dma-buf, which stays the caller's; its memory lives as long as the handle. */
  static import(framebuffer: Framebuffer, dmabuf: BorrowedFd): HeadlessBuffer | DmabufImportRefused {
    const { width, height, format } = framebuffer;
    const plane = framebuffer.planes[0];
    if (!plane || plane.stride < width * BYTES_PER_PIXEL) {
      return new DmabufImportRefused('size', `headless: rows of ${width} pixels do not fit a stride of ${plane?.stride ?? 0} bytes`);
    }
    let fd: OwnedFd | null = null;
    try {
      const own = (fd = dupFd(dmabuf));
      const length = plane.offset + plane.stride * (height - 1) + width * BYTES_PER_PIXEL;
      // Only a dma-buf answers; anything else could be cut short under the mapping.
      const pixels = withCpuAccess(own, DMA_BUF_SYNC_READ, () => Mapping.file(own, 0, length, 'read'));
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

  get isUsed(): boolean {
    return this.#users > 0;
  }

  get isFreed(): boolean {
    return this.#freed;
  }

  beginWrite(): void {
    // A shadow is ordinary memory, read by this process.
  }

  endWrite(): void {
    // A shadow is ordinary memory, read by this process.
  }

  /** A frame has it from now on. */
  acquire(): void {
    this.#users++;
  }

  /** A frame has it no more. A disposed buffer nobody uses is gone after this. */
  release(): void {
    this.#users--;
    if (this.#disposed) this.#freeIfUnused();
  }

  /** Runs `look` on the mapped memory; for a dma-buf between the two calls that make it coherent. */
  read<T>(look: (memory: Uint8Array) => T): T {
    if (!this.#dmabuf) return look(this.pixels.bytes);
    return withCpuAccess(this.#dmabuf, DMA_BUF_SYNC_READ, () => look(this.pixels.bytes));
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (this.#freed || this.#users > 0) return;
    this.#freed = true;
    this.pixels[Symbol.dispose]();
    this.#dmabuf?.[Symbol.dispose]();
  }
}
