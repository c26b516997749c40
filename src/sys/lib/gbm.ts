/**
 * Buffers that a GPU, a display and the CPU share: libgbm, the public entry of
 * `scanout-bridge/gbm`, usable alone. libgbm.so.1 is loaded when a device is first opened.
 *
 *     import { openSync } from 'node:fs';
 *     import { DRM_FORMAT, formatName } from 'scanout-bridge/drm-fourcc';
 *     import { GBM_BO_USE_LINEAR, GBM_BO_USE_RENDERING, GbmDevice, GbmError } from 'scanout-bridge/gbm';
 *
 *     const device = GbmDevice.open({ fd: openSync(process.argv[2] ?? '/dev/dri/renderD128', 'r+') });
 *     if (device instanceof GbmError) throw device;
 *     const buffer = device.createBuffer({ width: 64, height: 48, format: DRM_FORMAT.XRGB8888, usage: GBM_BO_USE_RENDERING | GBM_BO_USE_LINEAR });
 *     const mapping = buffer.map({ x: 0, y: 0, width: 64, height: 48 }, 'write');
 *     for (let y = 0; y < 48; y++) mapping.bytes.fill(0x80, y * mapping.stride, y * mapping.stride + 64 * 4);
 *     mapping[Symbol.dispose](); // the pixels are in the buffer now
 *     const dmabuf = buffer.exportPlane(0); // for a compositor, an encoder, another process
 *     console.log(formatName(buffer.format), buffer.planes);
 *     for (const each of [dmabuf, buffer, device]) each[Symbol.dispose]();
 *
 * Everything made is disposed by whoever asked for it, in any order: a mapping keeps its buffer's
 * memory, a buffer its device. Sizes are pixels, strides and offsets bytes. What libgbm or the
 * driver refuses is a GbmError; arguments that can never be right are a RangeError.
 */
export {
  GBM_BO_USE_CURSOR,
  GBM_BO_USE_FRONT_RENDERING,
  GBM_BO_USE_LINEAR,
  GBM_BO_USE_PROTECTED,
  GBM_BO_USE_RENDERING,
  GBM_BO_USE_SCANOUT,
  GBM_BO_USE_WRITE,
} from '../../../protocols/gbm.ts';
export type { BorrowedFd, OwnedFd } from '../fd.ts';
export { type GbmBuffer, type GbmPlane, type GemHandle } from './gbm-buffer.ts';
export { GbmDevice, type GbmBufferOptions, type GbmImportOptions, type GbmImportPlane } from './gbm-device.ts';
export { GbmError, type GbmErrorCode } from './gbm-error.ts';
export type { GbmAccess, GbmMapping, GbmRect } from './gbm-mapping.ts';
