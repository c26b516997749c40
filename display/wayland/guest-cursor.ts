import type { Frame } from '../../src/core/output.ts';
import { type SurfaceBuffer, usableBuffer } from './buffer.ts';
import type { Compositor } from './compositor.ts';
import { HeldBuffers } from './held-buffers.ts';
import type { Window } from './window.ts';

/**
 * A guest's cursor as the image of the host's pointers over its window. It outlives windows. The
 * newest image stays in use until the next, released by the compositor or not: it is set again
 * when the window's scale changes.
 */
export class GuestCursor implements Disposable {
  readonly #onUnused: (buffer: SurfaceBuffer) => void;
  readonly #held = new HeldBuffers((buffer) => this.#cameBack(buffer));
  #compositor: Compositor | null = null;
  #window: Window | null = null;
  #image: SurfaceBuffer | null = null;
  /** The guest has had an image: none is a hidden cursor since then. */
  #isKnown = false;
  /** Of the image's top left corner, on the canvas. */
  #x = 0;
  #y = 0;
  #hotspotX = 0;
  #hotspotY = 0;
  /** Units of the window's surface to a pixel of the guest; 0 while the picture has no place there. */
  #scale = 0;

  /** `onUnused` is called for images that were replaced and that no compositor reads. */
  constructor(onUnused: (buffer: SurfaceBuffer) => void) {
    this.#onUnused = onUnused;
  }

  /** `window`'s surface is attached to the compositor's seats, until `detach`. */
  attach(compositor: Compositor, window: Window): void {
    this.#compositor = compositor;
    this.#window = window;
    this.#scale = 0;
    if (window.placement.width > 0) this.placed();
  }

  detach(): void {
    this.#compositor = null;
    this.#window = null;
    this.#held.takeBackAll();
  }

  /** The frame's cursor is the one to show. */
  show({ cursor: { handle, dst }, hotspotX, hotspotY, isCursorNew }: Frame): void {
    const image = usableBuffer(handle);
    const before = this.#image;
    const isNew = isCursorNew || image !== before;
    if (!isNew && dst.x === this.#x && dst.y === this.#y) return;
    this.#x = dst.x;
    this.#y = dst.y;
    this.#hotspotX = hotspotX;
    this.#hotspotY = hotspotY;
    if (isNew) {
      this.#image = image;
      if (image) this.#isKnown = true;
      this.#set();
      if (before && before !== image && !before.isBusy) this.#onUnused(before);
    }
    this.#move();
  }

  /** The picture's place in the window may be another. */
  placed(): void {
    if (!this.#window) return;
    const { placement, canvas } = this.#window;
    const scale = placement.width / canvas.width;
    if (scale !== this.#scale) {
      this.#scale = scale;
      this.#set();
    }
    this.#move();
  }

  holds(buffer: SurfaceBuffer): boolean {
    return buffer === this.#image;
  }

  /** The compositor has made a wl_buffer of it. */
  ready(buffer: SurfaceBuffer): void {
    if (buffer === this.#image) this.#set();
  }

  /** The compositor reads it no more. True: it stays in use nevertheless. */
  released(buffer: SurfaceBuffer): boolean {
    this.#held.released(buffer);
    return buffer === this.#image;
  }

  [Symbol.dispose](): void {
    this.#held[Symbol.dispose]();
  }

  #set(): void {
    const image = this.#image;
    if (!this.#compositor || !this.#window || this.#scale === 0 || !this.#isKnown) return;
    if (image?.isDisposed && !image.isBusy) return;
    const buffer = image?.wlBuffer(this.#compositor, false) ?? null;
    if (image && !buffer) return;
    this.#compositor.seats.setCursor(
      this.#window.surface,
      image && buffer && { buffer, width: image.width, height: image.height, hotspotX: this.#hotspotX, hotspotY: this.#hotspotY, scale: this.#scale },
    );
    this.#held.committed(image);
  }

  #move(): void {
    if (!this.#compositor || !this.#window) return;
    const { surface, placement } = this.#window;
    this.#compositor.seats.moveCursor(surface, placement.x + (this.#x + this.#hotspotX) * this.#scale, placement.y + (this.#y + this.#hotspotY) * this.#scale);
  }

  #cameBack(buffer: SurfaceBuffer): void {
    if (buffer !== this.#image) this.#onUnused(buffer);
  }
}
