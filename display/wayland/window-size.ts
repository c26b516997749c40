/** How large a window is for a picture, and a picture for a window; where the picture lies in it. */
import type { MutableRect, Size } from '../../src/core/geometry.ts';

/** Of windows and of the pictures that would fill them, in either direction: more than any compositor can show. */
export const MAX_SIDE = 65_535;
/** wp_fractional_scale_v1 sends the scale in 120ths. */
export const SCALE_UNITS = 120;

/** One of the compositor's monitors as windows see it, turned as it hangs. */
export interface HostScreen {
  readonly pixels: Size;
  /** In the compositor's logical pixels (xdg_output.logical_size), which compositors round in different ways. */
  readonly logical: Size;
}

export interface Scaling {
  /** Screen pixels per logical pixel, fractions allowed. */
  readonly hostScale: number;
  /** Screen pixels per guest pixel, as the user chose. */
  readonly zoom: number;
  /** Null if unknown. */
  readonly screen: HostScreen | null;
}

/**
 * Screen pixels per logical pixel, when the compositor says `preferred`, in whole 120ths or, with `isWhole`, rounded
 * up to a whole number. GNOME chooses scales at which the logical size of a monitor is whole (2560 pixels at "150 %"
 * are 1712 logical ones), so there only the ratio of the sizes is exact. KWin and wlroots have multiples of 1/120 and
 * round the size.
 */
export function exactScale(preferred: number, isWhole: boolean, screen: HostScreen | null): number {
  if (!screen) return preferred;
  const { pixels, logical } = screen;
  const ratio = pixels.width / logical.width;
  const exact =
    pixels.width * logical.height === pixels.height * logical.width
      ? ratio
      : Math.round(ratio * SCALE_UNITS) / SCALE_UNITS;
  // The window may be on another monitor than this, or the size may mean something else.
  const isPossible = isWhole ? Math.ceil(exact) === preferred : Math.abs(exact - preferred) < 1 / SCALE_UNITS;
  return isPossible ? exact : preferred;
}

/**
 * The window size, in logical pixels, at which `picture` has the user's zoom: at zoom 1 each guest
 * pixel is one screen pixel.
 */
export function windowFor(picture: Size, { hostScale, zoom, screen }: Scaling): Size {
  const along = (length: number, pixels?: number, logical?: number): number =>
    length * zoom === pixels ? logical! : side((length * zoom) / hostScale);
  return {
    width: along(picture.width, screen?.pixels.width, screen?.logical.width),
    height: along(picture.height, screen?.pixels.height, screen?.logical.height),
  };
}

/**
 * The picture size, in guest pixels, that fills `window` at the user's zoom. The inverse of `windowFor`. A window as
 * wide or high as its screen has that many pixels, however the compositor rounded.
 */
export function pictureFor(window: Size, { hostScale, zoom, screen }: Scaling): Size {
  const along = (length: number, pixels?: number, logical?: number): number =>
    side((length === logical ? pixels! : Math.round(length * hostScale)) / zoom);
  return {
    width: along(window.width, screen?.pixels.width, screen?.logical.width),
    height: along(window.height, screen?.pixels.height, screen?.logical.height),
  };
}

function side(length: number): number {
  return Math.min(Math.max(1, Math.round(length)), MAX_SIDE);
}

/** Shrinks `size` into `bounds`, keeping its aspect ratio; a bound of 0 does not limit it. */
export function within(size: Size, bounds: Size): Size {
  const factor = Math.min(
    1,
    bounds.width > 0 ? bounds.width / size.width : 1,
    bounds.height > 0 ? bounds.height / size.height : 1,
  );
  return { width: Math.max(1, Math.floor(size.width * factor)), height: Math.max(1, Math.floor(size.height * factor)) };
}

/** Centres `picture` in `window`, as large as its aspect ratio allows. */
export function fit(picture: Size, window: Size, into: MutableRect): void {
  const factor = Math.min(window.width / picture.width, window.height / picture.height);
  // A window that was sized for the picture differs by a pixel of rounding; then the picture fills it.
  const width = Math.round(picture.width * factor);
  const height = Math.round(picture.height * factor);
  into.width = Math.abs(width - window.width) <= 1 ? window.width : Math.max(1, width);
  into.height = Math.abs(height - window.height) <= 1 ? window.height : Math.max(1, height);
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}

/** Centres `picture` in `window` unscaled, for compositors that cannot scale it; it may reach beyond the window. */
export function centre(picture: Size, window: Size, bufferScale: number, into: MutableRect): void {
  into.width = picture.width / bufferScale;
  into.height = picture.height / bufferScale;
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}
