/**
 * drm/drm.h: ioctls of DRM synchronisation objects. One is a handle of the descriptor it was made
 * on, shared between processes and devices as a descriptor of its own. A binary one has one
 * fence; a timeline has points, each of which signals with its own fence and after those below.
 */
import { addr64, i32, iowr, struct, u32 } from './layout.ts';

/* `drm_get_cap.capability` */
export const DRM_CAP_SYNCOBJ_TIMELINE = 0x14;

/** `drm_syncobj_handle.flags`: `fd` is a sync_file, whose fence goes into the binary object `handle`. */
export const DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE = 1 << 0;

export const drm_syncobj_create = struct('drm_syncobj_create', { handle: u32, flags: u32 });
export const drm_syncobj_destroy = struct('drm_syncobj_destroy', { handle: u32, pad: u32 });

/** `fd` stays the caller's going in, and becomes the caller's coming out. */
export const drm_syncobj_handle = struct('drm_syncobj_handle', { handle: u32, flags: u32, fd: i32, pad: u32 });

/** A point of 0 is the fence of a binary object. */
export const drm_syncobj_transfer = struct('drm_syncobj_transfer', {
  src_handle: u32,
  dst_handle: u32,
  src_point: addr64,
  dst_point: addr64,
  flags: u32,
  pad: u32,
});

/** The eventfd `fd`, the caller's, counts one when the point signals; a point that nobody has given a fence yet does later. */
export const drm_syncobj_eventfd = struct('drm_syncobj_eventfd', { handle: u32, flags: u32, point: addr64, fd: i32, pad: u32 });

/** `handles` and `points` are addresses of arrays of u32 and u64. A query fills `points` with the last that signalled. */
export const drm_syncobj_timeline_array = struct('drm_syncobj_timeline_array', { handles: addr64, points: addr64, count_handles: u32, flags: u32 });

export const DRM_IOCTL_SYNCOBJ_CREATE = iowr('d', 0xbf, drm_syncobj_create);
export const DRM_IOCTL_SYNCOBJ_DESTROY = iowr('d', 0xc0, drm_syncobj_destroy);
export const DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD = iowr('d', 0xc1, drm_syncobj_handle);
export const DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE = iowr('d', 0xc2, drm_syncobj_handle);
export const DRM_IOCTL_SYNCOBJ_QUERY = iowr('d', 0xcb, drm_syncobj_timeline_array);
export const DRM_IOCTL_SYNCOBJ_TRANSFER = iowr('d', 0xcc, drm_syncobj_transfer);
export const DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL = iowr('d', 0xcd, drm_syncobj_timeline_array);
/** Since Linux 6.6. */
export const DRM_IOCTL_SYNCOBJ_EVENTFD = iowr('d', 0xcf, drm_syncobj_eventfd);
