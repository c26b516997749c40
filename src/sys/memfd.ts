import { type BorrowedFd, OwnedFd } from './fd.ts';
import { fcntl, ftruncate, memfdCreate } from './libc.ts';
import { SysError } from './errors.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/* linux/fcntl.h */
export const F_SEAL_SEAL = 0x01;
export const F_SEAL_SHRINK = 0x02;
export const F_SEAL_GROW = 0x04;
export const F_SEAL_WRITE = 0x08;

/**
 * Makes anonymous shared memory of `length` zero bytes, close-on-exec, with the F_SEAL_* bits
 * given. The default, F_SEAL_SHRINK alone, is what udmabuf requires. SysError EMFILE, ENOMEM, EINVAL.
 */
export function createMemfd(name: string, length: number, seals = F_SEAL_SHRINK): OwnedFd {
  const number = memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (number < 0) throw SysError.fromErrno('memfd_create');
  const fd = OwnedFd.adopt(number);
  try {
    growMemfd(fd, length);
    if (fcntl(number, F_ADD_SEALS, seals) < 0) throw SysError.fromErrno('fcntl(F_ADD_SEALS)');
    return fd;
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}

/** Extends a memfd to `length` bytes; the new ones are zero. SysError EINVAL, EPERM (sealed), ENOSPC. */
export function growMemfd(memfd: BorrowedFd, length: number): void {
  if (ftruncate(memfd.fd, length) < 0) throw SysError.fromErrno('ftruncate', undefined, `${length} bytes`);
}

/** The F_SEAL_* bits of a file. SysError EINVAL if it is of a kind that cannot be sealed. */
export function getSeals(fd: BorrowedFd): number {
  const seals = fcntl(fd.fd, F_GET_SEALS, 0);
  if (seals < 0) throw SysError.fromErrno('fcntl(F_GET_SEALS)');
  return seals;
}
