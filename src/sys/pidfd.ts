/** Other processes, held by descriptors: pidfd_open(2), pidfd_getfd(2). */
import { SYSCALL } from '../../protocols/linux-syscall.ts';
import { SysError } from './errors.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { errno, syscall } from './libc.ts';

/** A descriptor that becomes readable when the process ends, close-on-exec. SysError ESRCH, EINVAL if `pid` is a thread's. */
export function openPidfd(pid: number): OwnedFd {
  const fd = syscall(SYSCALL.pidfd_open, pid, 0, 0, 0);
  if (fd < 0) throw SysError.fromErrno('pidfd_open', errno(), `process ${pid}`);
  return OwnedFd.adopt(fd);
}

/**
 * A duplicate of the descriptor `number` of another process, close-on-exec. SysError EPERM if this process may not trace
 * that one (ptrace(2), "Ptrace access mode checking"), EBADF, ESRCH.
 */
export function takeFd(pidfd: BorrowedFd, number: number): OwnedFd {
  const fd = syscall(SYSCALL.pidfd_getfd, pidfd.fd, number, 0, 0);
  if (fd < 0) throw SysError.fromErrno('pidfd_getfd', errno(), `descriptor ${number}`);
  return OwnedFd.receive(fd);
}
