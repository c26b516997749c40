import type { MutableRect, Size } from '../../src/core/geometry.ts';

/** Puts `canvas` into the middle of `screen`: pixel for pixel if it fits, else as large as fits with its aspect kept. */
export function place(canvas: Size, screen: Size, into: MutableRect): void {
  const shrink = Math.min(1, screen.width / canvas.width, screen.height / canvas.height);
  const width = Math.max(1, Math.round(canvas.width * shrink));
  const height = Math.max(1, Math.round(canvas.height * shrink));
  into.set(Math.floor((screen.width - width) / 2), Math.floor((screen.height - height) / 2), width, height);
}
