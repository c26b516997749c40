import { formatInfo, minPitch, opaqueOf, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { toShmFormat } from '../../protocols/wayland/shm-format.ts';
import type { Shadow } from '../../src/core/output.ts';
import type { Mapping } from '../../src/sys/mapping.ts';
import { type BufferOwner, SurfaceBuffer } from './buffer.ts';
import type { Compositor } from './compositor.ts';
import type { ShmPools, ShmSlot } from './shm-pool.ts';

/** Bytes of a row, as all of ours are: a whole number of words, which pixman asks for. */
function strideOf(width: number, format: Fourcc): number {
  return (minPitch(formatInfo(format)!, 0, width) + 3) & ~3;
}

/** A shadow in shared memory. */
export class ShmBuffer extends SurfaceBuffer implements Shadow {
  readonly format: Fourcc;
  readonly stride: number;
  readonly #slot: ShmSlot;

  private constructor(owner: BufferOwner, slot: ShmSlot, width: number, height: number, format: Fourcc) {
    super(owner, width, height);
    this.format = format;
    this.stride = strideOf(width, format);
    this.#slot = slot;
  }

  /** Zeroed. SysError ENOMEM, ENOSPC, EMFILE; RangeError if it is too large. */
  static create(owner: BufferOwner, pools: ShmPools, width: number, height: number, format: Fourcc): ShmBuffer {
    return new ShmBuffer(owner, pools.take(strideOf(width, format) * height), width, height, format);
  }

  get pixels(): Mapping {
    return this.#slot.pixels;
  }

  override get isImport(): boolean {
    return false;
  }

  beginWrite(): void {
    // What is written is there for the compositor at once.
  }

  endWrite(): void {
    // What is written is there for the compositor at once.
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    const opaque = isOpaque ? opaqueOf(this.format) : null;
    const format = opaque !== null && compositor.shmFormats.has(opaque) ? opaque : this.format;
    // A compositor that came later may have fewer formats.
    if (!compositor.shmFormats.has(format)) return;
    this.adopt(compositor, this.#slot.pool.wlPool(compositor).createBuffer(this.#slot.offset, this.width, this.height, this.stride, toShmFormat(format)));
  }

  protected override free(): void {
    this.#slot[Symbol.dispose]();
  }
}
