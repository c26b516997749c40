import {
  type OrLater,
  type WlPointer,
  type WlSeat,
  WlPointerAxis,
  type WlPointerButtonState,
  WlPointerButtonState as ButtonState,
  type WlSurface,
  type WpCursorShapeDeviceV1,
  WpCursorShapeDeviceV1Shape,
  ZwpPointerConstraintsV1Lifetime,
  type ZwpLockedPointerV1,
  type ZwpRelativePointerV1,
} from '../client/index.ts';
import { BTN } from '../../../protocols/input-event-codes.ts';
import type { AttachedSurface, AttachedSurfaces, FrameTarget, Point } from './attached-surface.ts';
import type { SeatGlobals } from './globals.ts';
import type { Holder } from './shared-input.ts';

const FRAMES_SINCE = 5;
const V120_PER_NOTCH = 120;
/** Positions on surfaces are wl_fixed, which have 23 bits before the point. */
const MAX_DISTANCE = 2 ** 23 - 1;
/**
 * The distance that Weston and Mutter send for one notch; converts devices that send distances
 * only, such as touchpads.
 */
const UNITS_PER_NOTCH = 10;

export interface PointerOptions {
  readonly seat: WlSeat;
  /** Identifies the pointer among the devices that hold buttons down. */
  readonly holder: Holder;
  /** The compositor has locked the pointer, as `lock` requested. */
  readonly onLocked: () => void;
  /** The compositor has ended the lock that `lock` requested. */
  readonly onUnlocked: () => void;
  /** As of a keyboard. */
  readonly onSerial: (serial: number) => void;
}

/**
 * A seat's pointer. Over an attached window its image is the guest's cursor, and it moves the guest's
 * pointer: to the same position, or by the same distance while it is locked.
 */
export class Pointer implements Disposable {
  readonly #pointer: WlPointer;
  readonly #surfaces: AttachedSurfaces;
  readonly #globals: SeatGlobals;
  readonly #seat: WlSeat;
  readonly #holder: Holder;
  readonly #onLocked: () => void;
  readonly #onUnlocked: () => void;
  readonly #shape: WpCursorShapeDeviceV1 | null;
  /** Before version 5 each event is a frame of its own. */
  readonly #hasFrames: boolean;
  readonly #vertical = new Wheel();
  readonly #horizontal = new Wheel();
  readonly #guestPoint: Point = { x: 0, y: 0 };
  /** The surface it is over, attached or not. */
  #surface: WlSurface | null = null;
  #over: AttachedSurface | null = null;
  /** The part of a window it is over that is not the guest's, and the image it has there. */
  #frame: FrameTarget | null = null;
  #frameShape = 0;
  /** Of the last enter event of any surface: set_cursor with another serial has no effect. */
  #serial = 0;
  /** Position on that surface, in its units. */
  #x = 0;
  #y = 0;
  /** `isActive` once the compositor has locked the pointer, which may be when it comes to the surface. */
  #lock: { readonly locked: ZwpLockedPointerV1; readonly relative: ZwpRelativePointerV1; isActive: boolean } | null =
    null;

  /** Owns `pointer`. */
  constructor(
    pointer: WlPointer,
    surfaces: AttachedSurfaces,
    globals: SeatGlobals,
    { seat, holder, onLocked, onUnlocked, onSerial }: PointerOptions,
  ) {
    this.#pointer = pointer;
    this.#surfaces = surfaces;
    this.#globals = globals;
    this.#seat = seat;
    this.#holder = holder;
    this.#onLocked = onLocked;
    this.#onUnlocked = onUnlocked;
    this.#shape = globals.cursorShapes?.getPointer(pointer) ?? null;
    this.#hasFrames = pointer.version >= FRAMES_SINCE;
    pointer.listener = {
      enter: (serial, surface, x, y) => this.#enter(serial, surface, x, y),
      leave: () => {
        this.#leave();
        this.#surface = null;
      },
      motion: (_time, x, y) => {
        this.#moved(x, y);
        this.#endUnframed();
      },
      button: (serial, timeMs, button, state) => {
        onSerial(serial);
        if (this.#frame) this.#pressFrame(serial, timeMs, button, state === ButtonState.pressed);
        else this.#button(button, state);
      },
      axis: (_time, axis, distance) => {
        this.#wheel(axis)?.moved(distance);
        this.#endUnframed();
      },
      axisDiscrete: (axis, notches) => this.#wheel(axis)?.notched(notches),
      axisValue120: (axis, v120) => this.#wheel(axis)?.turned(v120),
      axisStop: (_time, axis) => this.#wheel(axis)?.stopped(),
      frame: () => this.#endFrame(),
    };
  }

  /**
   * Requests to hold the pointer in a window; false if the compositor cannot. `unlock` must come
   * before the next call.
   */
  lock(at: AttachedSurface): boolean {
    const { constraints, relativePointers } = this.#globals;
    if (!constraints || !relativePointers) return false;
    const locked = constraints.lockPointer(at.surface, this.#pointer, null, ZwpPointerConstraintsV1Lifetime.oneshot);
    const relative = relativePointers.getRelativePointer(this.#pointer);
    const lock = { locked, relative, isActive: false };
    locked.listener = {
      locked: () => {
        lock.isActive = true;
        this.#placeCursor();
        this.#onLocked();
      },
      unlocked: () => {
        lock.isActive = false;
        this.#onUnlocked();
      },
    };
    // The unaccelerated motion, because the guest applies its own acceleration.
    relative.listener = {
      relativeMotion: (_timeHigh, _timeLow, _dx, _dy, dx, dy) => {
        if (lock.isActive) this.#movedBy(dx, dy);
      },
    };
    this.#lock = lock;
    return true;
  }

  get isLocked(): boolean {
    return this.#lock?.isActive === true;
  }

  /** The pointer goes on from the guest's cursor, where that is shown and the compositor moves pointers. */
  unlock(): void {
    const lock = this.#lock;
    if (!lock) return;
    const at = this.#over;
    if (lock.isActive && at?.cursor && !lock.locked.isDestroyed) {
      lock.locked.setCursorPositionHint(within(at.cursorX), within(at.cursorY));
      // It is part of the surface's state.
      at.surface.commit();
    }
    this.#endLock();
    this.#placeCursor();
  }

  /** The cursor of this window has another image, or none. */
  cursorChanged(at: AttachedSurface): void {
    if (this.#over === at) this.#showCursor();
  }

  cursorMoved(at: AttachedSurface): void {
    if (this.#over === at && this.#lock?.isActive) this.#placeCursor();
  }

  /** A surface has been attached, which the pointer may be over already. */
  attached(at: AttachedSurface): void {
    if (this.#surface !== at.surface) return;
    this.#over = at;
    this.#showCursor();
    this.#moved(this.#x, this.#y);
    this.#endFrame();
  }

  frameDetached(frame: FrameTarget): void {
    if (this.#frame === frame) this.#frame = null;
  }

  detached(at: AttachedSurface): void {
    if (this.#over !== at) return;
    this.#leave();
    if (at.isCursorSet) this.#showDefault();
  }

  [Symbol.dispose](): void {
    this.#leave();
    this.#endLock();
    this.#shape?.[Symbol.dispose]();
    this.#pointer[Symbol.dispose]();
  }

  #endLock(): void {
    this.#lock?.locked[Symbol.dispose]();
    this.#lock?.relative[Symbol.dispose]();
    this.#lock = null;
  }

  #enter(serial: number, surface: WlSurface | null, x: number, y: number): void {
    this.#leave();
    this.#serial = serial;
    this.#surface = surface;
    this.#over = this.#surfaces.find(surface);
    this.#frame = (surface && this.#surfaces.frames.get(surface)) ?? null;
    if (this.#over) this.#showCursor();
    this.#moved(x, y);
    this.#endUnframed();
  }

  #leave(): void {
    const frame = this.#frame;
    this.#frame = null;
    this.#frameShape = 0;
    frame?.left();
    const input = this.#over?.input;
    this.#over = null;
    if (!input) return;
    input.releaseButtons(this.#holder);
    this.#vertical.clear();
    this.#horizontal.clear();
    input.frame();
  }

  #moved(x: number, y: number): void {
    this.#x = x;
    this.#y = y;
    if (this.#frame) this.#moveOnFrame(this.#frame);
    const over = this.#over;
    if (!over?.input) return;
    const point = this.#guestPoint;
    over.target.toGuest(x, y, point);
    over.input.movedTo(over.target.scanout, point.x, point.y);
  }

  #moveOnFrame(frame: FrameTarget): void {
    const shape = frame.moved(this.#x, this.#y);
    if (shape === this.#frameShape) return;
    if (this.#shape) this.#shape.setShape(this.#serial, shape);
    else if (this.#frameShape === 0) this.#pointer.setCursor(this.#serial, frame.image(), 0, 0);
    this.#frameShape = shape;
  }

  #pressFrame(serial: number, timeMs: number, button: number, isPressed: boolean): void {
    const [x, y] = [this.#x, this.#y];
    if (isPressed) this.#frame?.pressed({ seat: this.#seat, serial, timeMs, x, y, button });
    else if (button === BTN.LEFT) this.#frame?.released(x, y);
  }

  /** From wp_relative_pointer, whose events may come without wl_pointer.frame. */
  #movedBy(dx: number, dy: number): void {
    const input = this.#over?.input;
    if (!input) return;
    input.movedBy(dx, dy);
    input.frame();
  }

  #button(code: number, state: OrLater<WlPointerButtonState>): void {
    const input = this.#over?.input;
    if (!input) return;
    input.button(this.#holder, code, state === ButtonState.pressed);
    this.#endUnframed();
  }

  #wheel(axis: OrLater<WlPointerAxis>): Wheel | null {
    if (axis === WlPointerAxis.vertical_scroll) return this.#vertical;
    return axis === WlPointerAxis.horizontal_scroll ? this.#horizontal : null;
  }

  #endUnframed(): void {
    if (!this.#hasFrames) this.#endFrame();
  }

  #endFrame(): void {
    const vertical = this.#vertical.take();
    const horizontal = this.#horizontal.take();
    const input = this.#over?.input;
    if (!input) return;
    if (vertical !== 0) input.wheel('vertical', vertical);
    if (horizontal !== 0) input.wheel('horizontal', horizontal);
    input.frame();
  }

  #showCursor(): void {
    const at = this.#over!;
    if (!at.isCursorSet) {
      this.#showDefault();
      return;
    }
    this.#placeCursor();
    // Some compositors show an image that no pointer had for a while only after a commit.
    at.cursor?.surface.commit();
  }

  /** Does nothing once the connection is lost, which is when surfaces are detached too. */
  #showDefault(): void {
    if (!this.#pointer.isDestroyed) this.#shape?.setShape(this.#serial, WpCursorShapeDeviceV1Shape.default);
  }

  /** Shows the image at the pointer or, while the pointer is locked, at the guest's cursor. */
  #placeCursor(): void {
    const at = this.#over;
    if (!at?.isCursorSet) return;
    const { cursor } = at;
    const isApart = this.#lock?.isActive === true;
    const x = isApart ? distance(this.#x, at.cursorX) : 0;
    const y = isApart ? distance(this.#y, at.cursorY) : 0;
    this.#pointer.setCursor(
      this.#serial,
      cursor?.surface ?? null,
      cursor ? cursor.hotspotX - x : 0,
      cursor ? cursor.hotspotY - y : 0,
    );
  }
}

/** In whole units. */
function distance(from: number, to: number): number {
  return Math.round(within(to - from));
}

/** No further than a surface can lie: the guest may have its cursor anywhere. */
function within(position: number): number {
  return Math.min(Math.max(position, -MAX_DISTANCE), MAX_DISTANCE);
}

/**
 * One axis of a pointer. A frame brings a distance and, for wheels with notches, also their number
 * (wl_pointer.axis_value120, before version 8 axis_discrete), in any order. If there are notches, the
 * distance is ignored.
 */
class Wheel {
  #distance = 0;
  #v120 = 0;
  /** What distances came to below one v120, which the guest has not got. */
  #fraction = 0;

  moved(distance: number): void {
    this.#distance += distance;
  }

  turned(v120: number): void {
    this.#v120 += v120;
  }

  notched(notches: number): void {
    this.#v120 += notches * V120_PER_NOTCH;
  }

  /** The next motion starts without the fraction that is left of this one. */
  stopped(): void {
    this.#fraction = 0;
  }

  clear(): void {
    this.#distance = 0;
    this.#v120 = 0;
    this.#fraction = 0;
  }

  /** Takes the whole 120ths of a notch of the frame. */
  take(): number {
    let v120 = this.#v120;
    if (v120 === 0) {
      const exact = this.#fraction + (this.#distance * V120_PER_NOTCH) / UNITS_PER_NOTCH;
      v120 = Math.trunc(exact);
      this.#fraction = exact - v120;
    }
    this.#distance = 0;
    this.#v120 = 0;
    return v120;
  }
}
