/**
 * How large the planes of a linear buffer are, by format. The figures are those of the kernel's
 * own table (drm_format_info in drivers/gpu/drm/drm_fourcc.c), so what passes here passes the
 * kernel's check of a framebuffer.
 */
import { type FormatName, type Fourcc, DRM_FORMAT, DRM_FORMAT_BIG_ENDIAN } from './drm-fourcc-format.ts';

export interface PlaneInfo {
  /** A block is the smallest unit of whole bytes: one pixel of most formats, several where pixels are packed. */
  readonly bytesPerBlock: number;
  /** Block size in samples of this plane. */
  readonly blockWidth: number;
  readonly blockHeight: number;
  /** Pixels of the picture a sample of this plane stands for, across and down. 1 in the first plane. */
  readonly hsub: number;
  readonly vsub: number;
}

export interface FormatInfo {
  readonly planes: readonly PlaneInfo[];
  readonly hasAlpha: boolean;
  readonly isYuv: boolean;
}

type Names = readonly FormatName[];
const table = new Map<Fourcc, FormatInfo>();

/** A plane of blocks of `bytes`, each `width` x `height` samples. */
function plane(bytes: number, width = 1, height = 1): PlaneInfo {
  return { bytesPerBlock: bytes, blockWidth: width, blockHeight: height, hsub: 1, vsub: 1 };
}

function define(names: Names, info: FormatInfo): void {
  for (const name of names) table.set(DRM_FORMAT[name], info);
}

function opaque(names: Names, ...planes: PlaneInfo[]): void {
  define(names, { planes, hasAlpha: false, isYuv: false });
}

function alpha(names: Names, ...planes: PlaneInfo[]): void {
  define(names, { planes, hasAlpha: true, isYuv: false });
}

/** `hsub` x `vsub` is the sub-sampling of every plane but the first. */
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
 * (YUV420_8BIT, YUV420_10BIT, VUY101010). The big-endian bit changes no size and is ignored.
 */
export function formatInfo(format: number): FormatInfo | null {
  return table.get(((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc) ?? null;
}

function planeOf(info: FormatInfo, plane: number): PlaneInfo {
  const found = info.planes[plane];
  if (found === undefined) throw new RangeError(`plane ${plane} of a format with ${info.planes.length}`);
  return found;
}

/** Samples across plane `plane` of a picture `width` pixels wide. */
export function planeWidth(info: FormatInfo, plane: number, width: number): number {
  return Math.ceil(width / planeOf(info, plane).hsub);
}

/** Rows in plane `plane` of a picture `height` pixels high. */
export function planeHeight(info: FormatInfo, plane: number, height: number): number {
  return Math.ceil(height / planeOf(info, plane).vsub);
}

/** Bytes of one row without padding: the least `pitch` the kernel accepts for a picture `width` pixels wide. */
export function minPitch(info: FormatInfo, plane: number, width: number): number {
  const { bytesPerBlock, blockWidth, blockHeight } = planeOf(info, plane);
  return Math.ceil((planeWidth(info, plane, width) * bytesPerBlock) / (blockWidth * blockHeight));
}

/**
 * Bytes of a whole plane, every row `pitch` bytes: what to allocate.
 *
 * Like all results here exact up to 2^53 and rounded beyond, whatever u32 arguments a guest gives;
 * a rounded result is larger than any buffer, so comparing it with a size stays right.
 */
export function planeSize(info: FormatInfo, plane: number, pitch: number, height: number): number {
  return pitch * planeHeight(info, plane, height);
}

/**
 * Bytes a plane must at least have: `pitch` for every row but the last, which needs no padding.
 * What the kernel demands of a framebuffer's backing after its offset; 0 without pixels.
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
 * The format of the same bytes with alpha ignored: XRGB8888 of ARGB8888; `format` itself if it
 * has no alpha; `null` if it has and no such format exists, or if it is unknown.
 */
export function opaqueOf(format: Fourcc): Fourcc | null {
  const bigEndian = (format & DRM_FORMAT_BIG_ENDIAN) >>> 0;
  const info = formatInfo(format);
  if (info === null) return null;
  if (!info.hasAlpha) return format;
  const twin = opaqueTwins.get(((format & ~DRM_FORMAT_BIG_ENDIAN) >>> 0) as Fourcc);
  return twin === undefined ? null : (((twin | bigEndian) >>> 0) as Fourcc);
}
