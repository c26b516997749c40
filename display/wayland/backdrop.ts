import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BufferOwner } from './buffer.ts';
import type { WlSurface, WpViewport } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { ShmBuffer } from './shm-buffer.ts';
import { ShmPools } from './shm-pool.ts';
import { damageSurface } from './surface-damage.ts';

/** A black picture of ours is as good whether the compositor still has it or not. */
const NOBODY: BufferOwner = { holds: () => true, bufferReleased: () => undefined, bufferReady: () => undefined };

/** What makes a window's own surface black: a pixel that is drawn large, or, without viewports, many. */
export class Backdrop implements Disposable {
  readonly #compositor: Compositor;
  readonly #surface: WlSurface;
  readonly #viewport: WpViewport | null;
  readonly #pools = new ShmPools();
  #black: ShmBuffer | null = null;

  /** To be disposed before `surface`. */
  constructor(compositor: Compositor, surface: WlSurface) {
    this.#compositor = compositor;
    this.#surface = surface;
    this.#viewport = compositor.viewporter?.getViewport(surface) ?? null;
  }

  /** Commits the surface in this size. */
  commit(width: number, height: number): void {
    this.#viewport?.setDestination(width, height);
    try {
      if (this.#viewport) this.#attach(1, 1);
      else this.#attach(width, height);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#compositor.failed(error);
      return;
    }
    this.#surface.commit();
  }

  [Symbol.dispose](): void {
    this.#viewport?.[Symbol.dispose]();
    this.#black?.takeBack();
    this.#black?.[Symbol.dispose]();
  }

  #attach(width: number, height: number): void {
    const before = this.#black;
    if (before?.width === width && before.height === height) return;
    this.#black = ShmBuffer.create(NOBODY, this.#pools, width, height, DRM_FORMAT.XRGB8888);
    before?.[Symbol.dispose]();
    this.#surface.attach(this.#black.wlBuffer(this.#compositor, true), 0, 0);
    damageSurface(this.#surface, null);
    this.#black.attached();
  }
}
