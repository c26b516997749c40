import { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE } from '../../protocols/dma-buf.ts';
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
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_MODE_RMFB,
  drm_mode_fb_cmd2,
  DRM_MODE_FB_MODIFIERS,
  drm_mode_map_dumb,
} from '../../protocols/drm-mode.ts';
import type { FormatSet, Framebuffer, PixelLayout } from '../../src/core/framebuffer.ts';
import type { Log } from '../../src/core/log.ts';
import { DmabufImportRefused, type RefusalCode, type Shadow } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { beginCpuAccess, endCpuAccess } from '../../src/sys/dma-buf.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import {
  GBM_BO_USE_CURSOR,
  GBM_BO_USE_LINEAR,
  GBM_BO_USE_SCANOUT,
  GBM_BO_USE_WRITE,
  GbmDevice,
  GbmError,
} from '../../src/sys/lib/gbm.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import type { KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import type { FbId, GemHandle } from './ids.ts';

const NO_FB = 0 as FbId;

/** The format in which a plane that takes `formats` reads pixels that are not blended: without alpha if it can. */
export function opaqueFor(format: Fourcc, formats: FormatSet, modifier: PixelLayout['modifier']): Fourcc {
  const opaque = opaqueOf(format);
  return opaque !== null && formats.has(opaque, modifier) ? opaque : format;
}

/**
 * Pixels the device can show: an imported dma-buf, or a GBM or dumb buffer. It has one GEM handle and a
 * framebuffer for each format it is read in.
 */
export class KmsBuffer implements Shadow {
  readonly layout: PixelLayout;
  /** The layout's modifier in 32-bit halves. As one number it would lose its lowest bits, which distinguish tilings. */
  readonly modifierHigh: number;
  readonly modifierLow: number;
  readonly isImport: boolean;
  readonly #device: KmsDevice;
  readonly #handle: GemHandle;
  /** Keeps the handle open until it is disposed. */
  readonly #memory: Disposable;
  readonly #fbs = new Map<Fourcc, FbId>();
  #pixels: Mapping | null = null;
  #dmabuf: OwnedFd | null = null;
  #holders = 0;
  #isDisposed = false;
  #isFreed = false;

  private constructor(
    device: KmsDevice,
    handle: GemHandle,
    memory: Disposable,
    layout: PixelLayout,
    isImport: boolean,
  ) {
    this.#device = device;
    this.#handle = handle;
    this.#memory = memory;
    this.layout = layout;
    this.modifierHigh = Number(layout.modifier >> 32n);
    this.modifierLow = Number(layout.modifier & 0xffff_ffffn);
    this.isImport = isImport;
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
      const buffer = new KmsBuffer(device, handle, counted(device, handle), framebuffer, true);
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

  /** A zeroed dumb buffer. KmsError `no-buffer`. */
  static dumb(device: KmsDevice, width: number, height: number, format: Fourcc): KmsBuffer {
    const bytesPerPixel = formatInfo(format)?.planes[0]?.bytesPerBlock ?? 0;
    try {
      using stack = new DisposableStack();
      const { handle, pitch, size } = device.gem.createDumb(width, height, bytesPerPixel * 8);
      const memory = stack.use(counted(device, handle));
      const argument = drm_mode_map_dumb.encode({ handle });
      device.ioctl(DRM_IOCTL_MODE_MAP_DUMB, 'DRM_IOCTL_MODE_MAP_DUMB', argument);
      const buffer = new KmsBuffer(
        device,
        handle,
        memory,
        { width, height, format, modifier: DRM_FORMAT_MOD_LINEAR, planes: [{ offset: 0, stride: pitch }] },
        false,
      );
      buffer.#pixels = Mapping.file(device.fd, drm_mode_map_dumb.decode(argument).offset, size, 'read-write');
      // Not every driver hands out zeroed memory.
      buffer.#pixels.bytes.fill(0);
      stack.move();
      return buffer;
    } catch (cause) {
      throw new KmsError(
        'no-buffer',
        `${device.name} (${device.driver}) has no dumb buffer of ${width}x${height} ${formatName(format)}: ${String(cause)}`,
        { cause },
      );
    }
  }

  /**
   * A zeroed GBM buffer. Its usage says that the CPU writes, because drivers that copy the CPU's
   * pixels to the memory that is scanned out (virtio_gpu) do so for such buffers only. GbmError, or
   * SysError if the memory cannot be mapped for writing; a dumb buffer may still work then.
   */
  static gbm(device: KmsDevice, gbm: GbmDevice, width: number, height: number, format: Fourcc): KmsBuffer {
    using stack = new DisposableStack();
    const cursor = formatInfo(format)?.hasAlpha === true ? GBM_BO_USE_CURSOR : 0;
    const memory = stack.use(
      gbm.createBuffer({
        width,
        height,
        format,
        usage: GBM_BO_USE_SCANOUT | GBM_BO_USE_LINEAR | GBM_BO_USE_WRITE | cursor,
      }),
    );
    // libgbm uses the same open file, so its handle is valid here. Mesa itself would export for reading only.
    const handle = memory.gemHandle(0);
    const dmabuf = stack.use(device.gem.export(handle));
    const pixels = stack.use(Mapping.file(dmabuf, 0, memory.planes[0]!.stride * height, 'read-write'));
    const buffer = new KmsBuffer(
      device,
      handle,
      memory,
      { width, height, format, modifier: memory.modifier, planes: memory.planes },
      false,
    );
    buffer.#pixels = pixels;
    buffer.#dmabuf = dmabuf;
    buffer.beginWrite();
    pixels.bytes.fill(0);
    buffer.endWrite();
    stack.move();
    return buffer;
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

  /** Until `endRead` the CPU's view of a dma-buf is coherent with its device's. */
  beginRead(): void {
    if (this.#dmabuf) beginCpuAccess(this.#dmabuf, DMA_BUF_SYNC_READ);
  }

  endRead(): void {
    if (this.#dmabuf) endCpuAccess(this.#dmabuf, DMA_BUF_SYNC_READ);
  }

  /** Until `endWrite` the CPU may write, and read: no one else writes this buffer. */
  beginWrite(): void {
    if (this.#dmabuf) beginCpuAccess(this.#dmabuf, DMA_BUF_SYNC_WRITE);
  }

  endWrite(): void {
    if (this.#dmabuf) endCpuAccess(this.#dmabuf, DMA_BUF_SYNC_WRITE);
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
    this.#memory[Symbol.dispose]();
  }
}

/** Gives up one use of a handle, which the device counts, when disposed. */
function counted(device: KmsDevice, handle: GemHandle): Disposable {
  return { [Symbol.dispose]: () => device.gem.release(handle) };
}

function refusal(cause: unknown, lasting: RefusalCode): RefusalCode {
  if (!(cause instanceof SysError)) throw cause;
  if (['ENOMEM', 'EMFILE', 'ENFILE', 'ENOSPC', 'EAGAIN', 'EBUSY'].includes(cause.code)) return 'resources';
  return lasting;
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

/** Also turns off a plane that still shows it. */
export function removeFramebuffer(device: KmsDevice, id: FbId): void {
  const argument = new Uint8Array(4);
  new DataView(argument.buffer).setUint32(0, id, true);
  device.ioctl(DRM_IOCTL_MODE_RMFB, 'DRM_IOCTL_MODE_RMFB', argument);
}

/**
 * Makes the buffers of one card that the CPU draws into: GBM buffers if libgbm has a driver for the
 * card, dumb buffers otherwise. libgbm is opened for the first shadow, because it loads that driver;
 * a guest whose pages go straight to the screen needs no shadow.
 */
export class ShadowMemory implements Disposable {
  readonly #device: KmsDevice;
  readonly #open: (card: BorrowedFd) => GbmDevice | GbmError;
  readonly #logged = new Set<string>();
  /** Formats that were refused. The driver would refuse them again, and some (llvmpipe) leak a descriptor each time. */
  readonly #refused = new Set<Fourcc>();
  #gbm: GbmDevice | GbmError | null = null;

  /** Tests replace `open`. */
  constructor(device: KmsDevice, open: (card: BorrowedFd) => GbmDevice | GbmError = (card) => GbmDevice.open(card)) {
    this.#device = device;
    this.#open = open;
  }

  /** A zeroed buffer, owned by the caller. KmsError `no-buffer`. */
  create(width: number, height: number, format: Fourcc, log: Log): KmsBuffer {
    const gbm = (this.#gbm ??= this.#open(this.#device.fd));
    if (gbm instanceof GbmError) {
      this.#logOnce(log, `shadows are dumb buffers: ${gbm.message}`);
    } else if (!this.#refused.has(format)) {
      try {
        const buffer = KmsBuffer.gbm(this.#device, gbm, width, height, format);
        this.#logOnce(log, `shadows are GBM buffers (${gbm.backendName})`);
        return buffer;
      } catch (error) {
        if (!(error instanceof GbmError || error instanceof SysError)) throw error;
        this.#refused.add(format);
        this.#logOnce(log, `${formatName(format)} shadows are dumb buffers: ${error.message}`);
      }
    }
    return KmsBuffer.dumb(this.#device, width, height, format);
  }

  /**
   * Call it before the card is closed: until its last buffer is gone libgbm holds a descriptor of the card,
   * and with it mastership.
   */
  [Symbol.dispose](): void {
    if (this.#gbm instanceof GbmDevice) this.#gbm[Symbol.dispose]();
  }

  #logOnce(log: Log, message: string): void {
    if (this.#logged.has(message)) return;
    this.#logged.add(message);
    log('info', `${this.#device.name}: ${message}`);
  }
}
