import type { InputSink } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';
import type { WlSurface } from '../client/index.ts';
import type { SharedInput } from './shared-input.ts';

export interface Point {
  x: number;
  y: number;
}

/** What the window of a surface is to the seats. */
export interface SeatTarget {
  /** The picture that positions are in. */
  readonly scanout: ScanoutId;
  /** Null if the guest has no input devices: it gets nothing, and only its cursor is shown. */
  readonly input: InputSink | null;
  /** Converts a place on the surface, in its own units, to pixels of the guest's picture, which it may be outside of. */
  toGuest(x: number, y: number, out: Point): void;
  /** A seat holds pointer and keyboard in this window, or does not any more: time to show how to get out. */
  grabChanged(isGrabbed: boolean): void;
}

/** A guest's cursor as the image of pointers over a window. The caller's, who attaches buffers to the surface and commits them. */
export interface CursorImage {
  readonly surface: WlSurface;
  /** The point of the image that points, in the surface's units. */
  readonly hotspotX: number;
  readonly hotspotY: number;
}

/** A window's surface that seats may be at. */
export interface AttachedSurface {
  readonly surface: WlSurface;
  readonly target: SeatTarget;
  /** Null if the target has no input. */
  readonly input: SharedInput | null;
  /** Null while the guest hides its cursor. */
  cursor: CursorImage | null;
  /** The guest has said what its cursor is; until then pointers look as the compositor likes. */
  isCursorSet: boolean;
  /** Where the guest's cursor points, in units of `surface`. */
  cursorX: number;
  cursorY: number;
}

/** By surface, which in events is null once it is destroyed. */
export class AttachedSurfaces extends Map<WlSurface, AttachedSurface> {
  find(surface: WlSurface | null): AttachedSurface | null {
    return surface === null ? null : (this.get(surface) ?? null);
  }
}
