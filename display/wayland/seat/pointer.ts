import {
  type OrLater,
  type WlPointer,
  WlPointerAxis,
  type WlPointerButtonState,
  WlPointerButtonState as ButtonState,
  type WlSurface,
  type WpCursorShapeDeviceV1,
  WpCursorShapeDeviceV1Shape,
} from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces } from './attached-surface.ts';
import type { SeatGlobals } from './globals.ts';
import { Held } from './held.ts';
import { PointerLock, type PointerLockOwner } from './pointer-lock.ts';
import type { Point } from './target.ts';
import { Wheel } from './wheel.ts';

const FRAMES_SINCE = 5;

export interface PointerOwner {
  /** The compositor has ended a lock that was asked for by `lock`. */
  pointerUnlocked(): void;
}

/**
 * A seat's pointer. Over a window of ours it has the guest's cursor as its image, and moves the
 * guest's pointer to the same place, or by the same distance while it is locked.
 */
export class Pointer implements PointerLockOwner, Disposable {
  readonly #pointer: WlPointer;
  readonly #surfaces: AttachedSurfaces;
  readonly #globals: SeatGlobals;
  readonly #owner: PointerOwner;
  readonly #shape: WpCursorShapeDeviceV1 | null;
  /** Without frames each event is one. */
  readonly #hasFrames: boolean;
  readonly #held = new Held();
  readonly #vertical = new Wheel();
  readonly #horizontal = new Wheel();
  readonly #guestPoint: Point = { x: 0, y: 0 };
  #over: AttachedSurface | null = null;
  /** Of the enter event seen last, of any surface: other serials do not change the image. */
  #serial = 0;
  /** On the surface it is over, in that one's units. */
  #x = 0;
  #y = 0;
  #lock: PointerLock | null = null;

  /** `pointer` is disposed with this. */
  constructor(pointer: WlPointer, surfaces: AttachedSurfaces, globals: SeatGlobals, owner: PointerOwner) {
    this.#pointer = pointer;
    this.#surfaces = surfaces;
    this.#globals = globals;
    this.#owner = owner;
    this.#shape = globals.cursorShapes?.getPointer(pointer) ?? null;
    this.#hasFrames = pointer.version >= FRAMES_SINCE;
    pointer.listener = {
      enter: (serial, surface, x, y) => this.#enter(serial, surface, x, y),
      leave: () => this.#leave(),
      motion: (_time, x, y) => this.#moved(x, y),
      button: (_serial, _time, button, state) => this.#button(button, state),
      axis: (_time, axis, distance) => {
        this.#wheel(axis)?.moved(distance);
        this.#endUnframed();
      },
      axisDiscrete: (axis, notches) => this.#wheel(axis)?.notched(notches),
      axisValue120: (axis, v120) => this.#wheel(axis)?.turned(v120),
      axisStop: (_time, axis) => this.#wheel(axis)?.stopped(),
      frame: () => this.#frame(),
    };
  }

  /** Asks to hold the pointer in a window; false if the compositor has no such thing. Not twice before `unlock`. */
  lock(at: AttachedSurface): boolean {
    this.#lock = PointerLock.request(at, this.#pointer, this.#globals, this);
    return this.#lock !== null;
  }

  unlock(): void {
    if (!this.#lock) return;
    this.#lock[Symbol.dispose]();
    this.#lock = null;
    this.#placeCursor();
  }

  lockBegan(): void {
    this.#placeCursor();
  }

  lockLost(): void {
    this.#owner.pointerUnlocked();
  }

  /** There is no frame for sure after it. */
  movedBy(dx: number, dy: number): void {
    const input = this.#over?.input;
    if (!input) return;
    input.movedBy(dx, dy);
    input.frame();
  }

  /** Another image or none: shown if the pointer is over this window. */
  cursorChanged(at: AttachedSurface): void {
    if (this.#over === at) this.#showCursor();
  }

  cursorMoved(at: AttachedSurface): void {
    if (this.#over === at && this.#lock?.isActive) this.#placeCursor();
  }

  detached(at: AttachedSurface): void {
    if (this.#over === at) this.#leave();
  }

  [Symbol.dispose](): void {
    this.#leave();
    this.#lock?.[Symbol.dispose]();
    this.#lock = null;
    this.#shape?.[Symbol.dispose]();
    this.#pointer[Symbol.dispose]();
  }

  #enter(serial: number, surface: WlSurface | null, x: number, y: number): void {
    this.#leave();
    this.#serial = serial;
    this.#over = this.#surfaces.find(surface);
    if (!this.#over) return;
    this.#showCursor();
    this.#moved(x, y);
  }

  #leave(): void {
    const input = this.#over?.input;
    this.#over = null;
    if (!input) return;
    for (let code = this.#held.take(); code >= 0; code = this.#held.take()) input.button(code, false);
    this.#vertical.forget();
    this.#horizontal.forget();
    input.frame();
  }

  #moved(x: number, y: number): void {
    this.#x = x;
    this.#y = y;
    const over = this.#over;
    if (!over?.input) return;
    const point = this.#guestPoint;
    over.target.toGuest(x, y, point);
    over.input.movedTo(over.target.scanout, point.x, point.y);
    this.#endUnframed();
  }

  #button(code: number, state: OrLater<WlPointerButtonState>): void {
    const input = this.#over?.input;
    const isDown = state === ButtonState.pressed;
    if (!input || !this.#held.set(code, isDown)) return;
    input.button(code, isDown);
    this.#endUnframed();
  }

  #wheel(axis: OrLater<WlPointerAxis>): Wheel | null {
    if (axis === WlPointerAxis.vertical_scroll) return this.#vertical;
    return axis === WlPointerAxis.horizontal_scroll ? this.#horizontal : null;
  }

  #endUnframed(): void {
    if (!this.#hasFrames) this.#frame();
  }

  #frame(): void {
    const vertical = this.#vertical.take();
    const horizontal = this.#horizontal.take();
    const input = this.#over?.input;
    if (!input) return;
    if (vertical !== 0) input.wheel('vertical', vertical);
    if (horizontal !== 0) input.wheel('horizontal', horizontal);
    input.frame();
  }

  #showCursor(): void {
    const cursor = this.#over!.cursor;
    if (!cursor.isSet) {
      this.#shape?.setShape(this.#serial, WpCursorShapeDeviceV1Shape.default);
      return;
    }
    this.#placeCursor();
    // An image that was no pointer's for a while may need one to be seen again.
    cursor.surface?.commit();
  }

  /** Where the pointer is, or where the guest's is while the pointer itself stands still. */
  #placeCursor(): void {
    const cursor = this.#over?.cursor;
    if (!cursor?.isSet) return;
    const isApart = this.#lock?.isActive === true;
    const x = isApart ? Math.round(cursor.x - this.#x) : 0;
    const y = isApart ? Math.round(cursor.y - this.#y) : 0;
    this.#pointer.setCursor(this.#serial, cursor.surface, cursor.surface ? cursor.hotspotX - x : 0, cursor.surface ? cursor.hotspotY - y : 0);
  }
}
