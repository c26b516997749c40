import { formatInfo, minPitch, opaqueOf, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { toShmFormat } from '../../protocols/wayland/shm-format.ts';
import type { Shadow } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../src/sys/mapping.ts';
import { createMemfd, growMemfd } from '../../src/sys/memfd.ts';
import type { WlShmPool } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { SurfaceBuffer } from './surface.ts';

/** Sizes and offsets of wl_shm_pool are 32-bit integers. */
const MAX_POOL_SIZE = 2 ** 31 - 1;

/** A shadow in shared memory. */
export class ShmBuffer extends SurfaceBuffer implements Shadow {
  readonly format: Fourcc;
  readonly stride: number;
  readonly #slot: ShmSlot;

  private constructor(
    slot: ShmSlot,
    width: number,
    height: number,
    format: Fourcc,
    onUnlocked?: (buffer: SurfaceBuffer) => void,
  ) {
    super(width, height, onUnlocked);
    this.format = format;
    this.stride = strideOf(width, format);
    this.#slot = slot;
  }

  /**
   * A zeroed buffer. `onUnlocked` as for SurfaceBuffer. Throws SysError ENOMEM, ENOSPC, EMFILE;
   * RangeError if it is too large.
   */
  static create(
    pools: ShmPools,
    width: number,
    height: number,
    format: Fourcc,
    onUnlocked?: (buffer: SurfaceBuffer) => void,
  ): ShmBuffer {
    return new ShmBuffer(pools.take(strideOf(width, format) * height), width, height, format, onUnlocked);
  }

  get pixels(): Mapping {
    return this.#slot.pixels;
  }

  override points(): null {
    return null;
  }

  beginWrite(): void {
    // The memory is shared: there is nothing to prepare.
  }

  endWrite(): void {
    // The memory is shared: the compositor sees what was written.
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    const opaque = isOpaque ? opaqueOf(this.format) : null;
    const format = opaque !== null && compositor.shmFormats.has(opaque) ? opaque : this.format;
    // The next compositor may have fewer formats than the one the buffer was made for.
    if (!compositor.shmFormats.has(format)) return;
    this.adopt(
      compositor,
      this.#slot.pool
        .wlPool(compositor)
        .createBuffer(this.#slot.offset, this.width, this.height, this.stride, toShmFormat(format)),
    );
  }

  protected override free(): void {
    this.#slot[Symbol.dispose]();
  }
}

/**
 * Rows begin at multiples of this many bytes, as graphics cards want them: compositors that import pools by udmabuf, as
 * KWin does, copy nothing then.
 */
const ALIGNMENT = 256;

/** In bytes. */
function strideOf(width: number, format: Fourcc): number {
  return Math.ceil(minPitch(formatInfo(format)!, 0, width) / ALIGNMENT) * ALIGNMENT;
}

/** Memory for one picture, disposed by its owner. */
export interface ShmSlot extends Disposable {
  readonly pool: Pick<ShmPool, 'wlPool'>;
  /** In bytes, into the pool's file. */
  readonly offset: number;
  readonly pixels: Mapping;
}

/** The pools of one window, one for each size of picture in use: dragging the window leaves no memory behind. */
export class ShmPools {
  #pools: ShmPool[] = [];

  /**
   * A zeroed slot of at least `byteLength` bytes. Throws SysError ENOMEM, ENOSPC, EMFILE;
   * RangeError if it is too large.
   */
  take(byteLength: number): ShmSlot {
    this.#pools = this.#pools.filter((pool) => pool.isUsed);
    let pool = this.#pools.find((each) => each.fits(byteLength));
    if (!pool) this.#pools.push((pool = new ShmPool(byteLength)));
    return pool.take();
  }
}

/** Slots of one size in one memfd. It grows by a slot when none is free, and is closed with its last slot. */
class ShmPool {
  readonly #slotSize: number;
  readonly #fd: OwnedFd;
  /** Offsets of slots that were given back. */
  readonly #free: number[] = [];
  #size = 0;
  #used = 0;
  #compositor: Compositor | null = null;
  #wlPool: WlShmPool | null = null;
  #wlSize = 0;

  /** SysError EMFILE, ENOMEM. */
  constructor(byteLength: number) {
    this.#slotSize = slotSize(byteLength);
    this.#fd = createMemfd('scanout-window', 0);
  }

  get isUsed(): boolean {
    return this.#used > 0;
  }

  fits(byteLength: number): boolean {
    return slotSize(byteLength) === this.#slotSize;
  }

  /**
   * A zeroed slot. Throws SysError ENOMEM, ENOSPC, RangeError; if it was to be the pool's first,
   * the pool is closed then.
   */
  take(): ShmSlot {
    using stack = new DisposableStack();
    stack.defer(() => this.#endIfUnused());
    const free = this.#free.at(-1);
    const offset = free ?? this.#size;
    const end = offset + this.#slotSize;
    if (end > MAX_POOL_SIZE)
      throw new RangeError(
        `a picture of ${this.#slotSize} bytes does not fit into a wl_shm_pool, which has at most ${MAX_POOL_SIZE} bytes for all of its pictures`,
      );
    if (free === undefined) growMemfd(this.#fd, end);
    const pixels = Mapping.file(this.#fd, offset, this.#slotSize, 'read-write');
    if (free === undefined) this.#size = end;
    else pixels.bytes.fill(0);
    if (free !== undefined) this.#free.pop();
    this.#used++;
    stack.move();
    return { pool: this, offset, pixels, [Symbol.dispose]: () => this.#giveBack(offset, pixels) };
  }

  /** The wl_shm_pool on this compositor, as large as the file is now. */
  wlPool(compositor: Compositor): WlShmPool {
    if (compositor !== this.#compositor || !this.#wlPool) {
      this.#wlPool = compositor.shm.createPool(this.#fd, this.#size);
      this.#compositor = compositor;
    } else if (this.#wlSize < this.#size) {
      this.#wlPool.resize(this.#size);
    }
    this.#wlSize = this.#size;
    return this.#wlPool;
  }

  #giveBack(offset: number, pixels: Mapping): void {
    pixels[Symbol.dispose]();
    this.#free.push(offset);
    this.#used--;
    this.#endIfUnused();
  }

  #endIfUnused(): void {
    if (this.#used > 0) return;
    this.#wlPool?.[Symbol.dispose]();
    this.#wlPool = null;
    this.#fd[Symbol.dispose]();
  }
}

function slotSize(byteLength: number): number {
  return Math.ceil(byteLength / PAGE_SIZE) * PAGE_SIZE;
}
