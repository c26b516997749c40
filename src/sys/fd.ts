import { close as closeInThread, readlinkSync } from 'node:fs';
import { EINTR, SysError } from './errors.ts';
import { close, errno, fcntl, read } from './libc.ts';

const F_GETFL = 3;
const F_SETFL = 4;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0o4000;
const F_DUPFD_CLOEXEC = 1030;
const F_GET_SEALS = 1034;
const FIRST_AFTER_STDIO = 3;

/** A file descriptor owned by the caller: use `fd` during the call and never store the number. */
export interface BorrowedFd {
  readonly fd: number;
}

const leaks = new FinalizationRegistry<number>((fd) => {
  process.emitWarning(`file descriptor ${fd} was garbage-collected without being closed`, 'ScanoutLeakWarning');
});

/**
 * The only owner of an open file descriptor: nothing else closes it. A parameter of this type is
 * consumed by the callee, even on failure. If the garbage collector finds one that was never
 * disposed, it warns but does not close: the number may since have been reused for another file.
 */
export class OwnedFd implements BorrowedFd, Disposable {
  #fd: number;
  readonly #isForeign: boolean;

  private constructor(fd: number, isForeign: boolean) {
    this.#fd = fd;
    this.#isForeign = isForeign;
    leaks.register(this, fd, this);
  }

  /** Takes ownership of `fd`: the caller must not close it any more. */
  static adopt(fd: number): OwnedFd {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`not a file descriptor: ${fd}`);
    return new OwnedFd(fd, false);
  }

  /** `adopt` for a descriptor that a peer sent, which may be of any file: dispose does not wait for its file system. */
  static receive(fd: number): OwnedFd {
    return new OwnedFd(fd, true);
  }

  /**
   * Takes ownership of a descriptor that this process was started with, such as `--fd=3`, and
   * marks it close-on-exec. SysError EBADF if no file is open under that number.
   */
  static inherit(fd: number): OwnedFd {
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) throw SysError.fromErrno('fcntl(F_SETFD)', errno(), `inherited fd ${fd}`);
    return OwnedFd.adopt(fd);
  }

  /** The number, for a system call. Throws after dispose or `take`. */
  get fd(): number {
    if (this.#fd < 0) throw new Error('file descriptor used after it was closed or given away');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** A second descriptor of the same open file, close-on-exec, owned by the caller. */
  dup(): OwnedFd {
    return dupFd(this);
  }

  /** Gives the number away: the caller closes it from now on. */
  take(): number {
    const fd = this.fd;
    this.#fd = -1;
    leaks.unregister(this);
    return fd;
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    const fd = this.take();
    if (this.#isForeign && closeMayWait(fd)) {
      closeAside(fd);
      return;
    }
    // Linux releases the number whatever close() returns. Only EBADF matters: something else closed it.
    if (close(fd) < 0) {
      const error = SysError.fromErrno('close', errno(), `fd ${fd}`);
      if (error.code === 'EBADF') throw error;
    }
  }
}

/**
 * Whether close(2) might wait for a file system, as it does on FUSE and NFS. It does not for memory files, which have
 * seals, and for files that are in no file system, whose names do not begin with a slash.
 */
function closeMayWait(fd: number): boolean {
  if (fcntl(fd, F_GET_SEALS, 0) >= 0) return false;
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('/');
  } catch {
    return true;
  }
}

const aside: number[] = [];
let isClosing = false;

/** Closes in the thread pool, one after another, so that a file system that never answers takes one thread at most. */
function closeAside(fd: number): void {
  aside.push(fd);
  if (!isClosing) closeNext();
}

function closeNext(): void {
  const fd = aside.pop();
  isClosing = fd !== undefined;
  if (fd !== undefined) closeInThread(fd, closeNext);
}

/** Duplicates a descriptor, close-on-exec; the caller owns the copy. SysError EMFILE. */
export function dupFd(fd: BorrowedFd): OwnedFd {
  const copy = fcntl(fd.fd, F_DUPFD_CLOEXEC, FIRST_AFTER_STDIO);
  if (copy < 0) throw SysError.fromErrno('fcntl(F_DUPFD_CLOEXEC)', errno());
  return OwnedFd.adopt(copy);
}

/** Sets O_NONBLOCK on the open file, so for every descriptor of it. */
export function setNonBlocking(fd: BorrowedFd): void {
  const flags = fcntl(fd.fd, F_GETFL, 0);
  if (flags < 0 || fcntl(fd.fd, F_SETFL, flags | O_NONBLOCK) < 0) throw SysError.fromErrno('fcntl(F_SETFL)', errno());
}

/**
 * read(2) into memory at a numeric address (see NativeBuffer). Returns the bytes read, or -errno.
 * Neither throws nor allocates. EINTR is retried.
 */
export function tryRead(fd: BorrowedFd, address: number, length: number): number {
  for (;;) {
    const count = read(fd.fd, address, length);
    if (count >= 0) return count;
    const failure = errno();
    if (failure !== EINTR) return -failure;
  }
}
