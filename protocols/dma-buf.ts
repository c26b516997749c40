/**
 * linux/dma-buf.h: ioctls of a dma-buf's file descriptor. Two DMA_BUF_IOCTL_SYNC, START and END with
 * the same direction, bracket any access of the CPU to a mapped dma-buf.
 */
import { addr64, i32, iow, iowr, struct, u32 } from './layout.ts';

/* Bits of `dma_buf_sync.flags`; READ and WRITE are also flags of EXPORT_SYNC_FILE and IMPORT_SYNC_FILE. */
export const DMA_BUF_SYNC_READ = 0x1;
export const DMA_BUF_SYNC_WRITE = 0x2;
export const DMA_BUF_SYNC_START = 0x0;
export const DMA_BUF_SYNC_END = 0x4;

export const dma_buf_sync = struct('dma_buf_sync', { flags: addr64 });

/** The call returns a sync file in `fd`, which the caller owns. */
export const dma_buf_export_sync_file = struct('dma_buf_export_sync_file', { flags: u32, fd: i32 });

/** Adds the fences of the sync file `fd`, which stays the caller's. `flags`: SYNC_READ or SYNC_WRITE, what they end. */
export const dma_buf_import_sync_file = struct('dma_buf_import_sync_file', { flags: u32, fd: i32 });

export const DMA_BUF_IOCTL_SYNC = iow('b', 0, dma_buf_sync);
export const DMA_BUF_IOCTL_EXPORT_SYNC_FILE = iowr('b', 2, dma_buf_export_sync_file);
export const DMA_BUF_IOCTL_IMPORT_SYNC_FILE = iow('b', 3, dma_buf_import_sync_file);
