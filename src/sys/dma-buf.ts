import { readFileSync } from 'node:fs';
import {
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SYNC_END,
  DMA_BUF_SYNC_READ,
  DMA_BUF_SYNC_START,
  dma_buf_sync,
} from '../../protocols/dma-buf.ts';
import { POLLIN, pollfd } from '../../protocols/linux-poll.ts';
import { SysError } from './errors.ts';
import type { BorrowedFd } from './fd.ts';
import { ioctl } from './ioctl.ts';
import { lseek, poll } from './libc.ts';

const SEEK_END = 2;

/** Size of a dma-buf in bytes; Infinity if its exporter does not tell. */
export function dmabufSize(dmabuf: BorrowedFd): number {
  const size = lseek(dmabuf.fd, 0, SEEK_END);
  return size < 0 ? Infinity : size;
}

/**
 * Whether a descriptor that a peer sent is of a dma-buf, by what the kernel says about it in proc(5). Never waits, while
 * most calls on a file of FUSE or NFS may.
 */
export function isDmabuf({ fd }: BorrowedFd): boolean {
  return readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1').includes('\nexp_name:');
}

/** The argument of poll(2), reused. */
const awaited = new Uint8Array(pollfd.size);
const awaitedView = new DataView(awaited.buffer);
pollfd.field.events.set(awaitedView, 0, POLLIN);

/**
 * Waits until no device writes to the dma-buf, so that `beginCpuAccess` for reading does not wait, but at most `ms`
 * milliseconds; false if one still does. Other users of the dma-buf can add to what there is to wait for. True for files
 * of other kinds that cannot be polled. Neither throws nor allocates.
 */
export function waitReadable(dmabuf: BorrowedFd, ms: number): boolean {
  pollfd.field.fd.set(awaitedView, 0, dmabuf.fd);
  return poll(awaited, 1, ms) > 0;
}

/** One argument for every combination of flags, made once: the kernel only reads them. */
const requests = Array.from({ length: 8 }, (_, flags) => dma_buf_sync.encode({ flags }));

/**
 * Makes what devices wrote visible to the CPU through mappings of the dma-buf. `direction` is the
 * access that follows: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both. Waits for the devices that use the dma-buf, see
 * `waitReadable`. Call `endCpuAccess` with the same direction afterwards. SysError ENOTTY if it is not a dma-buf, or the exporter's errno.
 */
export function beginCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_START | direction);
}

/** Makes what the CPU wrote visible to devices. SysError as for `beginCpuAccess`. */
export function endCpuAccess(dmabuf: BorrowedFd, direction: number): void {
  sync(dmabuf, DMA_BUF_SYNC_END | direction);
}

/** A device draws a picture in less, or something is wrong. */
const MAX_WAIT_MS = 50;

/**
 * `withCpuAccess` for reading. SysError EBUSY if a device does not stop writing to the dma-buf soon: the event loop must not
 * wait for it.
 */
export function readDmabuf<T>(dmabuf: BorrowedFd, read: () => T): T {
  if (!waitReadable(dmabuf, MAX_WAIT_MS)) throw new SysError('poll', 'EBUSY', 'a device still writes to the dma-buf');
  return withCpuAccess(dmabuf, DMA_BUF_SYNC_READ, read);
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
