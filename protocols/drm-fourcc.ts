/**
 * DRM pixel formats and modifiers (drm/drm_fourcc.h): the public entry of
 * `scanout-bridge/drm-fourcc`. Pure data and arithmetic, no I/O, usable alone.
 *
 *     formatName(0x34325258)                     // 'XRGB8888'
 *     parseFormat('XR24') === DRM_FORMAT.XRGB8888
 *     describeModifier(0x0800000000000051n)      // 'ARM AFBC 16x16 YTR SPARSE'
 *     minPitch(formatInfo(DRM_FORMAT.NV12)!, 1, 1920)  // 1920
 *
 * Three parts: the formats and their names; how large the planes of a linear buffer are; modifiers,
 * which say how a buffer that is not linear is laid out.
 *
 * A format is four ASCII characters in a little-endian u32. Its name lists the components of one
 * pixel as a little-endian word, highest bits first: XRGB8888 lies in memory as B, G, R, x.
 */
declare const fourccBrand: unique symbol;

/** A DRM format code: u32, never negative. */
export type Fourcc = number & { readonly [fourccBrand]: 'Fourcc' };

/** The code of four ASCII characters: `fourcc('X', 'R', '2', '4')` is XRGB8888. */
export function fourcc(a: string, b: string, c: string, d: string): Fourcc {
  return ((a.charCodeAt(0) | (b.charCodeAt(0) << 8) | (c.charCodeAt(0) << 16) | (d.charCodeAt(0) << 24)) >>>
    0) as Fourcc;
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
  /* Luma only. */
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
  /* YCbCr 4:2:0 in 2x2 tiles, and in layouts that a modifier defines. */
  Y0L0: fourcc('Y', '0', 'L', '0'),
  X0L0: fourcc('X', '0', 'L', '0'),
  Y0L2: fourcc('Y', '0', 'L', '2'),
  X0L2: fourcc('X', '0', 'L', '2'),
  YUV420_8BIT: fourcc('Y', 'U', '0', '8'),
  YUV420_10BIT: fourcc('Y', 'U', '1', '0'),
  /* RGB, with alpha in a second plane. */
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

/** The four characters, without trailing blanks and with `?` for unprintable ones: `XR24`, `R8`. */
export function fourccCharacters(format: number): string {
  const characters = [0, 8, 16, 24].map((shift) => {
    const byte = (format >>> shift) & (shift === 24 ? 0x7f : 0xff);
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
  });
  return characters.join('').trimEnd();
}

const formatsByName: ReadonlyMap<string, Fourcc> = new Map(Object.entries(DRM_FORMAT));
const formatNames = new Map<number, string>(Object.entries(DRM_FORMAT).map(([name, format]) => [format, name]));
const formatsByCharacters = new Map(Object.values(DRM_FORMAT).map((format) => [fourccCharacters(format), format]));

/**
 * The kernel's name without DRM_FORMAT_: `XRGB8888`, or `XRGB8888|BIG_ENDIAN` with that bit set. A
 * code that is not in the kernel's list gives `'AB99' (0x39394241)`. Accepts any number.
 */
export function formatName(format: number): string {
  const name = formatNames.get((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0);
  if (name === undefined) return `'${fourccCharacters(format)}' (0x${(format >>> 0).toString(16).padStart(8, '0')})`;
  return isBigEndian(format) ? name + BIG_ENDIAN_SUFFIX : name;
}

/**
 * The format called `XRGB8888`, `DRM_FORMAT_XRGB8888` or `XR24`, each optionally followed by
 * `|BIG_ENDIAN`; `null` if the kernel has no such format. The inverse of `formatName`.
 */
export function parseFormat(text: string): Fourcc | null {
  const bigEndian = text.endsWith(BIG_ENDIAN_SUFFIX);
  const name = (bigEndian ? text.slice(0, -BIG_ENDIAN_SUFFIX.length) : text).replace(/^DRM_FORMAT_/, '');
  const format = formatsByName.get(name) ?? formatsByCharacters.get(name.trimEnd());
  if (format === undefined) return null;
  return bigEndian ? (((format | DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc) : format;
}

export function isBigEndian(format: number): boolean {
  return (format & DRM_FORMAT_BIG_ENDIAN) !== 0;
}

/*
 * How large the planes of a linear buffer are, by format. The figures come from the kernel's table
 * (drm_format_info in drivers/gpu/drm/drm_fourcc.c), so a size that is large enough here passes the
 * kernel's check of a framebuffer.
 */

export interface PlaneInfo {
  /** A block is the smallest unit of whole bytes: one pixel in most formats, several where pixels are packed. */
  readonly bytesPerBlock: number;
  /** Block size in samples of this plane. */
  readonly blockWidth: number;
  readonly blockHeight: number;
  /** How many pixels of the picture one sample of this plane covers, across and down. 1 in the first plane. */
  readonly hsub: number;
  readonly vsub: number;
}

export interface FormatInfo {
  readonly planes: readonly PlaneInfo[];
  readonly hasAlpha: boolean;
  readonly isYuv: boolean;
}

type Names = readonly FormatName[];
const formatInfos = new Map<Fourcc, FormatInfo>();

/** A plane of blocks of `bytes`, each `width` x `height` samples. */
function plane(bytes: number, width = 1, height = 1): PlaneInfo {
  return { bytesPerBlock: bytes, blockWidth: width, blockHeight: height, hsub: 1, vsub: 1 };
}

function define(names: Names, info: FormatInfo): void {
  for (const name of names) formatInfos.set(DRM_FORMAT[name], info);
}

function opaque(names: Names, ...planes: PlaneInfo[]): void {
  define(names, { planes, hasAlpha: false, isYuv: false });
}

function alpha(names: Names, ...planes: PlaneInfo[]): void {
  define(names, { planes, hasAlpha: true, isYuv: false });
}

/** `hsub` x `vsub` is the subsampling of every plane except the first. */
function yuv(names: Names, hsub: number, vsub: number, ...planes: PlaneInfo[]): void {
  define(names, { planes: planes.map((p, i) => (i === 0 ? p : { ...p, hsub, vsub })), hasAlpha: false, isYuv: true });
}

function yuvAlpha(names: Names, first: PlaneInfo): void {
  define(names, { planes: [first], hasAlpha: true, isYuv: true });
}

opaque(['C1', 'D1', 'R1'], plane(1, 8));
opaque(['C2', 'D2', 'R2'], plane(1, 4));
opaque(['C4', 'D4', 'R4'], plane(1, 2));
opaque(['C8', 'D8', 'R8', 'RGB332', 'BGR233'], plane(1));
opaque(['R10', 'R12', 'R16', 'RG88', 'GR88', 'RGB565', 'BGR565'], plane(2));
opaque(['XRGB4444', 'XBGR4444', 'RGBX4444', 'BGRX4444', 'XRGB1555', 'XBGR1555', 'RGBX5551', 'BGRX5551'], plane(2));
alpha(['ARGB4444', 'ABGR4444', 'RGBA4444', 'BGRA4444', 'ARGB1555', 'ABGR1555', 'RGBA5551', 'BGRA5551'], plane(2));
opaque(['RGB888', 'BGR888'], plane(3));
opaque(['RG1616', 'GR1616', 'XRGB8888', 'XBGR8888', 'RGBX8888', 'BGRX8888'], plane(4));
opaque(['XRGB2101010', 'XBGR2101010', 'RGBX1010102', 'BGRX1010102'], plane(4));
alpha(['ARGB8888', 'ABGR8888', 'RGBA8888', 'BGRA8888'], plane(4));
alpha(['ARGB2101010', 'ABGR2101010', 'RGBA1010102', 'BGRA1010102'], plane(4));
opaque(['RGB161616', 'BGR161616'], plane(6));
opaque(['XRGB16161616', 'XBGR16161616', 'XRGB16161616F', 'XBGR16161616F'], plane(8));
alpha(['ARGB16161616', 'ABGR16161616', 'ARGB16161616F', 'ABGR16161616F', 'AXBXGXRX106106106106'], plane(8));
alpha(['RGB565_A8', 'BGR565_A8'], plane(2), plane(1));
alpha(['RGB888_A8', 'BGR888_A8'], plane(3), plane(1));
alpha(['XRGB8888_A8', 'XBGR8888_A8', 'RGBX8888_A8', 'BGRX8888_A8'], plane(4), plane(1));

yuv(['Y8'], 1, 1, plane(1));
yuv(['XYYY2101010'], 1, 1, plane(4, 3));
yuv(['YUYV', 'YVYU', 'UYVY', 'VYUY'], 1, 1, plane(2));
yuv(['VUY888'], 1, 1, plane(3));
yuv(['XYUV8888', 'XVUY8888', 'XVUY2101010', 'XVYU2101010', 'Y210', 'Y212', 'Y216'], 1, 1, plane(4));
yuv(['XVYU12_16161616', 'XVYU16161616'], 1, 1, plane(8));
yuv(['X0L0', 'X0L2'], 1, 1, plane(8, 2, 2));
yuvAlpha(['AYUV', 'AVUY8888', 'Y410'], plane(4));
yuvAlpha(['Y412', 'Y416'], plane(8));
yuvAlpha(['Y0L0', 'Y0L2'], plane(8, 2, 2));

yuv(['NV12', 'NV21'], 2, 2, plane(1), plane(2));
yuv(['NV16', 'NV61'], 2, 1, plane(1), plane(2));
yuv(['NV24', 'NV42'], 1, 1, plane(1), plane(2));
yuv(['NV15'], 2, 2, plane(5, 4), plane(5, 2));
yuv(['NV20'], 2, 1, plane(5, 4), plane(5, 2));
yuv(['NV30'], 1, 1, plane(5, 4), plane(5, 2));
yuv(['P010', 'P012', 'P016'], 2, 2, plane(2), plane(4));
yuv(['P210'], 2, 1, plane(2), plane(4));
yuv(['P030'], 2, 2, plane(4, 3), plane(8, 3));
yuv(['P230'], 2, 1, plane(4, 3), plane(8, 3));

yuv(['YUV410', 'YVU410'], 4, 4, plane(1), plane(1), plane(1));
yuv(['YUV411', 'YVU411'], 4, 1, plane(1), plane(1), plane(1));
yuv(['YUV420', 'YVU420'], 2, 2, plane(1), plane(1), plane(1));
yuv(['YUV422', 'YVU422'], 2, 1, plane(1), plane(1), plane(1));
yuv(['YUV444', 'YVU444'], 1, 1, plane(1), plane(1), plane(1));
yuv(['S010', 'S012', 'S016'], 2, 2, plane(2), plane(2), plane(2));
yuv(['S210', 'S212', 'S216'], 2, 1, plane(2), plane(2), plane(2));
yuv(['S410', 'S412', 'S416', 'Q410', 'Q401'], 1, 1, plane(2), plane(2), plane(2));
yuv(['T430'], 1, 1, plane(4, 3), plane(4, 3), plane(4, 3));

/**
 * The planes of `format`, or `null` if the format is unknown or has no linear layout
 * (YUV420_8BIT, YUV420_10BIT, VUY101010). Ignores the big-endian bit, which changes no size.
 */
export function formatInfo(format: number): FormatInfo | null {
  return formatInfos.get(((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc) ?? null;
}

function planeOf(info: FormatInfo, plane: number): PlaneInfo {
  const found = info.planes[plane];
  if (found === undefined) throw new RangeError(`plane ${plane} of a format with ${info.planes.length}`);
  return found;
}

/** Samples in a row of plane `plane` of a picture `width` pixels wide. */
export function planeWidth(info: FormatInfo, plane: number, width: number): number {
  return Math.ceil(width / planeOf(info, plane).hsub);
}

/** Rows in plane `plane` of a picture `height` pixels high. */
export function planeHeight(info: FormatInfo, plane: number, height: number): number {
  return Math.ceil(height / planeOf(info, plane).vsub);
}

/** Bytes of one row without padding: the smallest `pitch` that the kernel accepts for a picture `width` pixels wide. */
export function minPitch(info: FormatInfo, plane: number, width: number): number {
  const { bytesPerBlock, blockWidth, blockHeight } = planeOf(info, plane);
  return Math.ceil((planeWidth(info, plane, width) * bytesPerBlock) / (blockWidth * blockHeight));
}

/**
 * Bytes to allocate for a plane whose rows are `pitch` bytes apart.
 *
 * Like all results here it is exact up to 2^53 and rounded above, for any u32 arguments that a guest
 * may give. A rounded result is larger than any buffer, so comparing it with a size stays correct.
 */
export function planeSize(info: FormatInfo, plane: number, pitch: number, height: number): number {
  return pitch * planeHeight(info, plane, height);
}

/**
 * The fewest bytes a plane may have: `pitch` for every row except the last, which needs no padding.
 * The kernel requires as many after the plane's offset in a framebuffer's memory. 0 if there are no
 * pixels.
 */
export function minPlaneSize(info: FormatInfo, plane: number, pitch: number, width: number, height: number): number {
  if (width === 0 || height === 0) return 0;
  return pitch * (planeHeight(info, plane, height) - 1) + minPitch(info, plane, width);
}

const opaqueTwins: ReadonlyMap<Fourcc, Fourcc> = new Map(
  (
    [
      ['ARGB4444', 'XRGB4444'],
      ['ABGR4444', 'XBGR4444'],
      ['RGBA4444', 'RGBX4444'],
      ['BGRA4444', 'BGRX4444'],
      ['ARGB1555', 'XRGB1555'],
      ['ABGR1555', 'XBGR1555'],
      ['RGBA5551', 'RGBX5551'],
      ['BGRA5551', 'BGRX5551'],
      ['ARGB8888', 'XRGB8888'],
      ['ABGR8888', 'XBGR8888'],
      ['RGBA8888', 'RGBX8888'],
      ['BGRA8888', 'BGRX8888'],
      ['ARGB2101010', 'XRGB2101010'],
      ['ABGR2101010', 'XBGR2101010'],
      ['RGBA1010102', 'RGBX1010102'],
      ['BGRA1010102', 'BGRX1010102'],
      ['ARGB16161616', 'XRGB16161616'],
      ['ABGR16161616', 'XBGR16161616'],
      ['ARGB16161616F', 'XRGB16161616F'],
      ['ABGR16161616F', 'XBGR16161616F'],
      ['AYUV', 'XYUV8888'],
      ['AVUY8888', 'XVUY8888'],
      ['Y410', 'XVYU2101010'],
      ['Y412', 'XVYU12_16161616'],
      ['Y416', 'XVYU16161616'],
      ['Y0L0', 'X0L0'],
      ['Y0L2', 'X0L2'],
    ] as const satisfies [FormatName, FormatName][]
  ).map(([alphaName, opaqueName]) => [DRM_FORMAT[alphaName], DRM_FORMAT[opaqueName]]),
);

/**
 * The format of the same bytes with alpha ignored: XRGB8888 for ARGB8888; `format` itself if it has
 * no alpha; `null` if it has alpha and there is no such format, or if it is unknown.
 */
export function opaqueOf(format: Fourcc): Fourcc | null {
  const bigEndian = (format & DRM_FORMAT_BIG_ENDIAN) >>> 0;
  const info = formatInfo(format);
  if (info === null) return null;
  if (!info.hasAlpha) return format;
  const twin = opaqueTwins.get(((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc);
  return twin === undefined ? null : (((twin | bigEndian) >>> 0) as Fourcc);
}

/*
 * Format modifiers: how the pixels of a format are arranged in memory. The top eight of 64 bits are
 * a vendor; that vendor defines the rest. Code that passes buffers on compares modifiers and never
 * computes with them; they are decoded here only to be readable in logs.
 */

declare const modifierBrand: unique symbol;

/** A DRM format modifier: u64. */
export type Modifier = bigint & { readonly [modifierBrand]: 'Modifier' };

/** DRM_FORMAT_MOD_VENDOR_* */
export const DRM_FORMAT_MOD_VENDOR = {
  NONE: 0x00,
  INTEL: 0x01,
  AMD: 0x02,
  NVIDIA: 0x03,
  SAMSUNG: 0x04,
  QCOM: 0x05,
  VIVANTE: 0x06,
  BROADCOM: 0x07,
  ARM: 0x08,
  ALLWINNER: 0x09,
  AMLOGIC: 0x0a,
  MTK: 0x0b,
  APPLE: 0x0c,
} as const;

export type ModifierVendor = keyof typeof DRM_FORMAT_MOD_VENDOR;

const VALUE_BITS = 56;

/** `modifierCode('INTEL', 1n)` is I915_FORMAT_MOD_X_TILED. `value` is truncated to 56 bits. */
export function modifierCode(vendor: ModifierVendor, value: bigint): Modifier {
  return ((BigInt(DRM_FORMAT_MOD_VENDOR[vendor]) << BigInt(VALUE_BITS)) |
    BigInt.asUintN(VALUE_BITS, value)) as Modifier;
}

/** Rows of pixels one after another. */
export const DRM_FORMAT_MOD_LINEAR = modifierCode('NONE', 0n);
/** No modifier was given: the driver knows the layout. */
export const DRM_FORMAT_MOD_INVALID = modifierCode('NONE', (1n << 56n) - 1n);

/** Every modifier with a name of its own, by the kernel's macro. Those of AFBC, AFRC and AMD are made of fields. */
export const NAMED_MODIFIERS: ReadonlyMap<string, Modifier> = new Map([
  ['DRM_FORMAT_MOD_LINEAR', DRM_FORMAT_MOD_LINEAR],
  ['DRM_FORMAT_MOD_INVALID', DRM_FORMAT_MOD_INVALID],
  ...numbered('INTEL', 'I915_FORMAT_MOD_', [
    'X_TILED',
    'Y_TILED',
    'Yf_TILED',
    'Y_TILED_CCS',
    'Yf_TILED_CCS',
    'Y_TILED_GEN12_RC_CCS',
    'Y_TILED_GEN12_MC_CCS',
    'Y_TILED_GEN12_RC_CCS_CC',
    '4_TILED',
    '4_TILED_DG2_RC_CCS',
    '4_TILED_DG2_MC_CCS',
    '4_TILED_DG2_RC_CCS_CC',
    '4_TILED_MTL_RC_CCS',
    '4_TILED_MTL_MC_CCS',
    '4_TILED_MTL_RC_CCS_CC',
    '4_TILED_LNL_CCS',
    '4_TILED_BMG_CCS',
  ]),
  ...numbered('SAMSUNG', 'DRM_FORMAT_MOD_SAMSUNG_', ['64_32_TILE', '16_16_TILE']),
  ...numbered('QCOM', 'DRM_FORMAT_MOD_QCOM_', ['COMPRESSED', 'TILED2', 'TILED3']),
  ...numbered('VIVANTE', 'DRM_FORMAT_MOD_VIVANTE_', ['TILED', 'SUPER_TILED', 'SPLIT_TILED', 'SPLIT_SUPER_TILED']),
  ['DRM_FORMAT_MOD_NVIDIA_TEGRA_TILED', modifierCode('NVIDIA', 1n)],
  ...numbered(
    'NVIDIA',
    'DRM_FORMAT_MOD_NVIDIA_16BX2_BLOCK_',
    ['ONE_GOB', 'TWO_GOB', 'FOUR_GOB', 'EIGHT_GOB', 'SIXTEEN_GOB', 'THIRTYTWO_GOB'],
    0x10,
  ),
  ...numbered('BROADCOM', 'DRM_FORMAT_MOD_BROADCOM_', ['VC4_T_TILED', 'SAND32', 'SAND64', 'SAND128', 'SAND256', 'UIF']),
  ['DRM_FORMAT_MOD_ARM_16X16_BLOCK_U_INTERLEAVED', modifierCode('ARM', (1n << 52n) | 1n)],
  ...numbered('ALLWINNER', 'DRM_FORMAT_MOD_ALLWINNER_', ['TILED']),
  ...numbered('MTK', 'DRM_FORMAT_MOD_MTK_', ['16L_32S_TILE']),
  ...numbered('APPLE', 'DRM_FORMAT_MOD_APPLE_', ['GPU_TILED', 'GPU_TILED_COMPRESSED']),
]);

function numbered(vendor: ModifierVendor, prefix: string, names: readonly string[], first = 1): [string, Modifier][] {
  return names.map((name, i) => [prefix + name, modifierCode(vendor, BigInt(first + i))]);
}

const vendorNames = new Map<number, string>(Object.entries(DRM_FORMAT_MOD_VENDOR).map(([name, id]) => [id, name]));

/** `INTEL`, `NONE` (the kernel's own), or `VENDOR_0x2a` for a vendor that is not in the kernel's list. */
export function modifierVendor(modifier: bigint): string {
  const id = Number(BigInt.asUintN(64, modifier) >> BigInt(VALUE_BITS));
  return vendorNames.get(id) ?? `VENDOR_0x${id.toString(16)}`;
}

/** `DRM_FORMAT_MOD_SAMSUNG_64_32_TILE` -> `SAMSUNG 64_32_TILE`; LINEAR and INVALID stand alone. */
function shortName(macro: string, modifier: Modifier): string {
  const vendor = modifierVendor(modifier);
  const name = macro.replace(/^(DRM|I915)_FORMAT_MOD_/, '');
  if (vendor === 'NONE') return name;
  return `${vendor} ${name.startsWith(`${vendor}_`) ? name.slice(vendor.length + 1) : name}`;
}

const modifierNames = new Map<bigint, string>(
  [...NAMED_MODIFIERS].map(([macro, modifier]) => [modifier, shortName(macro, modifier)]),
);
const modifiersByName = new Map<string, Modifier>(
  [...NAMED_MODIFIERS].flatMap(([macro, modifier]) => [
    [macro, modifier],
    [shortName(macro, modifier), modifier],
  ]),
);

/** A field of a modifier: bits `shift` to `shift + bits - 1`. */
interface Field {
  readonly name: string;
  readonly shift: number;
  readonly bits: number;
  /** Names of values 0, 1, …; a single-bit field without them is a flag. */
  readonly values?: readonly (string | undefined)[];
}

function readField(modifier: bigint, field: Field): number {
  return Number((modifier >> BigInt(field.shift)) & ((1n << BigInt(field.bits)) - 1n));
}

/**
 * The fields that are set, in order. Bits outside of any field are added in hex, so that no two
 * modifiers read the same.
 */
function describeFields(modifier: bigint, fields: readonly Field[]): string {
  let rest = BigInt.asUintN(VALUE_BITS, modifier);
  const words: string[] = [];
  for (const field of fields) {
    const value = readField(modifier, field);
    rest &= ~(((1n << BigInt(field.bits)) - 1n) << BigInt(field.shift));
    if (field.values !== undefined) words.push(field.values[value] ?? `${field.name}=${value}`);
    else if (value !== 0) words.push(field.bits === 1 ? field.name : `${field.name}=${value}`);
  }
  if (rest !== 0n) words.push(`0x${rest.toString(16)}`);
  return words.join(' ');
}

const ARM_TYPE: Field = { name: 'TYPE', shift: 52, bits: 4, values: ['AFBC', 'MISC', 'AFRC'] };

function flags(first: number, names: readonly string[]): Field[] {
  return names.map((name, i) => ({ name, shift: first + i, bits: 1 }));
}

const AFBC: readonly Field[] = [
  ARM_TYPE,
  { name: 'BLOCK_SIZE', shift: 0, bits: 4, values: [undefined, '16x16', '32x8', '64x4', '32x8_64x4'] },
  ...flags(4, ['YTR', 'SPLIT', 'SPARSE', 'CBR', 'TILED', 'SC', 'DB', 'BCH', 'USM']),
];

const AFRC: readonly Field[] = [
  ARM_TYPE,
  { name: 'P0', shift: 0, bits: 4, values: [undefined, 'P0=CU_16', 'P0=CU_24', 'P0=CU_32'] },
  { name: 'P12', shift: 4, bits: 4, values: [undefined, 'P12=CU_16', 'P12=CU_24', 'P12=CU_32'] },
  { name: 'LAYOUT', shift: 8, bits: 1, values: ['ROT', 'SCAN'] },
];

const AMD_TILE_VERSION: Field = {
  name: 'TILE_VERSION',
  shift: 0,
  bits: 8,
  values: [undefined, 'GFX9', 'GFX10', 'GFX10_RBPLUS', 'GFX11', 'GFX12'],
};

const AMD_GFX9_TILES: readonly (string | undefined)[] = Object.assign(
  new Array<string | undefined>(32).fill(undefined),
  {
    9: '64K_S',
    10: '64K_D',
    22: '4K_D_X',
    25: '64K_S_X',
    26: '64K_D_X',
    27: '64K_R_X',
    31: '256K_R_X',
  },
);
const AMD_GFX12_TILES: readonly (string | undefined)[] = ['LINEAR', '256B_2D', '4K_2D', '64K_2D', '256K_2D'];
const AMD_GFX12 = 5;

const AMD_DCC: Field = { name: 'DCC', shift: 13, bits: 1 };
const AMD_DCC_BLOCK: Field = { name: 'DCC_MAX_COMPRESSED_BLOCK', shift: 18, bits: 2 };
const AMD_DCC_BLOCK_SIZES = ['64B', '128B', '256B'].map((size) => `${AMD_DCC_BLOCK.name}=${size}`);

const AMD_REST: readonly Field[] = [
  ...flags(20, ['DCC_CONSTANT_ENCODE']),
  { name: 'PIPE_XOR_BITS', shift: 21, bits: 3 },
  { name: 'BANK_XOR_BITS', shift: 24, bits: 3 },
  { name: 'PACKERS', shift: 27, bits: 3 },
  { name: 'RB', shift: 30, bits: 3 },
  { name: 'PIPE', shift: 33, bits: 3 },
];

function amdFields(modifier: bigint): readonly Field[] {
  const tiles = readField(modifier, AMD_TILE_VERSION) === AMD_GFX12 ? AMD_GFX12_TILES : AMD_GFX9_TILES;
  return [
    AMD_TILE_VERSION,
    { name: 'TILE', shift: 8, bits: 5, values: tiles },
    AMD_DCC,
    ...flags(14, ['DCC_RETILE', 'DCC_PIPE_ALIGN', 'DCC_INDEPENDENT_64B', 'DCC_INDEPENDENT_128B']),
    readField(modifier, AMD_DCC) === 1 ? { ...AMD_DCC_BLOCK, values: AMD_DCC_BLOCK_SIZES } : AMD_DCC_BLOCK,
    ...AMD_REST,
  ];
}

/**
 * A modifier in words: `LINEAR`, `INVALID`, `INTEL 4_TILED_DG2_RC_CCS`, `ARM AFBC 16x16 YTR SPARSE`,
 * `AMD GFX10_RBPLUS 64K_R_X DCC …`, or else vendor and value, `NVIDIA 0x606014`. Accepts any bigint
 * (truncated to 64 bits); different modifiers read differently.
 */
export function describeModifier(modifier: bigint): string {
  const value = BigInt.asUintN(64, modifier);
  const name = modifierNames.get(value);
  if (name !== undefined) return name;
  const vendor = modifierVendor(value);
  if (vendor === 'AMD') return `AMD ${describeFields(value, amdFields(value))}`;
  if (vendor === 'ARM') {
    const type = readField(value, ARM_TYPE);
    if (type === 0) return `ARM ${describeFields(value, AFBC)}`;
    if (type === 2) return `ARM ${describeFields(value, AFRC)}`;
  }
  return `${vendor} 0x${BigInt.asUintN(VALUE_BITS, value).toString(16)}`;
}

/**
 * The modifier of a kernel macro (`I915_FORMAT_MOD_X_TILED`), of a name as `describeModifier`
 * gives it (`INTEL X_TILED`, `LINEAR`) or of a number (`0x100000000000001`); otherwise `null`.
 * Descriptions made of fields cannot be parsed.
 */
export function parseModifier(text: string): Modifier | null {
  const named = modifiersByName.get(text) ?? modifiersByName.get(`DRM_FORMAT_MOD_${text}`);
  if (named !== undefined) return named;
  if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,20})$/i.test(text)) return null;
  const value = BigInt(text);
  return value < 1n << 64n ? (value as Modifier) : null;
}
