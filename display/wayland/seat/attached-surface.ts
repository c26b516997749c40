import type { InputSink } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';
import type { WlSeat, WlSurface, WpCursorShapeDeviceV1Shape } from '../client/index.ts';
import type { SharedInput } from './shared-input.ts';

export interface Point {
  x: number;
  y: number;
}

/** What a window tells the seats, and what they tell it. */
export interface SeatTarget {
  /** Positions are in pixels of this scanout's picture. */
  readonly scanout: ScanoutId;
  /** Null if the guest has no input devices: then only its cursor is shown. */
  readonly input: InputSink | null;
  /**
   * Converts a position on the surface, in its own units, to pixels of the guest's picture. It may
   * be outside the picture.
   */
  toGuest(x: number, y: number, out: Point): void;
  /**
   * A seat's pointer and keyboard are held in this window from now on, or are free again. The
   * window should show how to change that.
   */
  grabChanged(isGrabbed: boolean): void;
  /** FULLSCREEN_SHORTCUT was pressed. False if the compositor has no full screen. */
  toggleFullscreen(): boolean;
  /** COPY_SHORTCUT was pressed, on a compositor that has a clipboard. False if this program cannot tell what the picture is. */
  copyPicture(): boolean;
}

/** The image of pointers over a window. The caller owns the surface, attaches buffers to it and commits them. */
export interface CursorImage {
  readonly surface: WlSurface;
  /** In the surface's units. */
  readonly hotspotX: number;
  readonly hotspotY: number;
}

/** A window's surface while it is attached to the seats. */
export interface AttachedSurface {
  readonly surface: WlSurface;
  readonly target: SeatTarget;
  /** Shared by all windows of the guest; null if the target has no input. */
  readonly input: SharedInput | null;
  /** Null while the guest hides its cursor. */
  cursor: CursorImage | null;
  /** The guest has set its cursor. Until then pointers have the compositor's default image. */
  isCursorSet: boolean;
  /** Position of the guest's cursor, in units of `surface`. */
  cursorX: number;
  cursorY: number;
}

/** A button, or a touch as BTN_LEFT, that went down on a frame's surface. Positions are in the surface's units. */
export interface FramePress {
  readonly seat: WlSeat;
  readonly serial: number;
  readonly timeMs: number;
  readonly x: number;
  readonly y: number;
  /** The kernel's BTN_*. */
  readonly button: number;
}

/** A surface that the window operates itself, such as its title bar. Nothing on it reaches the guest. */
export interface FrameTarget {
  /** The image of pointers over it, with the hotspot at its top left, where the compositor has no images; null: none. */
  image(): WlSurface | null;
  /** A pointer has come or moved there. Returns the shape of its image. */
  moved(x: number, y: number): WpCursorShapeDeviceV1Shape;
  left(): void;
  pressed(press: FramePress): void;
  /** BTN_LEFT, or the touch, went up. */
  released(x: number, y: number): void;
}

/** By surface. */
export class AttachedSurfaces extends Map<WlSurface, AttachedSurface> {
  readonly frames = new Map<WlSurface, FrameTarget>();

  /** `surface` is that of an event: null if it was destroyed before the event arrived. */
  find(surface: WlSurface | null): AttachedSurface | null {
    return surface === null ? null : (this.get(surface) ?? null);
  }
}
