import type { Rect, Size } from '../../src/core/geometry.ts';

/** A rectangle that is moved rather than replaced. */
export type Place = { -readonly [K in keyof Rect]: Rect[K] };

/** Puts `canvas` into the middle of `screen`: pixel for pixel if it fits, else as large as fits with its aspect kept. */
export function place(canvas: Size, screen: Size, into: Place): void {
  const shrink = Math.min(1, screen.width / canvas.width, screen.height / canvas.height);
  into.width = Math.max(1, Math.round(canvas.width * shrink));
  into.height = Math.max(1, Math.round(canvas.height * shrink));
  into.x = Math.floor((screen.width - into.width) / 2);
  into.y = Math.floor((screen.height - into.height) / 2);
}
