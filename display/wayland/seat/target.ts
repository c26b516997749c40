import type { InputSink } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';
import type { WlBuffer } from '../client/index.ts';

export interface Point {
  x: number;
  y: number;
}

/** What the window of a surface is to the seats. */
export interface SeatTarget {
  /** The picture that positions are in. */
  readonly scanout: ScanoutId;
  /** Null if the guest has no input devices of ours: then it gets nothing, and only the cursor is shown. */
  readonly input: InputSink | null;
  /** Where a place on the surface, in its own units, is in the guest's picture, in pixels; outside of it too. */
  toGuest(x: number, y: number, out: Point): void;
  /** A seat keeps pointer and keyboard in this window, or does not any more: time to show how to get out. */
  grabChanged(isGrabbed: boolean): void;
}

/** A guest's cursor as a window has it. */
export interface CursorImage {
  /** The caller's, who may destroy it after the next image was set. */
  readonly buffer: WlBuffer;
  /** All four in the buffer's pixels. */
  readonly width: number;
  readonly height: number;
  readonly hotspotX: number;
  readonly hotspotY: number;
  /** Units of the window's surface to a pixel of the guest. */
  readonly scale: number;
}
