/** gbm.h, the header of libgbm: bits, numbers and the one struct its calls take. Formats and modifiers are those of drm-fourcc.ts. */
import { array, i32, struct, u32, u64 } from './layout.ts';

/* What a buffer is for: bits of `usage`. */
/** A plane of the display may show it. */
export const GBM_BO_USE_SCANOUT = 0x01;
/** A cursor plane may show it. */
export const GBM_BO_USE_CURSOR = 0x02;
/** The GPU may draw into it. */
export const GBM_BO_USE_RENDERING = 0x04;
/** The CPU may write it. Mesa makes a dumb buffer then: XRGB8888 or XBGR8888 to scan out, ARGB8888 for a cursor, nothing else. */
export const GBM_BO_USE_WRITE = 0x08;
/** Rows of pixels one after the other, not tiled. */
export const GBM_BO_USE_LINEAR = 0x10;
/** Neither the CPU nor anything else untrusted may read it. */
export const GBM_BO_USE_PROTECTED = 0x20;
/** The GPU draws into it while it is on screen. */
export const GBM_BO_USE_FRONT_RENDERING = 0x40;

/* gbm_bo_map: what was there before is wanted; what is written is to stay. */
export const GBM_BO_TRANSFER_READ = 0x1;
export const GBM_BO_TRANSFER_WRITE = 0x2;

/** gbm_bo_import: `buffer` is a gbm_import_fd_modifier_data. */
export const GBM_BO_IMPORT_FD_MODIFIER = 0x5504;

export const GBM_MAX_PLANES = 4;

/** The fds stay the caller's. Offsets and strides are bytes. */
export const gbm_import_fd_modifier_data = struct('gbm_import_fd_modifier_data', {
  width: u32,
  height: u32,
  format: u32,
  num_fds: u32,
  fds: array(i32, GBM_MAX_PLANES),
  strides: array(i32, GBM_MAX_PLANES),
  offsets: array(i32, GBM_MAX_PLANES),
  modifier: u64,
});
