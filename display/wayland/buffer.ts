import type { Handle } from '../../src/core/output.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { WlBuffer } from './client/index.ts';
import type { Compositor } from './compositor.ts';

/** Who is told of a buffer's fate: the output it belongs to. */
export interface BufferOwner {
  /** A frame has it that the compositor has not got yet. */
  holds(buffer: SurfaceBuffer): boolean;
  /** The compositor reads it no more. */
  bufferReleased(buffer: SurfaceBuffer): void;
  /** The compositor has answered: `buffer` can be attached, or never will be. */
  bufferReady(buffer: SurfaceBuffer): void;
}

/**
 * What a surface can show. Its wl_buffer is made when it is first needed, and anew for the next
 * compositor when one is gone.
 *
 *     wlBuffer -> attached -> (wl_buffer.release, or the commit's release point) released -> ...
 */
export abstract class SurfaceBuffer implements Disposable {
  readonly width: number;
  readonly height: number;
  protected readonly owner: BufferOwner;
  #compositor: Compositor | null = null;
  #wlBuffer: WlBuffer | null = null;
  #isBusy = false;
  #hasPoint = false;
  #isDisposed = false;

  constructor(owner: BufferOwner, width: number, height: number) {
    this.owner = owner;
    this.width = width;
    this.height = height;
  }

  /** Shown without a copy of ours. */
  abstract get isImport(): boolean;

  /** Asks the compositor for one, which is given to `adopt` now or later. SysError. */
  protected abstract create(compositor: Compositor, isOpaque: boolean): void;

  /** Nobody needs the memory any more. */
  protected abstract free(): void;

  /** The compositor has it, from a commit until it is released. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  get isHeld(): boolean {
    return this.#isBusy || this.owner.holds(this);
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * To be attached to a surface of `compositor`; null if there is none yet (`bufferReady` follows)
   * or never will be. `isOpaque`: its alpha means nothing. One buffer is used one way only.
   */
  wlBuffer(compositor: Compositor, isOpaque: boolean): WlBuffer | null {
    if (this.#compositor !== compositor) {
      this.#wlBuffer?.[Symbol.dispose]();
      this.#wlBuffer = null;
      this.#compositor = compositor;
      try {
        this.create(compositor, isOpaque);
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        compositor.failed(error);
      }
    }
    return this.#wlBuffer;
  }

  /** A release point will tell when it is free, whether anybody sees it or not. */
  get hasPoint(): boolean {
    return this.#hasPoint;
  }

  /** It was attached and committed, with a release point or without. */
  attached(hasPoint = false): void {
    this.#isBusy = true;
    this.#hasPoint = hasPoint;
  }

  /** The compositor is gone, or has had it long enough. */
  takeBack(): void {
    this.#isBusy = false;
    if (this.#isDisposed) this.#end();
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    // What the compositor reads stays until it does not.
    if (!this.#isBusy) this.#end();
  }

  /** From `create`: the wl_buffer asked of this compositor. */
  protected adopt(compositor: Compositor, wlBuffer: WlBuffer): void {
    if (compositor !== this.#compositor || this.#wlBuffer || (this.#isDisposed && !this.#isBusy)) {
      wlBuffer[Symbol.dispose]();
      return;
    }
    this.#wlBuffer = wlBuffer;
    wlBuffer.listener = { release: () => this.released(false) };
  }

  /** The compositor says so, by a point or without; what it says in the other way than it was asked means nothing. */
  protected released(byPoint: boolean): void {
    if (!this.#isBusy || byPoint !== this.#hasPoint) return;
    this.takeBack();
    this.owner.bufferReleased(this);
  }

  #end(): void {
    this.#wlBuffer?.[Symbol.dispose]();
    this.#wlBuffer = null;
    this.free();
  }
}

/** Null for one that is disposed: its memory is. */
export function usableBuffer(handle: Handle | null): SurfaceBuffer | null {
  return handle instanceof SurfaceBuffer && !handle.isDisposed ? handle : null;
}
