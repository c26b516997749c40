import type { BorrowedFd } from './fd.ts';
import { errno, ioctl as ioctlAt, ioctlBytes } from './libc.ts';
import { EAGAIN, EINTR, SysError } from './errors.ts';

// EAGAIN mostly means "retry at once", but some drivers return it for a stale id every time.
const MAX_AGAIN = 100;

/**
 * ioctl(2) on a struct at a numeric address (see NativeBuffer, Mapping). Returns its result, or
 * -errno. Neither throws nor allocates. EINTR is always retried, EAGAIN a hundred times.
 */
export function tryIoctl(fd: BorrowedFd, request: number, address: number): number {
  const number = fd.fd;
  for (let again = 0; ;) {
    const result = ioctlAt(number, request, address);
    if (result >= 0) return result;
    const failure = errno();
    if (failure === EINTR || (failure === EAGAIN && again++ < MAX_AGAIN)) continue;
    return -failure;
  }
}

/**
 * Like `tryIoctl`, but throws a SysError, `ioctl(DRM_IOCTL_MODE_ATOMIC): EINVAL`, with `name` in its
 * message. The argument is an address, or the struct's bytes, which the kernel reads and writes in
 * place.
 */
export function ioctl(fd: BorrowedFd, request: number, name: string, argument: Uint8Array | number): number {
  const result = typeof argument === 'number' ? tryIoctl(fd, request, argument) : tryIoctlBytes(fd, request, argument);
  if (result < 0) throw SysError.fromErrno(`ioctl(${name})`, -result);
  return result;
}

/**
 * Like `tryIoctl`, for the bytes of a struct. Disposals give things back with it and ignore what it returns: when the
 * device is gone (ENODEV), so is what it held.
 */
export function tryIoctlBytes(fd: BorrowedFd, request: number, bytes: Uint8Array): number {
  for (let again = 0; ;) {
    const result = ioctlBytes(fd.fd, request, bytes);
    if (result >= 0) return result;
    const failure = errno();
    if (failure === EINTR || (failure === EAGAIN && again++ < MAX_AGAIN)) continue;
    return -failure;
  }
}
