import type { WlSurface, WpViewport } from '../client/index.ts';
import type { SeatGlobals } from './globals.ts';
import type { CursorImage } from './target.ts';

/** Of any size: all of the surface. */
const EVERYTHING = 2 ** 31 - 1;
const SCALE_SINCE = 3;

/** A guest's cursor as the image of host pointers over one window. */
export class Cursor implements Disposable {
  /** Where the guest's cursor points, in units of the window's surface. */
  x = 0;
  y = 0;
  /** Of the image, in its surface's units. */
  hotspotX = 0;
  hotspotY = 0;
  readonly #globals: SeatGlobals;
  /** Made once, so that the compositor releases each buffer when the next replaces it, pointer or none. */
  #surface: WlSurface | null = null;
  #viewport: WpViewport | null = null;
  #isSet = false;
  #isHidden = false;

  constructor(globals: SeatGlobals) {
    this.#globals = globals;
  }

  /** The guest has said what its cursor is. */
  get isSet(): boolean {
    return this.#isSet;
  }

  /** Null while the guest hides its cursor. */
  get surface(): WlSurface | null {
    return this.#isHidden ? null : this.#surface;
  }

  set(image: CursorImage | null): void {
    this.#isSet = true;
    this.#isHidden = image === null;
    if (image) {
      this.#surface ??= this.#globals.compositor.createSurface();
      this.#scale(image, this.#surface);
    }
    if (!this.#surface) return;
    this.#surface.attach(image?.buffer ?? null, 0, 0);
    if (image) this.#surface.damage(0, 0, EVERYTHING, EVERYTHING);
    this.#surface.commit();
  }

  [Symbol.dispose](): void {
    this.#viewport?.[Symbol.dispose]();
    this.#surface?.[Symbol.dispose]();
  }

  #scale(image: CursorImage, surface: WlSurface): void {
    const scale = this.#applyScale(image, surface);
    this.hotspotX = Math.round(image.hotspotX * scale);
    this.hotspotY = Math.round(image.hotspotY * scale);
  }

  /** The scale it is shown at: as the window's if the compositor can do that, else 1. */
  #applyScale({ width, height, scale }: CursorImage, surface: WlSurface): number {
    this.#viewport ??= this.#globals.viewporter?.getViewport(surface) ?? null;
    if (this.#viewport) {
      this.#viewport.setDestination(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
      return scale;
    }
    if (surface.version < SCALE_SINCE) return 1;
    const pixels = Math.max(1, Math.round(1 / scale));
    const divides = width % pixels === 0 && height % pixels === 0;
    surface.setBufferScale(divides ? pixels : 1);
    return divides ? 1 / pixels : 1;
  }
}
