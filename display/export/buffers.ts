import { EXPORT_KIND, export_layer } from '../../protocols/export.ts';
import { DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { formatBufferId, newBufferId } from '../../src/core/buffer-id.ts';
import type { Framebuffer, PixelLayout } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused, type Handle, type Shadow } from '../../src/core/output.ts';
import { dmabufSize } from '../../src/sys/dma-buf.ts';
import { SysError } from '../../src/sys/errors.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../src/sys/mapping.ts';
import {
  addSeals,
  createMemfd,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
} from '../../src/sys/memfd.ts';

const BYTES_PER_PIXEL = 4;

/** Each takes a descriptor. More than a bridge keeps on all its planes. */
const MAX_BUFFERS = 4096;

/** What a consumer gets for an id. */
export interface Importable {
  readonly kind: (typeof EXPORT_KIND)[keyof typeof EXPORT_KIND];
  readonly byteLength: number;
  readonly fd: BorrowedFd;
}

/** A buffer that consumers may import. */
export interface Exported {
  /** 16 bytes. */
  readonly id: Uint8Array;
  /** Throws what keeps the buffer from being handed over now. */
  open(): Importable;
}

/** What can be imported, by id. */
export class Exports {
  readonly #byId = new Map<string, Exported>();
  readonly #onGone: (id: Uint8Array) => void;

  /** `onGone` is called with the id of each buffer that is taken out. */
  constructor(onGone: (id: Uint8Array) => void) {
    this.#onGone = onGone;
  }

  get count(): number {
    return this.#byId.size;
  }

  get isFull(): boolean {
    return this.#byId.size >= MAX_BUFFERS;
  }

  get(id: Uint8Array): Exported | null {
    return this.#byId.get(formatBufferId(id)) ?? null;
  }

  add(exported: Exported): void {
    this.#byId.set(formatBufferId(exported.id), exported);
  }

  delete({ id }: Exported): void {
    if (this.#byId.delete(formatBufferId(id))) this.#onGone(id);
  }
}

/** A buffer of the screens: it is held while a frame that is shown has it, or a consumer has such a frame. */
abstract class SharedBuffer implements Handle {
  /** The beginning of its `export_layer`, up to `src`. */
  readonly layer = new Uint8Array(export_layer.offset.src);
  /** The attachment that presented it last. */
  holder: object | null = null;
  #users = 0;
  #isDisposed = false;

  protected constructor(id: Uint8Array, { width, height, format, modifier, planes }: PixelLayout) {
    const view = new DataView(this.layer.buffer);
    this.layer.set(id);
    export_layer.field.modifier.set(view, 0, modifier);
    export_layer.field.width.set(view, 0, width);
    export_layer.field.height.set(view, 0, height);
    export_layer.field.fourcc.set(view, 0, format);
    export_layer.field.planes.set(view, 0, planes.length);
    planes.forEach(({ offset, stride }, i) => {
      view.setUint32(export_layer.offset.offsets + 4 * i, offset, true);
      view.setUint32(export_layer.offset.strides + 4 * i, stride, true);
    });
  }

  /** Consumers may read it in place: it is not a copy. */
  abstract readonly isZeroCopy: boolean;

  get isHeld(): boolean {
    return this.#users > 0;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  acquire(): void {
    this.#users++;
  }

  /** Undoes one `acquire`. */
  release(): void {
    this.#users--;
    if (this.#isDisposed && this.#users === 0) this.free();
  }

  /** What is held stays importable until it is not. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#users === 0) this.free();
  }

  /** Called once. */
  protected abstract free(): void;
}

export type ExportBuffer = DmabufBuffer | ShadowBuffer;

/** A dma-buf for consumers. Owns a descriptor of it. */
export class DmabufBuffer extends SharedBuffer implements Exported, Importable {
  readonly isZeroCopy = true;
  readonly kind = EXPORT_KIND.DMABUF;
  readonly id: Uint8Array;
  readonly byteLength: number;
  readonly fd: OwnedFd;
  readonly #exports: Exports;

  private constructor(exports: Exports, id: Uint8Array, framebuffer: Framebuffer, fd: OwnedFd) {
    super(id, framebuffer);
    this.id = id;
    this.fd = fd;
    this.byteLength = dmabufSize(fd);
    this.#exports = exports;
    // The guest's own buffers are there already.
    if (!framebuffer.uuid) exports.add(this);
  }

  /** A dma-buf with the guest's id for it, or a new one. It stays the caller's. */
  static import(exports: Exports, framebuffer: Framebuffer, dmabuf: BorrowedFd): DmabufBuffer | DmabufImportRefused {
    if (framebuffer.planes.length > 4)
      return new DmabufImportRefused('size', `export: a frame has up to 4 planes, not ${framebuffer.planes.length}`);
    if (exports.isFull)
      return new DmabufImportRefused('resources', `export: ${exports.count} buffers are exported already`);
    try {
      return new DmabufBuffer(exports, framebuffer.uuid ?? newBufferId(), framebuffer, dupFd(dmabuf));
    } catch (cause) {
      return new DmabufImportRefused('resources', `export: cannot keep the dma-buf: ${String(cause)}`, { cause });
    }
  }

  open(): Importable {
    return this;
  }

  protected free(): void {
    if (this.#exports.get(this.id) === this) this.#exports.delete(this);
    this.fd[Symbol.dispose]();
  }
}

/** A copy for consumers, in memory that only this process can write. */
export class ShadowBuffer extends SharedBuffer implements Shadow, Exported, Importable {
  readonly isZeroCopy = false;
  readonly kind = EXPORT_KIND.MEMFD;
  readonly id: Uint8Array;
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly #exports: Exports;
  readonly #memory: SealedMemory;

  private constructor(exports: Exports, id: Uint8Array, layout: PixelLayout, memory: SealedMemory) {
    super(id, layout);
    this.id = id;
    this.format = layout.format;
    this.width = layout.width;
    this.height = layout.height;
    this.stride = layout.planes[0]!.stride;
    this.#exports = exports;
    this.#memory = memory;
    exports.add(this);
  }

  /** Zeroed. SysError EMFILE, ENOMEM; RangeError for a size that is not positive or beyond 3 GiB. */
  static create(exports: Exports, width: number, height: number, format: Fourcc): ShadowBuffer {
    const stride = width * BYTES_PER_PIXEL;
    const planes = [{ offset: 0, stride }];
    const memory = SealedMemory.create(stride * height);
    return new ShadowBuffer(
      exports,
      newBufferId(),
      { width, height, format, modifier: DRM_FORMAT_MOD_LINEAR, planes },
      memory,
    );
  }

  get pixels(): Mapping {
    return this.#memory.pixels;
  }

  get byteLength(): number {
    return this.#memory.pixels.length;
  }

  get fd(): BorrowedFd {
    return this.#memory.memfd;
  }

  open(): Importable {
    return this;
  }

  beginWrite(): void {
    // It is ordinary memory.
  }

  endWrite(): void {
    // It is ordinary memory.
  }

  protected free(): void {
    this.#exports.delete(this);
    this.#memory[Symbol.dispose]();
  }
}

/** A memfd that other processes can map, but neither write nor resize. */
export class SealedMemory implements Disposable {
  readonly memfd: OwnedFd;
  /** Writable, of whole pages. */
  readonly pixels: Mapping;

  private constructor(memfd: OwnedFd, pixels: Mapping) {
    this.memfd = memfd;
    this.pixels = pixels;
  }

  /** Zeroed. SysError EMFILE, ENOMEM; RangeError for a length that is not positive or beyond 3 GiB. */
  static create(byteLength: number): SealedMemory {
    const length = Math.ceil(byteLength / PAGE_SIZE) * PAGE_SIZE;
    const memfd = createMemfd('scanout-export', length, F_SEAL_SHRINK | F_SEAL_GROW);
    let pixels: Mapping | null = null;
    try {
      pixels = Mapping.file(memfd, 0, length, 'read-write');
      sealWrites(memfd);
      return new SealedMemory(memfd, pixels);
    } catch (error) {
      pixels?.[Symbol.dispose]();
      memfd[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.pixels[Symbol.dispose]();
    this.memfd[Symbol.dispose]();
  }
}

/** An older kernel (before 5.1) leaves it writable. */
function sealWrites(memfd: BorrowedFd): void {
  try {
    addSeals(memfd, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
  } catch (error) {
    if (!(error instanceof SysError && error.code === 'EINVAL')) throw error;
    addSeals(memfd, F_SEAL_SEAL);
  }
}
