/** wl_shm gives ARGB8888 and XRGB8888 numbers of its own (0 and 1); every other format has its DRM code. */
import { DRM_FORMAT, type Fourcc } from '../drm-fourcc.ts';
import { WlShmFormat } from './generated/wayland.ts';

/** The DRM format of a number from wl_shm.format. A number the kernel does not know is passed through. */
export function fromShmFormat(format: number): Fourcc {
  if (format === WlShmFormat.argb8888) return DRM_FORMAT.ARGB8888;
  return format === WlShmFormat.xrgb8888 ? DRM_FORMAT.XRGB8888 : (format as Fourcc);
}

/** The number for wl_shm_pool.create_buffer; undoes `fromShmFormat`. */
export function toShmFormat(format: Fourcc): WlShmFormat {
  if (format === DRM_FORMAT.ARGB8888) return WlShmFormat.argb8888;
  return format === DRM_FORMAT.XRGB8888 ? WlShmFormat.xrgb8888 : (format as number as WlShmFormat);
}
