/** pixman.h: regions, and pixel formats as QEMU names them. Both name components of a word, from its highest bit down, as in DRM. */
import { DRM_FORMAT, type Fourcc } from './drm-fourcc.ts';
import { addr64, i32, struct } from './layout.ts';

/** x2 and y2 are exclusive. */
export const pixman_box32 = struct('pixman_box32', { x1: i32, y1: i32, x2: i32, y2: i32 });
export const pixman_region32 = struct('pixman_region32', { extents: pixman_box32, data: addr64 });

const TYPE_ARGB = 2;
const TYPE_ABGR = 3;
const TYPE_BGRA = 8;
const TYPE_RGBA = 9;

/** PIXMAN_FORMAT of pixman.h: bits of a pixel, order of the components, and the bits of each. */
function format(bpp: number, type: number, a: number, r: number, g: number, b: number): number {
  return (bpp << 24) | (type << 16) | (a << 12) | (r << 8) | (g << 4) | b;
}

/** pixman_format_code_t, by the name without PIXMAN_. */
export const PIXMAN_FORMAT = {
  a8r8g8b8: format(32, TYPE_ARGB, 8, 8, 8, 8),
  x8r8g8b8: format(32, TYPE_ARGB, 0, 8, 8, 8),
  a8b8g8r8: format(32, TYPE_ABGR, 8, 8, 8, 8),
  x8b8g8r8: format(32, TYPE_ABGR, 0, 8, 8, 8),
  b8g8r8a8: format(32, TYPE_BGRA, 8, 8, 8, 8),
  b8g8r8x8: format(32, TYPE_BGRA, 0, 8, 8, 8),
  r8g8b8a8: format(32, TYPE_RGBA, 8, 8, 8, 8),
  r8g8b8x8: format(32, TYPE_RGBA, 0, 8, 8, 8),
  x2r10g10b10: format(32, TYPE_ARGB, 0, 10, 10, 10),
  a2r10g10b10: format(32, TYPE_ARGB, 2, 10, 10, 10),
  x2b10g10r10: format(32, TYPE_ABGR, 0, 10, 10, 10),
  a2b10g10r10: format(32, TYPE_ABGR, 2, 10, 10, 10),
  r8g8b8: format(24, TYPE_ARGB, 0, 8, 8, 8),
  b8g8r8: format(24, TYPE_ABGR, 0, 8, 8, 8),
  r5g6b5: format(16, TYPE_ARGB, 0, 5, 6, 5),
  b5g6r5: format(16, TYPE_ABGR, 0, 5, 6, 5),
  a1r5g5b5: format(16, TYPE_ARGB, 1, 5, 5, 5),
  x1r5g5b5: format(16, TYPE_ARGB, 0, 5, 5, 5),
} as const;

const FOURCC: readonly (readonly [number, Fourcc])[] = [
  [PIXMAN_FORMAT.a8r8g8b8, DRM_FORMAT.ARGB8888],
  [PIXMAN_FORMAT.x8r8g8b8, DRM_FORMAT.XRGB8888],
  [PIXMAN_FORMAT.a8b8g8r8, DRM_FORMAT.ABGR8888],
  [PIXMAN_FORMAT.x8b8g8r8, DRM_FORMAT.XBGR8888],
  [PIXMAN_FORMAT.b8g8r8a8, DRM_FORMAT.BGRA8888],
  [PIXMAN_FORMAT.b8g8r8x8, DRM_FORMAT.BGRX8888],
  [PIXMAN_FORMAT.r8g8b8a8, DRM_FORMAT.RGBA8888],
  [PIXMAN_FORMAT.r8g8b8x8, DRM_FORMAT.RGBX8888],
  [PIXMAN_FORMAT.x2r10g10b10, DRM_FORMAT.XRGB2101010],
  [PIXMAN_FORMAT.a2r10g10b10, DRM_FORMAT.ARGB2101010],
  [PIXMAN_FORMAT.x2b10g10r10, DRM_FORMAT.XBGR2101010],
  [PIXMAN_FORMAT.a2b10g10r10, DRM_FORMAT.ABGR2101010],
  [PIXMAN_FORMAT.r8g8b8, DRM_FORMAT.RGB888],
  [PIXMAN_FORMAT.b8g8r8, DRM_FORMAT.BGR888],
  [PIXMAN_FORMAT.r5g6b5, DRM_FORMAT.RGB565],
  [PIXMAN_FORMAT.b5g6r5, DRM_FORMAT.BGR565],
  [PIXMAN_FORMAT.a1r5g5b5, DRM_FORMAT.ARGB1555],
  [PIXMAN_FORMAT.x1r5g5b5, DRM_FORMAT.XRGB1555],
];

const toFourcc = new Map(FOURCC);
const fromFourcc = new Map(FOURCC.map(([code, fourcc]) => [fourcc, code]));

/** The DRM format with the same bytes; null if there is none. */
export function fourccOfPixman(code: number): Fourcc | null {
  return toFourcc.get(code) ?? null;
}

/** The pixman_format_code_t of a DRM format; null if pixman has none. */
export function pixmanOfFourcc(fourcc: Fourcc): number | null {
  return fromFourcc.get(fourcc) ?? null;
}
