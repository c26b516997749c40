import { existsSync, fstatSync, readFileSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import type { BorrowedFd } from '../../src/sys/fd.ts';

/** From Node 24 on, a thread reads this file, if there is one, at a time of its own after the start. */
const certificates = process.env.NODE_EXTRA_CA_CERTS ?? '';
const CERTIFICATES = existsSync(certificates) ? realpathSync(certificates) : null;

/** The C library's allocator opens this one for a moment when a thread gives back memory. */
const OVERCOMMIT = '/proc/sys/vm/overcommit_memory';

/** Open descriptors of a process, by default this one, and what they refer to: 5 -> 'socket:[1234]'. Without what threads open by themselves. */
export function openFds(pid: number | 'self' = 'self'): Map<number, string> {
  const fds = new Map<number, string>();
  for (const entry of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${entry}`);
      if (target !== CERTIFICATES && target !== OVERCOMMIT) fds.set(Number(entry), target);
    } catch {
      // Closed by now, as the descriptor is with which this process reads its own directory.
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
