/**
 * drm/drm.h: ioctls and events of a DRM device (/dev/dri/card*) other than modesetting, which is
 * in drm-mode.ts.
 */
import { addr64, i32, io, iow, iowr, struct, u32 } from './layout.ts';

/* `drm_get_cap.capability` */
export const DRM_CAP_DUMB_BUFFER = 0x1;
export const DRM_CAP_PRIME = 0x5;
export const DRM_CAP_TIMESTAMP_MONOTONIC = 0x6;
export const DRM_CAP_CURSOR_WIDTH = 0x8;
export const DRM_CAP_CURSOR_HEIGHT = 0x9;
export const DRM_CAP_ADDFB2_MODIFIERS = 0x10;
export const DRM_CAP_CRTC_IN_VBLANK_EVENT = 0x12;
export const DRM_CAP_SYNCOBJ_TIMELINE = 0x14;

/** Bit of DRM_CAP_PRIME: dma-bufs can be imported. */
export const DRM_PRIME_CAP_IMPORT = 0x1;

/* `drm_set_client_cap.capability` */
export const DRM_CLIENT_CAP_UNIVERSAL_PLANES = 2;
export const DRM_CLIENT_CAP_ATOMIC = 3;
export const DRM_CLIENT_CAP_WRITEBACK_CONNECTORS = 5;
/** Shows the cursor planes of virtual cards, which need the hotspot. Since Linux 6.6. */
export const DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT = 6;

/* `drm_prime_handle.flags`: those of open(2). */
export const DRM_RDWR = 0o2;
export const DRM_CLOEXEC = 0o2000000;

/**
 * Lengths are the sizes of the caller's buffers going in and of the texts coming out. The texts do
 * not end in a zero.
 */
export const drm_version = struct('drm_version', {
  version_major: i32,
  version_minor: i32,
  version_patchlevel: i32,
  name_len: addr64,
  name: addr64,
  date_len: addr64,
  date: addr64,
  desc_len: addr64,
  desc: addr64,
});

export const drm_gem_close = struct('drm_gem_close', { handle: u32, pad: u32 });
export const drm_get_cap = struct('drm_get_cap', { capability: addr64, value: addr64 });
export const drm_set_client_cap = struct('drm_set_client_cap', { capability: addr64, value: addr64 });

/** `fd` is borrowed going in; coming out, the caller owns it. */
export const drm_prime_handle = struct('drm_prime_handle', { handle: u32, flags: u32, fd: i32 });

export const DRM_IOCTL_VERSION = iowr('d', 0x00, drm_version);
export const DRM_IOCTL_GEM_CLOSE = iow('d', 0x09, drm_gem_close);
export const DRM_IOCTL_GET_CAP = iowr('d', 0x0c, drm_get_cap);
export const DRM_IOCTL_SET_CLIENT_CAP = iow('d', 0x0d, drm_set_client_cap);
export const DRM_IOCTL_SET_MASTER = io('d', 0x1e);
export const DRM_IOCTL_DROP_MASTER = io('d', 0x1f);
export const DRM_IOCTL_PRIME_HANDLE_TO_FD = iowr('d', 0x2d, drm_prime_handle);
export const DRM_IOCTL_PRIME_FD_TO_HANDLE = iowr('d', 0x2e, drm_prime_handle);

/** Head of every event read from the device; `length` includes it. */
export const drm_event = struct('drm_event', { type: u32, length: u32 });

export const DRM_EVENT_FLIP_COMPLETE = 0x02;

/** The time is CLOCK_MONOTONIC if DRM_CAP_TIMESTAMP_MONOTONIC says so, as it does for every driver today. */
export const drm_event_vblank = struct('drm_event_vblank', {
  base: drm_event,
  user_data: addr64,
  tv_sec: u32,
  tv_usec: u32,
  sequence: u32,
  crtc_id: u32,
});

/*
 * Synchronisation objects. A handle is valid for the open file it was made on; between processes
 * and devices an object is shared as a descriptor of its own. A binary object has one fence. A
 * timeline has points; each signals with its own fence, and after all lower points.
 */

/** `drm_syncobj_handle.flags`: `fd` is a sync_file, whose fence goes into the binary object `handle`. */
export const DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE = 1 << 0;

export const drm_syncobj_create = struct('drm_syncobj_create', { handle: u32, flags: u32 });
export const drm_syncobj_destroy = struct('drm_syncobj_destroy', { handle: u32, pad: u32 });

/** `fd` is borrowed going in; coming out, the caller owns it. */
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

/** The borrowed eventfd `fd` is signalled when the point signals. The point need not have a fence yet. */
export const drm_syncobj_eventfd = struct('drm_syncobj_eventfd', {
  handle: u32,
  flags: u32,
  point: addr64,
  fd: i32,
  pad: u32,
});

/**
 * `handles` and `points` are addresses of arrays of u32 and u64. A query fills `points` with the
 * last point of each that signalled.
 */
export const drm_syncobj_timeline_array = struct('drm_syncobj_timeline_array', {
  handles: addr64,
  points: addr64,
  count_handles: u32,
  flags: u32,
});

export const DRM_IOCTL_SYNCOBJ_CREATE = iowr('d', 0xbf, drm_syncobj_create);
export const DRM_IOCTL_SYNCOBJ_DESTROY = iowr('d', 0xc0, drm_syncobj_destroy);
export const DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD = iowr('d', 0xc1, drm_syncobj_handle);
export const DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE = iowr('d', 0xc2, drm_syncobj_handle);
export const DRM_IOCTL_SYNCOBJ_QUERY = iowr('d', 0xcb, drm_syncobj_timeline_array);
export const DRM_IOCTL_SYNCOBJ_TRANSFER = iowr('d', 0xcc, drm_syncobj_transfer);
export const DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL = iowr('d', 0xcd, drm_syncobj_timeline_array);
/** Since Linux 6.6. */
export const DRM_IOCTL_SYNCOBJ_EVENTFD = iowr('d', 0xcf, drm_syncobj_eventfd);
