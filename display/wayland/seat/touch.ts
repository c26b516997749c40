import { BTN } from '../../../protocols/input-event-codes.ts';
import type { WlSeat, WlSurface, WlTouch } from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces, Point } from './attached-surface.ts';
import { NO_SLOT, type SharedInput } from './shared-input.ts';

/** Touches at a time, as many as the guest's touchscreen has slots. */
const MAX_TOUCHES = 16;

/** Reused; `at` is null while it is free. */
interface TouchPoint {
  id: number;
  slot: number;
  at: AttachedSurface | null;
}

/** A seat's touchscreen. A touch belongs to the window where it began until it ends. */
export class Touch implements Disposable {
  readonly #touch: WlTouch;
  readonly #surfaces: AttachedSurfaces;
  readonly #points: readonly TouchPoint[] = Array.from({ length: MAX_TOUCHES }, () => ({
    id: 0,
    slot: NO_SLOT,
    at: null,
  }));
  readonly #guestPoint: Point = { x: 0, y: 0 };
  /** The window whose guest was sent something since the last frame. */
  #touched: AttachedSurface | null = null;

  /** Owns `touch`, which is one of `seat`. */
  constructor(touch: WlTouch, seat: WlSeat, surfaces: AttachedSurfaces) {
    this.#touch = touch;
    this.#surfaces = surfaces;
    touch.listener = {
      down: (serial, timeMs, surface, id, x, y) => {
        const frame = surface && surfaces.frames.get(surface);
        if (!frame) {
          this.#down(surface, id, x, y);
          return;
        }
        // A tap: what it does, or begins, is decided where the finger comes down.
        frame.pressed({ seat, serial, timeMs, x, y, button: BTN.LEFT });
        frame.released(x, y);
      },
      motion: (_time, id, x, y) => this.#moved(id, x, y),
      up: (_serial, _time, id) => this.#up(id),
      frame: () => this.#frame(),
      cancel: () => this.#cancel(),
    };
  }

  /**
   * Ends the touches in that window: cancels them, or lifts them if the guest has touches in other
   * windows, which go on.
   */
  detached(at: AttachedSurface): void {
    if (!at.input) return;
    let slots = 0;
    for (const point of this.#points) if (point.at === at) slots |= 1 << point.slot;
    if (slots === 0) return;
    if (at.input.hasOtherTouches(slots)) this.#lift(at);
    else at.input.touchCancelled();
    for (const point of this.#points) if (point.at === at) free(point);
    at.input.frame();
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#touch[Symbol.dispose]();
  }

  #down(surface: WlSurface | null, id: number, x: number, y: number): void {
    this.#up(id);
    const at = this.#surfaces.find(surface);
    const point = this.#points.find(isFree);
    if (!at?.input || !point) return;
    this.#setTouched(at);
    this.#map(at, x, y);
    const slot = at.input.touchDown(at.target.scanout, this.#guestPoint.x, this.#guestPoint.y);
    if (slot === NO_SLOT) return;
    point.id = id;
    point.slot = slot;
    point.at = at;
  }

  #moved(id: number, x: number, y: number): void {
    const point = this.#find(id);
    const at = point?.at;
    if (!at) return;
    this.#setTouched(at);
    this.#map(at, x, y);
    at.input!.touchMoved(at.target.scanout, point.slot, this.#guestPoint.x, this.#guestPoint.y);
  }

  #up(id: number): void {
    const point = this.#find(id);
    if (!point?.at) return;
    this.#setTouched(point.at);
    point.at.input!.touchUp(point.slot);
    free(point);
  }

  #lift(at: AttachedSurface): void {
    for (const point of this.#points) if (point.at === at) at.input!.touchUp(point.slot);
  }

  /** Cancels all touches. wl_touch.cancel comes without a frame. */
  #cancel(): void {
    let cancelled: SharedInput | null = null;
    for (const point of this.#points) {
      const { at } = point;
      if (!at) continue;
      this.#setTouched(at);
      if (at.input !== cancelled) at.input!.touchCancelled();
      cancelled = at.input;
      free(point);
    }
    this.#frame();
  }

  #frame(): void {
    this.#touched?.input!.frame();
    this.#touched = null;
  }

  #setTouched(at: AttachedSurface): void {
    if (this.#touched && this.#touched.input !== at.input) this.#frame();
    this.#touched = at;
  }

  #map(at: AttachedSurface, x: number, y: number): void {
    at.target.toGuest(x, y, this.#guestPoint);
  }

  #find(id: number): TouchPoint | null {
    for (const point of this.#points) if (point.at && point.id === id) return point;
    return null;
  }
}

function isFree(point: TouchPoint): boolean {
  return point.at === null;
}

function free(point: TouchPoint): void {
  point.at!.input!.freeSlot(point.slot);
  point.at = null;
}
