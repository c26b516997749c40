/**
 * The vhost-user-gpu protocol: QEMU's docs/interop/vhost-user-gpu.rst and
 * hw/display/vhost-user-gpu.c. Spoken over the socket of VHOST_USER_GPU_SET_SOCKET: the back end
 * (this project) sends pictures, and the front end (the VMM) shows them on its own consoles.
 *
 * Integers are in machine order. QEMU packs every struct.
 */
import { array, i32, struct, u32, u64 } from './layout.ts';

export const VhostUserGpuHeader = struct('VhostUserGpuHeader', { request: u32, flags: u32, size: u32 });

/** `VhostUserGpuHeader.flags` of every reply. */
export const VHOST_USER_GPU_MSG_FLAG_REPLY = 0x4;

/** VHOST_USER_GPU_* requests. */
export const VHOST_USER_GPU = {
  /** -> VhostUserGpuU64 */
  GET_PROTOCOL_FEATURES: 1,
  /** VhostUserGpuU64; no reply */
  SET_PROTOCOL_FEATURES: 2,
  /** -> virtio_gpu_resp_display_info */
  GET_DISPLAY_INFO: 3,
  CURSOR_POS: 4,
  CURSOR_POS_HIDE: 5,
  CURSOR_UPDATE: 6,
  SCANOUT: 7,
  UPDATE: 8,
  DMABUF_SCANOUT: 9,
  /** VhostUserGpuUpdate -> empty reply, once the frame has been shown */
  DMABUF_UPDATE: 10,
  /** VhostUserGpuEdidRequest -> virtio_gpu_resp_edid; needs F.EDID */
  GET_EDID: 11,
  /** needs F.DMABUF2 */
  DMABUF_SCANOUT2: 12,
} as const;

/** VHOST_USER_GPU_PROTOCOL_F_*, as bit numbers. */
export const VHOST_USER_GPU_PROTOCOL_F = { EDID: 0, DMABUF2: 1 } as const;

export const VhostUserGpuU64 = struct('VhostUserGpuU64', { u64 });

export const VhostUserGpuCursorPos = struct('VhostUserGpuCursorPos', { scanout_id: u32, x: u32, y: u32 });

/** Side of a cursor, in pixels. The protocol has no other size. */
export const VHOST_USER_GPU_CURSOR_SIZE = 64;

/** `data` is 64 x 64 pixels, DRM_FORMAT_ARGB8888. */
export const VhostUserGpuCursorUpdate = struct('VhostUserGpuCursorUpdate', {
  pos: VhostUserGpuCursorPos,
  hot_x: u32,
  hot_y: u32,
  data: array(u32, VHOST_USER_GPU_CURSOR_SIZE * VHOST_USER_GPU_CURSOR_SIZE),
});

/** Width and height 0 disable the scanout. */
export const VhostUserGpuScanout = struct('VhostUserGpuScanout', { scanout_id: u32, width: u32, height: u32 });

/** UPDATE: `width * height` pixels in DRM_FORMAT_XRGB8888 follow. DMABUF_UPDATE: nothing follows. */
export const VhostUserGpuUpdate = struct('VhostUserGpuUpdate', {
  scanout_id: u32,
  x: u32,
  y: u32,
  width: u32,
  height: u32,
});

/** Sent with the dma-buf as ancillary data. Without one, and with width and height 0, it disables the scanout. */
export const VhostUserGpuDMABUFScanout = struct('VhostUserGpuDMABUFScanout', {
  scanout_id: u32,
  x: u32,
  y: u32,
  width: u32,
  height: u32,
  fd_width: u32,
  fd_height: u32,
  fd_stride: u32,
  /** VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP (1): the first row in memory is the bottom one. */
  fd_flags: u32,
  fd_drm_fourcc: i32,
});

export const VhostUserGpuDMABUFScanout2 = struct(
  'VhostUserGpuDMABUFScanout2',
  { dmabuf_scanout: VhostUserGpuDMABUFScanout, modifier: u64 },
  { packed: true },
);

export const VhostUserGpuEdidRequest = struct('VhostUserGpuEdidRequest', { scanout_id: u32 });
