import { DMA_BUF_SYNC_READ } from '../../protocols/dma-buf.ts';
import {
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  formatInfo,
  formatName,
  type Fourcc,
  minPlaneSize,
  opaqueOf,
} from '../../protocols/drm-fourcc.ts';
import {
  DRM_IOCTL_MODE_ADDFB2,
  DRM_IOCTL_MODE_CLOSEFB,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_MODE_RMFB,
  drm_mode_closefb,
  drm_mode_fb_cmd2,
  DRM_MODE_FB_MODIFIERS,
  drm_mode_map_dumb,
} from '../../protocols/drm-mode.ts';
import type { FormatSet, Framebuffer, PixelLayout } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused, type RefusalCode, type Shadow } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { beginCpuAccess, endCpuAccess, waitReadable } from '../../src/sys/dma-buf.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { tryIoctlBytes } from '../../src/sys/ioctl.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import type { KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import type { FbId, GemHandle } from './ids.ts';

const NO_FB = 0 as FbId;
const EINVAL = 22;

/** The format in which a plane that takes `formats` reads pixels that are not blended: without alpha if it can. */
export function opaqueFor(format: Fourcc, formats: FormatSet, modifier: PixelLayout['modifier']): Fourcc {
  const opaque = opaqueOf(format);
  return opaque !== null && formats.has(opaque, modifier) ? opaque : format;
}

/**
 * Pixels the device can show: an imported dma-buf, or a dumb buffer, which the CPU draws into. It has one GEM handle
 * and a framebuffer for each format it is read in.
 */
export class KmsBuffer implements Shadow {
  readonly layout: PixelLayout;
  /** The layout's modifier in 32-bit halves. As one number it would lose its lowest bits, which distinguish tilings. */
  readonly modifierHigh: number;
  readonly modifierLow: number;
  readonly isImport: boolean;
  /** It is a cursor in the upper left of what is otherwise transparent, because the hardware takes no other size. */
  readonly isPadded: boolean;
  readonly #device: KmsDevice;
  readonly #handle: GemHandle;
  readonly #fbs = new Map<Fourcc, FbId>();
  #pixels: Mapping | null = null;
  #dmabuf: OwnedFd | null = null;
  #holders = 0;
  #isDisposed = false;
  #isFreed = false;

  /** Takes over one use of the handle. */
  private constructor(device: KmsDevice, handle: GemHandle, layout: PixelLayout, isImport: boolean, isPadded = false) {
    this.#device = device;
    this.#handle = handle;
    this.layout = layout;
    this.modifierHigh = Number(layout.modifier >> 32n);
    this.modifierLow = Number(layout.modifier & 0xffff_ffffn);
    this.isImport = isImport;
    this.isPadded = isPadded;
  }

  /**
   * The dma-buf stays the caller's; the handle keeps its memory alive. `as` is the format in which the first
   * plane to show it reads it.
   */
  static import(
    device: KmsDevice,
    framebuffer: Framebuffer,
    dmabuf: BorrowedFd,
    as: Fourcc,
  ): KmsBuffer | DmabufImportRefused {
    const what = `${framebuffer.width}x${framebuffer.height} ${formatName(framebuffer.format)}`;
    let handle: GemHandle;
    try {
      handle = device.gem.import(dmabuf);
    } catch (cause) {
      // The driver maps the pages here. It refuses pages in too many pieces or out of its reach, or every
      // import (ENODEV).
      return new DmabufImportRefused(
        refusal(cause, 'contiguity'),
        `${device.name} (${device.driver}) refuses this dma-buf of ${what}: ${String(cause)}`,
        { cause },
      );
    }
    try {
      const buffer = new KmsBuffer(device, handle, framebuffer, true);
      buffer.#fbs.set(as, addFramebuffer(device, handle, framebuffer, as));
      return buffer;
    } catch (cause) {
      device.gem.release(handle);
      return new DmabufImportRefused(
        refusal(cause, 'size'),
        `${device.name} (${device.driver}) makes no framebuffer of ${what}, strides ${framebuffer.planes.map(({ stride }) => stride).join(', ')}: ${String(cause)}`,
        { cause },
      );
    }
  }

  /**
   * A zeroed dumb buffer. KmsError `no-buffer`. GBM would add nothing: for pixels that the CPU writes its drivers make
   * dumb buffers as well, and loading them takes seconds.
   */
  static dumb(device: KmsDevice, width: number, height: number, format: Fourcc, isPadded = false): KmsBuffer {
    const bytesPerPixel = formatInfo(format)?.planes[0]?.bytesPerBlock ?? 0;
    try {
      using stack = new DisposableStack();
      const { handle, pitch, size } = device.gem.createDumb(width, height, bytesPerPixel * 8);
      stack.defer(() => device.gem.release(handle));
      const argument = drm_mode_map_dumb.encode({ handle });
      device.ioctl(DRM_IOCTL_MODE_MAP_DUMB, 'DRM_IOCTL_MODE_MAP_DUMB', argument);
      const pixels = Mapping.file(device.fd, drm_mode_map_dumb.decode(argument).offset, size, 'read-write');
      // Not every driver hands out zeroed memory.
      pixels.bytes.fill(0);
      stack.move();
      const buffer = new KmsBuffer(
        device,
        handle,
        { width, height, format, modifier: DRM_FORMAT_MOD_LINEAR, planes: [{ offset: 0, stride: pitch }] },
        false,
        isPadded,
      );
      buffer.#pixels = pixels;
      return buffer;
    } catch (cause) {
      throw new KmsError(
        'no-buffer',
        `${device.name} (${device.driver}) has no dumb buffer of ${width}x${height} ${formatName(format)}: ${String(cause)}`,
        { cause },
      );
    }
  }

  get format(): Fourcc {
    return this.layout.format;
  }

  get width(): number {
    return this.layout.width;
  }

  get height(): number {
    return this.layout.height;
  }

  get stride(): number {
    return this.layout.planes[0]!.stride;
  }

  /** A frame that is on screen, or on the way there, has it. */
  get isHeld(): boolean {
    return this.#holders > 0;
  }

  /** It cannot be presented any more. Its memory is freed when it is not held either. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * The memory, mapped on first use. KmsError `cannot-compose` if it is a dma-buf that is tiled or cannot be
   * mapped.
   */
  get pixels(): Mapping {
    return (this.#pixels ??= this.#map());
  }

  /** The framebuffer that reads these pixels as `format`; 0 if the driver makes none. */
  fbAs(format: Fourcc): FbId {
    const known = this.#fbs.get(format);
    if (known !== undefined) return known;
    let id = NO_FB;
    try {
      id = addFramebuffer(this.#device, this.#handle, this.layout, format);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (error.mayPass) return NO_FB;
    }
    this.#fbs.set(format, id);
    return id;
  }

  /** The framebuffer that ignores alpha, for a plane that takes `formats`; 0 if the plane cannot show it. */
  opaqueFb(formats: FormatSet): FbId {
    const { format, modifier } = this.layout;
    const as = opaqueFor(format, formats, modifier);
    return formats.has(as, modifier) ? this.fbAs(as) : NO_FB;
  }

  /**
   * Makes the CPU's view of a dma-buf coherent with its device's, until `endRead`. False, with nothing begun: there is no
   * need, or a device still writes, so that this would block. The pixels may be unfinished then.
   */
  beginRead(): boolean {
    if (!this.#dmabuf || !waitReadable(this.#dmabuf, 0)) return false;
    beginCpuAccess(this.#dmabuf, DMA_BUF_SYNC_READ);
    return true;
  }

  endRead(): void {
    if (this.#dmabuf) endCpuAccess(this.#dmabuf, DMA_BUF_SYNC_READ);
  }

  beginWrite(): void {
    // Only dumb buffers are written. Their mapping is coherent.
  }

  endWrite(): void {
    // As in `beginWrite`.
  }

  /** A frame has it from now on. */
  hold(): void {
    this.#holders++;
  }

  /** Undoes one `hold`. A disposed buffer that is not held is freed. */
  unhold(): void {
    this.#holders--;
    if (this.#isDisposed) this.#freeIfUnheld();
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#freeIfUnheld();
  }

  #map(): Mapping {
    const { modifier, format, planes, width, height } = this.layout;
    const info = formatInfo(format);
    const isLinear = modifier === DRM_FORMAT_MOD_LINEAR || modifier === DRM_FORMAT_MOD_INVALID;
    if (!isLinear || planes.length !== 1 || !info)
      throw new KmsError(
        'cannot-compose',
        `a ${formatName(format)} picture that is tiled or has several planes cannot be read by the CPU`,
      );
    // A later attempt to map reuses the descriptor.
    this.#dmabuf ??= this.#device.gem.export(this.#handle);
    try {
      return Mapping.file(
        this.#dmabuf,
        0,
        planes[0]!.offset + minPlaneSize(info, 0, planes[0]!.stride, width, height),
        'read',
      );
    } catch (cause) {
      throw new KmsError('cannot-compose', `the guest's dma-buf cannot be mapped for reading: ${String(cause)}`, {
        cause,
      });
    }
  }

  #freeIfUnheld(): void {
    if (this.#isFreed || this.isHeld) return;
    this.#isFreed = true;
    this.#pixels?.[Symbol.dispose]();
    this.#dmabuf?.[Symbol.dispose]();
    for (const id of this.#fbs.values()) if (id !== NO_FB) removeFramebuffer(this.#device, id);
    this.#device.gem.release(this.#handle);
  }
}

function refusal(cause: unknown, lasting: RefusalCode): RefusalCode {
  if (!(cause instanceof SysError)) throw cause;
  return cause.mayPass ? 'resources' : lasting;
}

const MAX_MEMORY_PLANES = 4;

function upToFour<T>(planes: PixelLayout['planes'], value: (plane: PixelLayout['planes'][number]) => T, none: T): T[] {
  return Array.from({ length: MAX_MEMORY_PLANES }, (_, i) => (planes[i] ? value(planes[i]) : none));
}

/**
 * Makes a framebuffer of the pixels behind one handle, read as `format`, which may leave out the alpha.
 * SysError from the driver.
 */
export function addFramebuffer(device: KmsDevice, handle: GemHandle, layout: PixelLayout, format: Fourcc): FbId {
  const { width, height, planes, modifier } = layout;
  const withModifier = device.hasModifiers && modifier !== DRM_FORMAT_MOD_INVALID;
  const argument = drm_mode_fb_cmd2.encode({
    width,
    height,
    pixel_format: format,
    flags: withModifier ? DRM_MODE_FB_MODIFIERS : 0,
    handles: upToFour(planes, () => handle as number, 0),
    pitches: upToFour(planes, ({ stride }) => stride, 0),
    offsets: upToFour(planes, ({ offset }) => offset, 0),
    modifier: upToFour(planes, () => (withModifier ? modifier : 0n) as bigint, 0n),
  });
  device.ioctl(DRM_IOCTL_MODE_ADDFB2, 'DRM_IOCTL_MODE_ADDFB2', argument);
  return drm_mode_fb_cmd2.decode(argument).fb_id as FbId;
}

/**
 * A plane that still shows it goes on showing it, for example while the flip away from it waits for a fence. Before Linux 6.8
 * there is only RMFB, which turns such a plane off and blocks until the flip has ended.
 */
export function removeFramebuffer(device: KmsDevice, id: FbId): void {
  const argument = drm_mode_closefb.encode({ fb_id: id });
  if (tryIoctlBytes(device.fd, DRM_IOCTL_MODE_CLOSEFB, argument) !== -EINVAL) return;
  // The argument of RMFB is the id alone.
  tryIoctlBytes(device.fd, DRM_IOCTL_MODE_RMFB, argument);
}
