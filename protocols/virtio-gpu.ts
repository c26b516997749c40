/**
 * The virtio GPU device: linux/virtio_gpu.h and "GPU Device" of the virtio 1.3 specification.
 * The 2D, cursor, EDID, UUID, blob and capability-set parts are complete; of 3D commands there are
 * only the numbers, so that a refusal can name them.
 */
import { DRM_FORMAT, type Fourcc } from './drm-fourcc.ts';
import { addr64, array, bytes, struct, u32, u64, u8 } from './layout.ts';

/** VIRTIO_GPU_F_*, as bit numbers. */
export const VIRTIO_GPU_F = {
  VIRGL: 0,
  EDID: 1,
  RESOURCE_UUID: 2,
  RESOURCE_BLOB: 3,
  CONTEXT_INIT: 4,
  BLOB_ALIGNMENT: 5,
} as const;

/** VIRTIO_GPU_CMD_* */
export const VIRTIO_GPU_CMD = {
  GET_DISPLAY_INFO: 0x0100,
  RESOURCE_CREATE_2D: 0x0101,
  RESOURCE_UNREF: 0x0102,
  SET_SCANOUT: 0x0103,
  RESOURCE_FLUSH: 0x0104,
  TRANSFER_TO_HOST_2D: 0x0105,
  RESOURCE_ATTACH_BACKING: 0x0106,
  RESOURCE_DETACH_BACKING: 0x0107,
  GET_CAPSET_INFO: 0x0108,
  GET_CAPSET: 0x0109,
  GET_EDID: 0x010a,
  RESOURCE_ASSIGN_UUID: 0x010b,
  RESOURCE_CREATE_BLOB: 0x010c,
  SET_SCANOUT_BLOB: 0x010d,
  CTX_CREATE: 0x0200,
  CTX_DESTROY: 0x0201,
  CTX_ATTACH_RESOURCE: 0x0202,
  CTX_DETACH_RESOURCE: 0x0203,
  RESOURCE_CREATE_3D: 0x0204,
  TRANSFER_TO_HOST_3D: 0x0205,
  TRANSFER_FROM_HOST_3D: 0x0206,
  SUBMIT_3D: 0x0207,
  RESOURCE_MAP_BLOB: 0x0208,
  RESOURCE_UNMAP_BLOB: 0x0209,
  UPDATE_CURSOR: 0x0300,
  MOVE_CURSOR: 0x0301,
} as const;

/** VIRTIO_GPU_RESP_* */
export const VIRTIO_GPU_RESP = {
  OK_NODATA: 0x1100,
  OK_DISPLAY_INFO: 0x1101,
  OK_CAPSET_INFO: 0x1102,
  OK_CAPSET: 0x1103,
  OK_EDID: 0x1104,
  OK_RESOURCE_UUID: 0x1105,
  OK_MAP_INFO: 0x1106,
  ERR_UNSPEC: 0x1200,
  ERR_OUT_OF_MEMORY: 0x1201,
  ERR_INVALID_SCANOUT_ID: 0x1202,
  ERR_INVALID_RESOURCE_ID: 0x1203,
  ERR_INVALID_CONTEXT_ID: 0x1204,
  ERR_INVALID_PARAMETER: 0x1205,
} as const;

const commandNames = new Map<number, string>(Object.entries(VIRTIO_GPU_CMD).map(([name, number]) => [number, name]));

/** `RESOURCE_FLUSH` for 0x104; `command 0x999` for a number that the header does not have. */
export function commandName(type: number): string {
  return commandNames.get(type) ?? `command 0x${type.toString(16)}`;
}

/* Bits of `virtio_gpu_ctrl_hdr.flags`. */
export const VIRTIO_GPU_FLAG_FENCE = 0x1;
export const VIRTIO_GPU_FLAG_INFO_RING_IDX = 0x2;

/** Bit of `virtio_gpu_config.events_read`: the display configuration changed. */
export const VIRTIO_GPU_EVENT_DISPLAY = 0x1;

export const VIRTIO_GPU_MAX_SCANOUTS = 16;

/* `virtio_gpu_resource_create_blob.blob_mem`; zero is invalid. */
export const VIRTIO_GPU_BLOB_MEM_GUEST = 0x1;
export const VIRTIO_GPU_BLOB_MEM_HOST3D = 0x2;
export const VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST = 0x3;

/* Bits of `virtio_gpu_resource_create_blob.blob_flags`. */
export const VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE = 0x1;
export const VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE = 0x2;
export const VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE = 0x4;

/** VIRTIO_GPU_FORMAT_*. Components are named in byte order, lowest address first. */
export const VIRTIO_GPU_FORMAT = {
  B8G8R8A8_UNORM: 1,
  B8G8R8X8_UNORM: 2,
  A8R8G8B8_UNORM: 3,
  X8R8G8B8_UNORM: 4,
  R8G8B8A8_UNORM: 67,
  X8B8G8R8_UNORM: 68,
  A8B8G8R8_UNORM: 121,
  R8G8B8X8_UNORM: 134,
} as const;

/**
 * DRM names the components of a pixel from the highest bits of a little-endian word down, which
 * reverses virtio's byte order.
 */
export const FOURCC_OF_VIRTIO_GPU_FORMAT: ReadonlyMap<number, Fourcc> = new Map([
  [VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM, DRM_FORMAT.ARGB8888],
  [VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM, DRM_FORMAT.XRGB8888],
  [VIRTIO_GPU_FORMAT.A8R8G8B8_UNORM, DRM_FORMAT.BGRA8888],
  [VIRTIO_GPU_FORMAT.X8R8G8B8_UNORM, DRM_FORMAT.BGRX8888],
  [VIRTIO_GPU_FORMAT.R8G8B8A8_UNORM, DRM_FORMAT.ABGR8888],
  [VIRTIO_GPU_FORMAT.X8B8G8R8_UNORM, DRM_FORMAT.RGBX8888],
  [VIRTIO_GPU_FORMAT.A8B8G8R8_UNORM, DRM_FORMAT.RGBA8888],
  [VIRTIO_GPU_FORMAT.R8G8B8X8_UNORM, DRM_FORMAT.XBGR8888],
]);

/** `fence_id` is opaque: the reply repeats the request's. */
export const virtio_gpu_ctrl_hdr = struct('virtio_gpu_ctrl_hdr', {
  type: u32,
  flags: u32,
  fence_id: u64,
  ctx_id: u32,
  ring_idx: u8,
  padding: bytes(3),
});

const hdr = virtio_gpu_ctrl_hdr;

export const virtio_gpu_rect = struct('virtio_gpu_rect', { x: u32, y: u32, width: u32, height: u32 });

export const virtio_gpu_config = struct('virtio_gpu_config', {
  events_read: u32,
  events_clear: u32,
  num_scanouts: u32,
  num_capsets: u32,
});

/* Display and EDID. */

export const virtio_gpu_display_one = struct('virtio_gpu_display_one', {
  r: virtio_gpu_rect,
  enabled: u32,
  flags: u32,
});

export const virtio_gpu_resp_display_info = struct('virtio_gpu_resp_display_info', {
  hdr,
  pmodes: array(virtio_gpu_display_one, VIRTIO_GPU_MAX_SCANOUTS),
});

export const virtio_gpu_cmd_get_edid = struct('virtio_gpu_cmd_get_edid', { hdr, scanout: u32, padding: u32 });

export const virtio_gpu_resp_edid = struct('virtio_gpu_resp_edid', { hdr, size: u32, padding: u32, edid: bytes(1024) });

/* 2D resources. */

export const virtio_gpu_resource_create_2d = struct('virtio_gpu_resource_create_2d', {
  hdr,
  resource_id: u32,
  format: u32,
  width: u32,
  height: u32,
});

export const virtio_gpu_resource_unref = struct('virtio_gpu_resource_unref', { hdr, resource_id: u32, padding: u32 });

export const virtio_gpu_set_scanout = struct('virtio_gpu_set_scanout', {
  hdr,
  r: virtio_gpu_rect,
  scanout_id: u32,
  resource_id: u32,
});

export const virtio_gpu_resource_flush = struct('virtio_gpu_resource_flush', {
  hdr,
  r: virtio_gpu_rect,
  resource_id: u32,
  padding: u32,
});

/** `offset` is the position of the rectangle's first pixel in the backing, in bytes. */
export const virtio_gpu_transfer_to_host_2d = struct('virtio_gpu_transfer_to_host_2d', {
  hdr,
  r: virtio_gpu_rect,
  offset: addr64,
  resource_id: u32,
  padding: u32,
});

/** `addr` is a guest physical address, `length` bytes. */
export const virtio_gpu_mem_entry = struct('virtio_gpu_mem_entry', { addr: addr64, length: u32, padding: u32 });

/** `nr_entries` virtio_gpu_mem_entry follow. */
export const virtio_gpu_resource_attach_backing = struct('virtio_gpu_resource_attach_backing', {
  hdr,
  resource_id: u32,
  nr_entries: u32,
});

export const virtio_gpu_resource_detach_backing = struct('virtio_gpu_resource_detach_backing', {
  hdr,
  resource_id: u32,
  padding: u32,
});

/* UUIDs and blobs. */

export const virtio_gpu_resource_assign_uuid = struct('virtio_gpu_resource_assign_uuid', {
  hdr,
  resource_id: u32,
  padding: u32,
});

export const virtio_gpu_resp_resource_uuid = struct('virtio_gpu_resp_resource_uuid', { hdr, uuid: bytes(16) });

/** `nr_entries` times virtio_gpu_mem_entry follow. */
export const virtio_gpu_resource_create_blob = struct('virtio_gpu_resource_create_blob', {
  hdr,
  resource_id: u32,
  blob_mem: u32,
  blob_flags: u32,
  nr_entries: u32,
  blob_id: addr64,
  size: addr64,
});

/** `format` is a VIRTIO_GPU_FORMAT; `strides` and `offsets` are bytes, one per memory plane. */
export const virtio_gpu_set_scanout_blob = struct('virtio_gpu_set_scanout_blob', {
  hdr,
  r: virtio_gpu_rect,
  scanout_id: u32,
  resource_id: u32,
  width: u32,
  height: u32,
  format: u32,
  padding: u32,
  strides: array(u32, 4),
  offsets: array(u32, 4),
});

/* Capability sets. */

export const virtio_gpu_get_capset_info = struct('virtio_gpu_get_capset_info', {
  hdr,
  capset_index: u32,
  padding: u32,
});

export const virtio_gpu_resp_capset_info = struct('virtio_gpu_resp_capset_info', {
  hdr,
  capset_id: u32,
  capset_max_version: u32,
  capset_max_size: u32,
  padding: u32,
});

export const virtio_gpu_get_capset = struct('virtio_gpu_get_capset', { hdr, capset_id: u32, capset_version: u32 });

/** The capability set itself follows. */
export const virtio_gpu_resp_capset = struct('virtio_gpu_resp_capset', { hdr });

/* The cursor queue. */

export const virtio_gpu_cursor_pos = struct('virtio_gpu_cursor_pos', { scanout_id: u32, x: u32, y: u32, padding: u32 });

/** UPDATE_CURSOR and MOVE_CURSOR; the latter uses only `pos`. */
export const virtio_gpu_update_cursor = struct('virtio_gpu_update_cursor', {
  hdr,
  pos: virtio_gpu_cursor_pos,
  resource_id: u32,
  hot_x: u32,
  hot_y: u32,
  padding: u32,
});
