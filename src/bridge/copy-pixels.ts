import { type Fourcc, formatInfo, formatName, opaqueOf } from '../../protocols/drm-fourcc.ts';
import type { Damage } from '../core/damage.ts';
import type { Framebuffer, PagesBacking } from '../core/framebuffer.ts';
import type { Rect } from '../core/geometry.ts';
import type { Shadow } from '../core/output.ts';
import { copyRect } from '../sys/copy-rect.ts';
import { ScanoutError } from '../sys/errors.ts';
import { loadPixman, pixmanFormat } from '../sys/lib/pixman.ts';

/** Guest pixels that no shadow of the output can take. */
export class CopyError extends ScanoutError<'format' | 'pixman-missing'> {}

/** The bytes are the same; the alpha of a primary plane is ignored. */
function sameBytes(a: Fourcc, b: Fourcc): boolean {
  return a === b || opaqueOf(a) === opaqueOf(b);
}

/**
 * The shadow format for guest pixels: one with the same bytes if the output has it, else the
 * output's first. `keepAlpha` is for cursors, which are blended. Throws CopyError if there is none.
 */
export function chooseShadowFormat(format: Fourcc, offered: readonly Fourcc[], keepAlpha: boolean): Fourcc {
  const fits = offered.find((o) => o === format) ?? (keepAlpha ? undefined : offered.find((o) => sameBytes(o, format)));
  if (fits !== undefined) return fits;
  const fallback = keepAlpha ? offered.find((o) => formatInfo(o)?.hasAlpha) : offered[0];
  if (fallback === undefined)
    throw new CopyError('format', `the output has no shadow format for ${formatName(format)}`);
  return fallback;
}

/**
 * Copies `area` (in the shadow's pixels) of the picture at `rect` of a framebuffer in guest pages
 * into a shadow. Converts through pixman if the formats differ; throws CopyError if that is not
 * installed, SysError if the pages cannot be mapped.
 */
export function copyPixels(
  framebuffer: Framebuffer,
  backing: PagesBacking,
  rect: Rect,
  shadow: Shadow,
  area: Damage,
): void {
  const pixels = backing.pixels();
  const { offset, stride } = framebuffer.planes[0]!;
  const cpp = formatInfo(framebuffer.format)!.planes[0]!.bytesPerBlock;
  if (sameBytes(framebuffer.format, shadow.format)) {
    for (let i = 0; i < area.count; i++) {
      const x = area.x(i);
      const y = area.y(i);
      copyRect(
        shadow.pixels,
        y * shadow.stride + x * cpp,
        shadow.stride,
        pixels,
        offset + (rect.y + y) * stride + (rect.x + x) * cpp,
        stride,
        area.width(i) * cpp,
        area.height(i),
      );
    }
    return;
  }
  convert(framebuffer, pixels.address + offset, rect, shadow, area);
}

function convert(framebuffer: Framebuffer, address: number, rect: Rect, shadow: Shadow, area: Damage): void {
  const pixman = loadPixman();
  const from = pixmanFormat(framebuffer.format);
  const to = pixmanFormat(shadow.format);
  if (!pixman || from === null || to === null) {
    const what = `showing ${formatName(framebuffer.format)} as ${formatName(shadow.format)}`;
    if (!pixman)
      throw new CopyError('pixman-missing', `${what} needs libpixman-1.so.0; install the package libpixman-1-0`);
    throw new CopyError('format', `${what} is a conversion that pixman does not have`);
  }
  const source = {
    address,
    stride: framebuffer.planes[0]!.stride,
    format: from,
    width: framebuffer.width,
    height: framebuffer.height,
  };
  const target = {
    address: shadow.pixels.address,
    stride: shadow.stride,
    format: to,
    width: shadow.width,
    height: shadow.height,
  };
  for (let i = 0; i < area.count; i++) {
    const x = area.x(i);
    const y = area.y(i);
    pixman.convert(source, rect.x + x, rect.y + y, target, x, y, area.width(i), area.height(i));
  }
}
