/**
 * Pixel formats as the kernel names them: drm/drm_fourcc.h.
 *
 * A format is four ASCII characters in a little-endian u32. Its name lists the components of one
 * pixel as a little-endian word, highest bits first: XRGB8888 lies in memory as B, G, R, x.
 * Layouts that differ from rows of pixels are told by a modifier (`drm-fourcc-modifier.ts`), sizes
 * by `drm-fourcc-geometry.ts`.
 */
declare const brand: unique symbol;

/** A DRM format code: u32, never negative. */
export type Fourcc = number & { readonly [brand]: 'Fourcc' };

/** `fourcc('X', 'R', '2', '4')` is XRGB8888. Each argument is one ASCII character. */
export function fourcc(a: string, b: string, c: string, d: string): Fourcc {
  return ((a.charCodeAt(0) | (b.charCodeAt(0) << 8) | (c.charCodeAt(0) << 16) | (d.charCodeAt(0) << 24)) >>> 0) as Fourcc;
}

/** Set in a format whose words are big-endian in memory. */
export const DRM_FORMAT_BIG_ENDIAN = 0x8000_0000;

/** No format. */
export const DRM_FORMAT_INVALID = 0 as Fourcc;

/** Every DRM_FORMAT_* of the kernel. */
export const DRM_FORMAT = {
  /* Colour index, darkness, red. */
  C1: fourcc('C', '1', ' ', ' '),
  C2: fourcc('C', '2', ' ', ' '),
  C4: fourcc('C', '4', ' ', ' '),
  C8: fourcc('C', '8', ' ', ' '),
  D1: fourcc('D', '1', ' ', ' '),
  D2: fourcc('D', '2', ' ', ' '),
  D4: fourcc('D', '4', ' ', ' '),
  D8: fourcc('D', '8', ' ', ' '),
  R1: fourcc('R', '1', ' ', ' '),
  R2: fourcc('R', '2', ' ', ' '),
  R4: fourcc('R', '4', ' ', ' '),
  R8: fourcc('R', '8', ' ', ' '),
  R10: fourcc('R', '1', '0', ' '),
  R12: fourcc('R', '1', '2', ' '),
  R16: fourcc('R', '1', '6', ' '),
  /* Red and green. */
  RG88: fourcc('R', 'G', '8', '8'),
  GR88: fourcc('G', 'R', '8', '8'),
  RG1616: fourcc('R', 'G', '3', '2'),
  GR1616: fourcc('G', 'R', '3', '2'),
  /* RGB, 8 bits a pixel. */
  RGB332: fourcc('R', 'G', 'B', '8'),
  BGR233: fourcc('B', 'G', 'R', '8'),
  /* RGB, 16 bits a pixel. */
  XRGB4444: fourcc('X', 'R', '1', '2'),
  XBGR4444: fourcc('X', 'B', '1', '2'),
  RGBX4444: fourcc('R', 'X', '1', '2'),
  BGRX4444: fourcc('B', 'X', '1', '2'),
  ARGB4444: fourcc('A', 'R', '1', '2'),
  ABGR4444: fourcc('A', 'B', '1', '2'),
  RGBA4444: fourcc('R', 'A', '1', '2'),
  BGRA4444: fourcc('B', 'A', '1', '2'),
  XRGB1555: fourcc('X', 'R', '1', '5'),
  XBGR1555: fourcc('X', 'B', '1', '5'),
  RGBX5551: fourcc('R', 'X', '1', '5'),
  BGRX5551: fourcc('B', 'X', '1', '5'),
  ARGB1555: fourcc('A', 'R', '1', '5'),
  ABGR1555: fourcc('A', 'B', '1', '5'),
  RGBA5551: fourcc('R', 'A', '1', '5'),
  BGRA5551: fourcc('B', 'A', '1', '5'),
  RGB565: fourcc('R', 'G', '1', '6'),
  BGR565: fourcc('B', 'G', '1', '6'),
  /* RGB, 24 bits a pixel. */
  RGB888: fourcc('R', 'G', '2', '4'),
  BGR888: fourcc('B', 'G', '2', '4'),
  /* RGB, 32 bits a pixel. */
  XRGB8888: fourcc('X', 'R', '2', '4'),
  XBGR8888: fourcc('X', 'B', '2', '4'),
  RGBX8888: fourcc('R', 'X', '2', '4'),
  BGRX8888: fourcc('B', 'X', '2', '4'),
  ARGB8888: fourcc('A', 'R', '2', '4'),
  ABGR8888: fourcc('A', 'B', '2', '4'),
  RGBA8888: fourcc('R', 'A', '2', '4'),
  BGRA8888: fourcc('B', 'A', '2', '4'),
  XRGB2101010: fourcc('X', 'R', '3', '0'),
  XBGR2101010: fourcc('X', 'B', '3', '0'),
  RGBX1010102: fourcc('R', 'X', '3', '0'),
  BGRX1010102: fourcc('B', 'X', '3', '0'),
  ARGB2101010: fourcc('A', 'R', '3', '0'),
  ABGR2101010: fourcc('A', 'B', '3', '0'),
  RGBA1010102: fourcc('R', 'A', '3', '0'),
  BGRA1010102: fourcc('B', 'A', '3', '0'),
  /* RGB, 48 bits a pixel. */
  RGB161616: fourcc('R', 'G', '4', '8'),
  BGR161616: fourcc('B', 'G', '4', '8'),
  /* RGB, 64 bits a pixel; F is half-precision float. */
  XRGB16161616: fourcc('X', 'R', '4', '8'),
  XBGR16161616: fourcc('X', 'B', '4', '8'),
  ARGB16161616: fourcc('A', 'R', '4', '8'),
  ABGR16161616: fourcc('A', 'B', '4', '8'),
  XRGB16161616F: fourcc('X', 'R', '4', 'H'),
  XBGR16161616F: fourcc('X', 'B', '4', 'H'),
  ARGB16161616F: fourcc('A', 'R', '4', 'H'),
  ABGR16161616F: fourcc('A', 'B', '4', 'H'),
  AXBXGXRX106106106106: fourcc('A', 'B', '1', '0'),
  /* Luminance only. */
  Y8: fourcc('G', 'R', 'E', 'Y'),
  XYYY2101010: fourcc('Y', 'P', 'A', '4'),
  /* Packed YCbCr. */
  YUYV: fourcc('Y', 'U', 'Y', 'V'),
  YVYU: fourcc('Y', 'V', 'Y', 'U'),
  UYVY: fourcc('U', 'Y', 'V', 'Y'),
  VYUY: fourcc('V', 'Y', 'U', 'Y'),
  AYUV: fourcc('A', 'Y', 'U', 'V'),
  AVUY8888: fourcc('A', 'V', 'U', 'Y'),
  XYUV8888: fourcc('X', 'Y', 'U', 'V'),
  XVUY8888: fourcc('X', 'V', 'U', 'Y'),
  VUY888: fourcc('V', 'U', '2', '4'),
  VUY101010: fourcc('V', 'U', '3', '0'),
  Y210: fourcc('Y', '2', '1', '0'),
  Y212: fourcc('Y', '2', '1', '2'),
  Y216: fourcc('Y', '2', '1', '6'),
  Y410: fourcc('Y', '4', '1', '0'),
  Y412: fourcc('Y', '4', '1', '2'),
  Y416: fourcc('Y', '4', '1', '6'),
  XVUY2101010: fourcc('X', 'Y', '3', '0'),
  XVYU2101010: fourcc('X', 'V', '3', '0'),
  XVYU12_16161616: fourcc('X', 'V', '3', '6'),
  XVYU16161616: fourcc('X', 'V', '4', '8'),
  /* YCbCr 4:2:0 in 2x2 tiles, and in layouts that only a modifier defines. */
  Y0L0: fourcc('Y', '0', 'L', '0'),
  X0L0: fourcc('X', '0', 'L', '0'),
  Y0L2: fourcc('Y', '0', 'L', '2'),
  X0L2: fourcc('X', '0', 'L', '2'),
  YUV420_8BIT: fourcc('Y', 'U', '0', '8'),
  YUV420_10BIT: fourcc('Y', 'U', '1', '0'),
  /* RGB with a second plane of alpha. */
  XRGB8888_A8: fourcc('X', 'R', 'A', '8'),
  XBGR8888_A8: fourcc('X', 'B', 'A', '8'),
  RGBX8888_A8: fourcc('R', 'X', 'A', '8'),
  BGRX8888_A8: fourcc('B', 'X', 'A', '8'),
  RGB888_A8: fourcc('R', '8', 'A', '8'),
  BGR888_A8: fourcc('B', '8', 'A', '8'),
  RGB565_A8: fourcc('R', '5', 'A', '8'),
  BGR565_A8: fourcc('B', '5', 'A', '8'),
  /* Y and interleaved chroma planes. */
  NV12: fourcc('N', 'V', '1', '2'),
  NV21: fourcc('N', 'V', '2', '1'),
  NV16: fourcc('N', 'V', '1', '6'),
  NV61: fourcc('N', 'V', '6', '1'),
  NV24: fourcc('N', 'V', '2', '4'),
  NV42: fourcc('N', 'V', '4', '2'),
  NV15: fourcc('N', 'V', '1', '5'),
  NV20: fourcc('N', 'V', '2', '0'),
  NV30: fourcc('N', 'V', '3', '0'),
  P210: fourcc('P', '2', '1', '0'),
  P010: fourcc('P', '0', '1', '0'),
  P012: fourcc('P', '0', '1', '2'),
  P016: fourcc('P', '0', '1', '6'),
  P030: fourcc('P', '0', '3', '0'),
  P230: fourcc('P', '2', '3', '0'),
  /* Y, Cb and Cr planes. */
  Q410: fourcc('Q', '4', '1', '0'),
  Q401: fourcc('Q', '4', '0', '1'),
  S010: fourcc('S', '0', '1', '0'),
  S210: fourcc('S', '2', '1', '0'),
  S410: fourcc('S', '4', '1', '0'),
  S012: fourcc('S', '0', '1', '2'),
  S212: fourcc('S', '2', '1', '2'),
  S412: fourcc('S', '4', '1', '2'),
  S016: fourcc('S', '0', '1', '6'),
  S216: fourcc('S', '2', '1', '6'),
  S416: fourcc('S', '4', '1', '6'),
  T430: fourcc('T', '4', '3', '0'),
  YUV410: fourcc('Y', 'U', 'V', '9'),
  YVU410: fourcc('Y', 'V', 'U', '9'),
  YUV411: fourcc('Y', 'U', '1', '1'),
  YVU411: fourcc('Y', 'V', '1', '1'),
  YUV420: fourcc('Y', 'U', '1', '2'),
  YVU420: fourcc('Y', 'V', '1', '2'),
  YUV422: fourcc('Y', 'U', '1', '6'),
  YVU422: fourcc('Y', 'V', '1', '6'),
  YUV444: fourcc('Y', 'U', '2', '4'),
  YVU444: fourcc('Y', 'V', '2', '4'),
};

export type FormatName = keyof typeof DRM_FORMAT;

const BIG_ENDIAN_SUFFIX = '|BIG_ENDIAN';

/** The four characters, trailing blanks removed, unprintable ones as `?`: `XR24`, `R8`. */
export function fourccCharacters(format: number): string {
  const characters = [0, 8, 16, 24].map((shift) => {
    const byte = (format >>> shift) & (shift === 24 ? 0x7f : 0xff);
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
  });
  return characters.join('').trimEnd();
}

const formats: ReadonlyMap<string, Fourcc> = new Map(Object.entries(DRM_FORMAT));
const names = new Map<number, string>(Object.entries(DRM_FORMAT).map(([name, format]) => [format, name]));
const byCharacters = new Map(Object.values(DRM_FORMAT).map((format) => [fourccCharacters(format), format]));

/**
 * The kernel's name without DRM_FORMAT_: `XRGB8888`, or `XRGB8888|BIG_ENDIAN` with that bit set.
 * A code the kernel does not know reads `'AB99' (0x39394241)`. Any number is accepted.
 */
export function formatName(format: number): string {
  const name = names.get((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0);
  if (name === undefined) return `'${fourccCharacters(format)}' (0x${(format >>> 0).toString(16).padStart(8, '0')})`;
  return isBigEndian(format) ? name + BIG_ENDIAN_SUFFIX : name;
}

/**
 * The format called `XRGB8888`, `DRM_FORMAT_XRGB8888` or `XR24`, each optionally followed by
 * `|BIG_ENDIAN`; `null` if the kernel knows none of that name. Undoes `formatName`.
 */
export function parseFormat(text: string): Fourcc | null {
  const bigEndian = text.endsWith(BIG_ENDIAN_SUFFIX);
  const name = (bigEndian ? text.slice(0, -BIG_ENDIAN_SUFFIX.length) : text).replace(/^DRM_FORMAT_/, '');
  const format = formats.get(name) ?? byCharacters.get(name.trimEnd());
  if (format === undefined) return null;
  return bigEndian ? (((format | DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc) : format;
}

export function isBigEndian(format: number): boolean {
  return (format & DRM_FORMAT_BIG_ENDIAN) !== 0;
}
