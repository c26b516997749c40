import { DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_END, DMA_BUF_SYNC_START, dma_buf_sync } from '../../protocols/dma-buf.ts';
import type { BorrowedFd } from './fd.ts';
import { ioctl } from './ioctl.ts';

/** One argument for each direction and end of an access, made once: the kernel only reads them. */
const requests = Array.from({ length: 8 }, (_, flags) => dma_buf_sync.encode({ flags }));

/**
 * From here the CPU sees in a mapping of the dma-buf what devices wrote; `direction` is what it is
 * about to do, DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both. `endCpuAccess` with the same must follow.
 * SysError ENOTTY on anything but a dma-buf, or what its exporter says.
 */
export function beginCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_START | direction);
}

/** From here devices see what the CPU wrote. SysError as `beginCpuAccess`. */
export function endCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_END | direction);
}

/** Runs `use` between the two. */
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
