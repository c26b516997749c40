import { fstatSync, statfsSync } from 'node:fs';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { errno, fcntl, ftruncate, memfdCreate } from './libc.ts';
import { SysError } from './errors.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const TMPFS_MAGIC = 0x0102_1994;
const BLOCK = 512;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/* linux/fcntl.h */
export const F_SEAL_SEAL = 0x01;
export const F_SEAL_SHRINK = 0x02;
export const F_SEAL_GROW = 0x04;
export const F_SEAL_WRITE = 0x08;
/** From Linux 5.1: no new way to write. Mappings that exist stay writable. */
export const F_SEAL_FUTURE_WRITE = 0x10;

/**
 * Makes anonymous shared memory of `length` zero bytes, close-on-exec, with the F_SEAL_* bits
 * given. The default, F_SEAL_SHRINK alone, is what udmabuf requires. SysError EMFILE, ENOMEM, EINVAL.
 */
export function createMemfd(name: string, length: number, seals = F_SEAL_SHRINK): OwnedFd {
  const number = memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (number < 0) throw SysError.fromErrno('memfd_create', errno());
  const fd = OwnedFd.adopt(number);
  try {
    growMemfd(fd, length);
    addSeals(fd, seals);
    return fd;
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}

/** Adds F_SEAL_* bits. SysError EINVAL for one that the kernel does not have, EPERM after F_SEAL_SEAL. */
export function addSeals(memfd: BorrowedFd, seals: number): void {
  if (fcntl(memfd.fd, F_ADD_SEALS, seals) < 0) throw SysError.fromErrno('fcntl(F_ADD_SEALS)', errno());
}

/** Extends a memfd to `length` bytes; the new ones are zero. SysError EINVAL, EPERM (sealed), ENOSPC. */
export function growMemfd(memfd: BorrowedFd, length: number): void {
  if (ftruncate(memfd.fd, length) < 0) throw SysError.fromErrno('ftruncate', errno(), `${length} bytes`);
}

/**
 * The F_SEAL_* bits of a file. SysError EINVAL if it is no memfd and lies on neither tmpfs nor hugetlbfs: a kind that
 * cannot be sealed. Never blocks, unlike fstat(2) on a file system that does not answer.
 */
export function getSeals(fd: BorrowedFd): number {
  const seals = fcntl(fd.fd, F_GET_SEALS, 0);
  if (seals < 0) throw SysError.fromErrno('fcntl(F_GET_SEALS)', errno());
  return seals;
}

/**
 * Whether a page of the file may turn out to have no memory when it is touched, which raises SIGBUS: the file has holes,
 * and lies on a tmpfs of limited size. `fd` is a file that `getSeals` takes.
 */
export function mayLackPages(fd: BorrowedFd): boolean {
  const { size, blocks } = fstatSync(fd.fd);
  if (blocks * BLOCK >= size) return false;
  const fileSystem = statfsSync(`/proc/self/fd/${fd.fd}`);
  return fileSystem.type === TMPFS_MAGIC && fileSystem.blocks > 0;
}
