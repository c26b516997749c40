import { describeModifier, type Fourcc, formatInfo, formatName, opaqueOf } from '../../protocols/drm-fourcc.ts';
import type { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import type { Rect } from '../core/geometry.ts';
import type { Shadow } from '../core/output.ts';
import { copyRect, copyRects, type Memory, readRect, ScatteredMemory } from '../sys/copy-rect.ts';
import { readDmabuf } from '../sys/dma-buf.ts';
import { ScanoutError } from '../sys/errors.ts';
import { loadPixman, pixmanFormat } from '../sys/lib/pixman.ts';
import type { BorrowedFd } from '../sys/fd.ts';
import { Mapping } from '../sys/mapping.ts';

/** Strides that pixman takes are multiples of this many bytes. */
const WORD = 4;

/** Guest pixels that no shadow of the output can take, or that the CPU cannot read. */
export class CopyError extends ScanoutError<'format' | 'modifier' | 'pixman-missing'> {}

/** The bytes are the same; the alpha of a primary plane is ignored. */
function sameBytes(a: Fourcc, b: Fourcc): boolean {
  return a === b || opaqueOf(a) === opaqueOf(b);
}

/**
 * The shadow format for guest pixels: one with the same bytes if the output has it, else the
 * output's first. `keepAlpha` is for cursors, which are blended. Throws CopyError if there is none,
 * or if the pixels cannot be read.
 */
export function chooseShadowFormat(
  { format, modifier, backing }: Pick<Framebuffer, 'format' | 'modifier' | 'backing'>,
  offered: readonly Fourcc[],
  keepAlpha: boolean,
): Fourcc {
  if (backing.kind === 'dmabuf' && !backing.pixels)
    throw new CopyError('modifier', `a dma-buf of ${describeModifier(modifier)} cannot be copied`);
  const fits = offered.find((o) => o === format) ?? (keepAlpha ? undefined : offered.find((o) => sameBytes(o, format)));
  if (fits !== undefined) return fits;
  const fallback = keepAlpha ? offered.find((o) => formatInfo(o)?.hasAlpha) : offered[0];
  if (fallback === undefined)
    throw new CopyError('format', `the output has no shadow format for ${formatName(format)}`);
  return fallback;
}

/**
 * Copies `area` (in the shadow's pixels) of the picture at `rect` of a framebuffer into a shadow.
 * Converts through pixman if the formats differ; throws CopyError if that is not installed, SysError
 * if the memory cannot be mapped, a device still writes to it, or a file was shortened.
 */
export function copyPixels(framebuffer: Framebuffer, rect: Rect, shadow: Shadow, area: Damage): void {
  const { backing } = framebuffer;
  if (backing.kind === 'file') {
    readFrom(backing.file, framebuffer, rect, shadow, area);
    return;
  }
  const pixels = backing.pixels?.();
  if (!pixels) return;
  if (backing.kind === 'pages') copyFrom(pixels, framebuffer, rect, shadow, area);
  else readDmabuf(backing.dmabuf, () => copyFrom(pixels, framebuffer, rect, shadow, area));
}

function copyFrom(
  pixels: Memory | ScatteredMemory,
  framebuffer: Framebuffer,
  rect: Rect,
  shadow: Shadow,
  area: Damage,
): void {
  const { isBottomUp, height, planes } = framebuffer;
  const { offset, stride } = planes[0]!;
  // Where the highest row is, and how far the one below it.
  const top = isBottomUp ? offset + (height - 1) * stride : offset;
  const down = isBottomUp ? -stride : stride;
  const cpp = formatInfo(framebuffer.format)!.planes[0]!.bytesPerBlock;
  if (sameBytes(framebuffer.format, shadow.format)) {
    if (!isBottomUp) {
      const first = offset + rect.y * stride + rect.x * cpp;
      copyRects(shadow.pixels, shadow.stride, pixels, first, stride, cpp, area);
      return;
    }
    for (let i = 0; i < area.count; i++) {
      const x = area.x(i);
      for (let y = area.y(i); y < area.y(i) + area.height(i); y++) {
        const to = y * shadow.stride + x * cpp;
        const from = top + (rect.y + y) * down + (rect.x + x) * cpp;
        copyRect(shadow.pixels, to, shadow.stride, pixels, from, stride, area.width(i) * cpp, 1);
      }
    }
    return;
  }
  if (pixels instanceof ScatteredMemory) {
    convertRows(framebuffer, rect, shadow, area, (rows, rowBytes, at, bytes, height) =>
      copyRect(rows, 0, rowBytes, pixels, at, stride, bytes, height),
    );
    return;
  }
  const source = { ...framebuffer, address: pixels.address + top, stride: down };
  for (let i = 0; i < area.count; i++) {
    const x = area.x(i);
    const y = area.y(i);
    convert(source, rect.x + x, rect.y + y, shadow, x, y, area.width(i), area.height(i));
  }
}

function readFrom(file: BorrowedFd, framebuffer: Framebuffer, rect: Rect, shadow: Shadow, area: Damage): void {
  const { offset, stride } = framebuffer.planes[0]!;
  const cpp = formatInfo(framebuffer.format)!.planes[0]!.bytesPerBlock;
  if (!sameBytes(framebuffer.format, shadow.format)) {
    convertRows(framebuffer, rect, shadow, area, (rows, rowBytes, at, bytes, height) =>
      readRect(rows, 0, rowBytes, file, at, stride, bytes, height),
    );
    return;
  }
  for (let i = 0; i < area.count; i++) {
    const x = area.x(i);
    const y = area.y(i);
    const from = offset + (rect.y + y) * stride + (rect.x + x) * cpp;
    const to = y * shadow.stride + x * cpp;
    readRect(shadow.pixels, to, shadow.stride, file, from, stride, area.width(i) * cpp, area.height(i));
  }
}

/** Reads `height` rows of `bytes` bytes, the first at byte `at` of the framebuffer, to `rows`, `rowBytes` apart. */
type ReadRows = (rows: Memory, rowBytes: number, at: number, bytes: number, height: number) => void;

/** Converts pixels that are not one run of memory, which pixman needs: `read` puts them there first. */
function convertRows(framebuffer: Framebuffer, rect: Rect, shadow: Shadow, area: Damage, read: ReadRows): void {
  const { offset, stride } = framebuffer.planes[0]!;
  const cpp = formatInfo(framebuffer.format)!.planes[0]!.bytesPerBlock;
  for (let i = 0; i < area.count; i++) {
    const x = area.x(i);
    const y = area.y(i);
    const width = area.width(i);
    const height = area.height(i);
    const rowBytes = Math.ceil((width * cpp) / WORD) * WORD;
    using rows = Mapping.anonymous(rowBytes * height);
    read(rows, rowBytes, offset + (rect.y + y) * stride + (rect.x + x) * cpp, width * cpp, height);
    const source = { ...framebuffer, address: rows.address, stride: rowBytes, width, height };
    convert(source, 0, 0, shadow, x, y, width, height);
  }
}

/** Pixels in memory; `stride` in bytes. */
interface Pixels extends Pick<Framebuffer, 'format' | 'width' | 'height'> {
  readonly address: number;
  readonly stride: number;
}

function convert(
  pixels: Pixels,
  srcX: number,
  srcY: number,
  shadow: Shadow,
  x: number,
  y: number,
  width: number,
  height: number,
): void {
  const pixman = loadPixman();
  const from = pixmanFormat(pixels.format);
  const to = pixmanFormat(shadow.format);
  if (!pixman || from === null || to === null) {
    const what = `showing ${formatName(pixels.format)} as ${formatName(shadow.format)}`;
    if (!pixman)
      throw new CopyError('pixman-missing', `${what} needs libpixman-1.so.0; install the package libpixman-1-0`);
    throw new CopyError('format', `${what} is a conversion that pixman does not have`);
  }
  const source = { ...pixels, format: from };
  const target = {
    address: shadow.pixels.address,
    stride: shadow.stride,
    format: to,
    width: shadow.width,
    height: shadow.height,
  };
  pixman.convert(source, srcX, srcY, target, x, y, width, height);
}
