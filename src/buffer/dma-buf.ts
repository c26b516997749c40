import { DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_END, DMA_BUF_SYNC_START, dma_buf_sync } from '../../protocols/dma-buf.ts';
import type { BorrowedFd } from '../sys/fd.ts';
import { ioctl } from '../sys/ioctl.ts';

/**
 * Runs `use`, which looks at (DMA_BUF_SYNC_READ) or changes (…_WRITE) a mapping of the dma-buf,
 * between the two calls that make the CPU see what devices see. SysError ENOTTY on anything but a
 * dma-buf, or what its exporter says.
 */
export function withCpuAccess<T>(dmabuf: BorrowedFd, direction: number, use: () => T): T {
  sync(dmabuf, DMA_BUF_SYNC_START | direction);
  try {
    return use();
  } finally {
    sync(dmabuf, DMA_BUF_SYNC_END | direction);
  }
}

function sync(dmabuf: BorrowedFd, flags: number): void {
  ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, 'DMA_BUF_IOCTL_SYNC', dma_buf_sync.encode({ flags }));
}
