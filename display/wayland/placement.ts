import type { MutableRect, Size } from '../../src/core/geometry.ts';

export interface Scaling {
  /** Screen pixels per logical pixel, fractions allowed. */
  readonly hostScale: number;
  /** Screen pixels per guest pixel that the user wants. */
  readonly zoom: number;
}

/** The window that shows `picture` as large as the user wants it: at zoom 1 each guest pixel is one of the screen's. */
export function windowFor(picture: Size, { hostScale, zoom }: Scaling): Size {
  return {
    width: Math.max(1, Math.round((picture.width * zoom) / hostScale)),
    height: Math.max(1, Math.round((picture.height * zoom) / hostScale)),
  };
}

/** The picture that fills `window` as large as the user wants it. Undoes `windowFor`. */
export function pictureFor(window: Size, { hostScale, zoom }: Scaling): Size {
  return {
    width: Math.max(1, Math.round((window.width * hostScale) / zoom)),
    height: Math.max(1, Math.round((window.height * hostScale) / zoom)),
  };
}

/** Cut to `bounds` with its aspect kept; a bound of 0 is none. */
export function within(size: Size, bounds: Size): Size {
  const factor = Math.min(1, bounds.width > 0 ? bounds.width / size.width : 1, bounds.height > 0 ? bounds.height / size.height : 1);
  return { width: Math.max(1, Math.floor(size.width * factor)), height: Math.max(1, Math.floor(size.height * factor)) };
}

/** As large as the window allows, aspect kept, in the middle. */
export function fit(picture: Size, window: Size, into: MutableRect): void {
  const factor = Math.min(window.width / picture.width, window.height / picture.height);
  // A window made for the picture has its aspect but for the rounding: then it is filled.
  const width = Math.round(picture.width * factor);
  const height = Math.round(picture.height * factor);
  into.width = Math.abs(width - window.width) <= 1 ? window.width : Math.max(1, width);
  into.height = Math.abs(height - window.height) <= 1 ? window.height : Math.max(1, height);
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}

/** Unscaled in the middle, for compositors that cannot scale; may reach beyond the window. */
export function centre(picture: Size, window: Size, bufferScale: number, into: MutableRect): void {
  into.width = picture.width / bufferScale;
  into.height = picture.height / bufferScale;
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}
