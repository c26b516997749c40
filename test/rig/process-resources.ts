import { fstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import type { BorrowedFd } from '../../src/sys/fd.ts';

/** Open descriptors of this process and what they refer to: 5 -> 'socket:[1234]'. */
export function openFds(): Map<number, string> {
  const fds = new Map<number, string>();
  for (const entry of readdirSync('/proc/self/fd')) {
    try {
      fds.set(Number(entry), readlinkSync(`/proc/self/fd/${entry}`));
    } catch {
      // The descriptor with which the directory was read is closed by now.
    }
  }
  return fds;
}

/** Number of mappings of this process whose file matches; by default memfds and dma-bufs. */
export function mappingCount(file = /\/memfd:|\/dmabuf:/): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => file.test(line)).length;
}

/** Size of the file in bytes; 0 for files without a size (devices, sockets, dma-bufs). */
export function fileSize(fd: BorrowedFd): number {
  return fstatSync(fd.fd).size;
}
