import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import type { SurfaceBuffer } from './buffer.ts';
import type { WlSurface, WpLinuxDrmSyncobjSurfaceV1 } from './client/index.ts';
import { DmabufBuffer } from './dmabuf-buffer.ts';
import type { ExplicitSync } from './explicit-sync.ts';

/**
 * How the commits of one surface are synchronised: those of dma-bufs by points, where that works,
 * all others implicitly. With its protocol object a surface takes nothing without points, so the
 * object is there only while dma-bufs are shown.
 */
export class SurfaceSync implements Disposable {
  readonly #sync: ExplicitSync;
  readonly #surface: WlSurface;
  #object: WpLinuxDrmSyncobjSurfaceV1 | null = null;

  constructor(sync: ExplicitSync, surface: WlSurface) {
    this.#sync = sync;
    this.#surface = surface;
  }

  /** Fences can be passed on. */
  get isOn(): boolean {
    return !this.#sync.isOff;
  }

  /**
   * For the commit that attaches `buffer`, and follows. False: the compositor is told no points,
   * and what is to be read after `acquire` must not be committed before that has signalled.
   */
  attach(buffer: SurfaceBuffer | null, acquire: BorrowedFd | null): boolean {
    // A commit of nothing has no points either way.
    if (!buffer) return false;
    const points = buffer instanceof DmabufBuffer && this.isOn ? this.#begin(buffer, acquire) : null;
    if (!points) {
      this[Symbol.dispose]();
      return false;
    }
    this.#object ??= this.#sync.manager.getSurface(this.#surface);
    points.set(this.#object, acquire !== null);
    return true;
  }

  /** The surface's commits are synchronised implicitly, until `attach`. Before the surface goes. */
  [Symbol.dispose](): void {
    this.#object?.[Symbol.dispose]();
    this.#object = null;
  }

  #begin(buffer: DmabufBuffer, acquire: BorrowedFd | null) {
    try {
      const points = buffer.points(this.#sync);
      points.begin(acquire);
      return points;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#sync.turnOff(error);
      return null;
    }
  }
}
