/**
 * linux/udmabuf.h: the ioctl of /dev/udmabuf that makes one dma-buf of ranges of memfds and returns
 * its file descriptor. Offsets and sizes must be multiples of the page size. Each memfd must have
 * F_SEAL_SHRINK and must not have F_SEAL_WRITE.
 */
import { addr64, iow, struct, u32 } from './layout.ts';

export const UDMABUF_FLAGS_CLOEXEC = 0x01;

export const udmabuf_create_item = struct('udmabuf_create_item', {
  memfd: u32,
  __pad: u32,
  offset: addr64,
  size: addr64,
});

/** Head of UDMABUF_CREATE_LIST's argument; `count` udmabuf_create_item follow. */
export const udmabuf_create_list = struct('udmabuf_create_list', { flags: u32, count: u32 });

export const UDMABUF_CREATE_LIST = iow('u', 0x43, udmabuf_create_list);
