import { DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_END, DMA_BUF_SYNC_START, dma_buf_sync } from '../../protocols/dma-buf.ts';
import type { BorrowedFd } from './fd.ts';
import { ioctl } from './ioctl.ts';

/** One argument for every combination of flags, made once: the kernel only reads them. */
const requests = Array.from({ length: 8 }, (_, flags) => dma_buf_sync.encode({ flags }));

/**
 * Makes what devices wrote visible to the CPU through mappings of the dma-buf. `direction` is the
 * access that follows: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both. Call `endCpuAccess` with the
 * same direction afterwards. SysError ENOTTY if it is not a dma-buf, or the exporter's errno.
 */
export function beginCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_START | direction);
}

/** Makes what the CPU wrote visible to devices. SysError as for `beginCpuAccess`. */
export function endCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_END | direction);
}

/** Calls `use` between `beginCpuAccess` and `endCpuAccess`. */
export function withCpuAccess<T>(dmabuf: BorrowedFd, direction: number, use: () => T): T {
  beginCpuAccess(dmabuf, direction);
  try {
    return use();
  } finally {
    endCpuAccess(dmabuf, direction);
  }
}

function sync(dmabuf: BorrowedFd, flags: number): void {
  ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, 'DMA_BUF_IOCTL_SYNC', requests[flags]!);
}
