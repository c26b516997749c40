/**
 * linux/sync_file.h: ioctls of a sync file, a descriptor of one or more fences. It polls readable once
 * all of them have signalled, and from then on.
 */
import { addr64, bytes, i32, iowr, struct, u32 } from './layout.ts';

/** One fence. `status` is 0 before it signals, then 1, or -errno; the time is CLOCK_MONOTONIC. */
export const sync_fence_info = struct('sync_fence_info', {
  obj_name: bytes(32),
  driver_name: bytes(32),
  status: i32,
  flags: u32,
  timestamp_ns: addr64,
});

/**
 * `num_fences` is the capacity of the array at `sync_fence_info` going in and the number of fences
 * coming out; with 0 they are only counted.
 */
export const sync_file_info = struct('sync_file_info', {
  name: bytes(32),
  status: i32,
  flags: u32,
  num_fences: u32,
  pad: u32,
  sync_fence_info: addr64,
});

export const SYNC_IOC_FILE_INFO = iowr('>', 4, sync_file_info);
