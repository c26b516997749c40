/**
 * gbm.h, the header of libgbm: flags, numbers and the one struct its calls take. Formats and
 * modifiers are those of drm-fourcc.ts.
 */
import { array, i32, struct, u32, u64 } from './layout.ts';

/* Bits of `usage`: what a buffer is for. */
/** A plane of the display may show it. */
export const GBM_BO_USE_SCANOUT = 0x01;
/** A cursor plane may show it. */
export const GBM_BO_USE_CURSOR = 0x02;
/** The GPU may draw into it. */
export const GBM_BO_USE_RENDERING = 0x04;
/**
 * The CPU may write it. Mesa then makes a dumb buffer: XRGB8888 or XBGR8888 to scan out, ARGB8888
 * for a cursor, nothing else.
 */
export const GBM_BO_USE_WRITE = 0x08;
/** Rows of pixels one after the other, not tiled. */
export const GBM_BO_USE_LINEAR = 0x10;
/** Neither the CPU nor anything else untrusted may read it. */
export const GBM_BO_USE_PROTECTED = 0x20;
/** The GPU draws into it while it is on screen. */
export const GBM_BO_USE_FRONT_RENDERING = 0x40;

/* Flags of gbm_bo_map: keep the contents for reading; keep what is written. */
export const GBM_BO_TRANSFER_READ = 0x1;
export const GBM_BO_TRANSFER_WRITE = 0x2;

/** gbm_bo_import: `buffer` is a gbm_import_fd_modifier_data. */
export const GBM_BO_IMPORT_FD_MODIFIER = 0x5504;

export const GBM_MAX_PLANES = 4;

/** The fds are borrowed. Offsets and strides are in bytes. */
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
