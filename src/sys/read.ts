import type { BorrowedFd } from './fd.ts';
import { errno, read } from './libc.ts';
import { EINTR } from './errors.ts';

/**
 * read(2) into memory at a numeric address (NativeBuffer): the bytes read, or -errno. Neither
 * throws nor allocates. EINTR is retried.
 */
export function tryRead(fd: BorrowedFd, address: number, length: number): number {
  for (;;) {
    const count = read(fd.fd, address, length);
    if (count >= 0) return count;
    const failure = errno();
    if (failure !== EINTR) return -failure;
  }
}
