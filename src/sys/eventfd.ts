import { OwnedFd, setNonBlocking } from './fd.ts';
import { errno, eventfd, read, write } from './libc.ts';
import { EAGAIN, EINTR, SysError } from './errors.ts';
import { NativeBuffer } from './native-buffer.ts';

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const COUNTER_SIZE = 8;

// Calls are synchronous, so all eventfds share one buffer for each direction.
const one = NativeBuffer.allocate(COUNTER_SIZE);
one.view.setUint8(0, 1);
const count = NativeBuffer.allocate(COUNTER_SIZE);
const oneAddress = one.address;
const countAddress = count.address;

/** A kernel counter that becomes readable when signalled (eventfd(2)): virtqueue kicks and calls. */
export class EventFd implements Disposable {
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** SysError EMFILE. */
  static create(initial = 0): EventFd {
    const fd = eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw SysError.fromErrno('eventfd');
    return new EventFd(OwnedFd.adopt(fd));
  }

  /** Wraps an eventfd that a peer made. Consumes `fd`. Makes it non-blocking, for the peer too. */
  static adopt(fd: OwnedFd): EventFd {
    try {
      setNonBlocking(fd);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
    return new EventFd(fd);
  }

  /** To poll it. The EventFd keeps ownership. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** Wakes the other side. A full counter is signalled already, so that is no error. */
  signal(): void {
    const fd = this.#fd.fd;
    while (write(fd, oneAddress, COUNTER_SIZE) < 0) {
      const failure = errno();
      if (failure === EAGAIN) return;
      if (failure !== EINTR) throw SysError.fromErrno('write(eventfd)', failure);
    }
  }

  /** Resets the counter; true if it had been signalled. Never blocks. */
  consume(): boolean {
    const fd = this.#fd.fd;
    while (read(fd, countAddress, COUNTER_SIZE) < 0) {
      const failure = errno();
      if (failure === EAGAIN) return false;
      if (failure !== EINTR) throw SysError.fromErrno('read(eventfd)', failure);
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
