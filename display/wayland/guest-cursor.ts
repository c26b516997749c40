import type { Frame } from '../../src/core/output.ts';
import type { WlSurface, WpViewport } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { Surface, type SurfaceBuffer, usableBuffer } from './surface.ts';
import type { Window } from './window.ts';

/** Version of wl_surface with set_buffer_scale. */
const BUFFER_SCALE_SINCE = 3;

/** What it needs of a window: the surface that pointers enter, and where the guest's picture lies on it. */
export type CursorWindow = Pick<Window, 'surface' | 'placement' | 'canvas'>;

/**
 * A guest's cursor as the image of the host's pointers over its window. It outlives windows: the
 * newest image stays locked until the next one, because it is attached again when the window's
 * scale changes or another window takes its place.
 */
export class GuestCursor implements Disposable {
  #compositor: Compositor | null = null;
  #window: CursorWindow | null = null;
  /**
   * Shows the image. One per window: the compositor releases each buffer when the next replaces it,
   * even while no pointer shows it.
   */
  #surface: Surface | null = null;
  #viewport: WpViewport | null = null;
  #image: SurfaceBuffer | null = null;
  /** The guest has set an image before, so that no image means a hidden cursor. */
  #isKnown = false;
  /** Position of the image's top left corner on the canvas. */
  #x = 0;
  #y = 0;
  #hotspotX = 0;
  #hotspotY = 0;
  /** Units of the window's surface per guest pixel; 0 while the picture has no place in the window. */
  #scale = 0;

  /** Shows it over `window` until `detach`. The window's surface must be attached to the compositor's seats. */
  attach(compositor: Compositor, window: CursorWindow): void {
    this.#compositor = compositor;
    this.#window = window;
    this.#scale = 0;
    if (window.placement.width > 0) this.placed();
  }

  /** To be called after the window's surface was detached from the seats. */
  detach(): void {
    this.#compositor = null;
    this.#window = null;
    this.#viewport?.[Symbol.dispose]();
    this.#viewport = null;
    const surface = this.#surface;
    this.#surface = null;
    surface?.[Symbol.dispose]();
  }

  /** Shows the cursor of a frame. */
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
      image?.lock();
      this.#image = image;
      if (image) this.#isKnown = true;
      this.#set();
      before?.unlock();
    }
    this.#move();
  }

  /** The picture may have another place in the window. */
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

  /** Detaches and drops the image, as before the first `show`. */
  reset(): void {
    this.detach();
    const image = this.#image;
    this.#image = null;
    this.#isKnown = false;
    image?.unlock();
  }

  [Symbol.dispose](): void {
    this.reset();
  }

  #set(): void {
    const compositor = this.#compositor;
    const window = this.#window;
    const image = this.#image;
    if (!compositor || !window || this.#scale === 0 || !this.#isKnown) return;
    if (image) {
      this.#surface ??= new Surface(compositor, { isOpaque: false, onReady: () => this.#set() });
      const scale = this.#applyScale(compositor, this.#surface.wl, image);
      if (!this.#surface.attach(image, null, null)) return;
      this.#surface.commit();
      compositor.seats.setCursor(window.surface, {
        surface: this.#surface.wl,
        hotspotX: Math.round(this.#hotspotX * scale),
        hotspotY: Math.round(this.#hotspotY * scale),
      });
    } else {
      this.#surface?.attach(null, null, null);
      this.#surface?.commit();
      compositor.seats.setCursor(window.surface, null);
    }
  }

  /**
   * The scale the image is shown at from the next commit on: the picture's if the compositor can do
   * that, else the nearest it can.
   */
  #applyScale({ viewporter }: Compositor, surface: WlSurface, { width, height }: SurfaceBuffer): number {
    const scale = this.#scale;
    this.#viewport ??= viewporter?.getViewport(surface) ?? null;
    if (this.#viewport) {
      this.#viewport.setDestination(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
      return scale;
    }
    if (surface.version < BUFFER_SCALE_SINCE) return 1;
    const pixels = Math.max(1, Math.round(1 / scale));
    const divides = width % pixels === 0 && height % pixels === 0;
    surface.setBufferScale(divides ? pixels : 1);
    return divides ? 1 / pixels : 1;
  }

  #move(): void {
    if (!this.#compositor || !this.#window) return;
    const { surface, placement } = this.#window;
    const x = placement.x + (this.#x + this.#hotspotX) * this.#scale;
    const y = placement.y + (this.#y + this.#hotspotY) * this.#scale;
    this.#compositor.seats.moveCursor(surface, x, y);
  }
}
