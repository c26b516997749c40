/**
 * Eventfds (eventfd(2)). One that is shared with a peer must never be read or written with plain calls: O_NONBLOCK
 * belongs to the open file, so the peer can clear it, and then empty the counter before our read(2), or fill it before
 * our write(2), which would block the event loop for good.
 *
 * - preadv2(2) has a flag of its own, RWF_NOWAIT.
 * - No write has one. But the kernel's own signal, which never waits, is within reach: a request of Linux AIO signals an
 *   eventfd when it ends (IOCB_FLAG_RESFD, io_submit(2)). The request here ends at once, because it reads no bytes.
 *
 * Where the kernel refuses these (before Linux 5.8, or under a seccomp filter), O_NONBLOCK is all there is.
 */
import { IOCB_CMD_PREAD, IOCB_FLAG_RESFD, io_event, iocb } from '../../protocols/linux-aio.ts';
import { addr64 } from '../../protocols/layout.ts';
import { iovec } from '../../protocols/linux-socket.ts';
import { RWF_NOWAIT, SYSCALL } from '../../protocols/linux-syscall.ts';
import { EAGAIN, EINTR, SysError } from './errors.ts';
import { OwnedFd, setNonBlocking } from './fd.ts';
import { errno, eventfd, ioGetevents, ioSetup, ioSubmit, preadv2, read, write } from './libc.ts';
import { NativeBuffer } from './native-buffer.ts';

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const COUNTER_SIZE = 8;
/** The file's own position, in both halves. */
const NO_POSITION = -1;
/** Requests in flight, of which there is one. The kernel makes room for more that have ended. */
const AIO_REQUESTS = 1;
/** How many that have ended are fetched at a time. */
const AIO_EVENTS = 128;

/*
 * One set of native structs serves every eventfd: calls are synchronous, and nothing of them is needed afterwards.
 */
const COUNTER = 0;
const ONE = 8;
const IOVEC = 16;
const CONTEXT = 32;
const REQUEST_POINTER = 40;
const REQUEST = 64;
const EVENTS = REQUEST + iocb.size;
const { view, address } = NativeBuffer.allocate(EVENTS + AIO_EVENTS * io_event.size);
const request = iocb.field;
// Computed once: V8 may allocate an object for the sum at each use.
const counterAddress = address + COUNTER;
const oneAddress = address + ONE;
const iovecAddress = address + IOVEC;
const requestPointerAddress = address + REQUEST_POINTER;
const eventsAddress = address + EVENTS;
view.setUint8(ONE, 1);
iovec.field.iov_base.set(view, IOVEC, counterAddress);
iovec.field.iov_len.set(view, IOVEC, COUNTER_SIZE);
addr64.set(view, REQUEST_POINTER, address + REQUEST);
request.aio_lio_opcode.set(view, REQUEST, IOCB_CMD_PREAD);
request.aio_flags.set(view, REQUEST, IOCB_FLAG_RESFD);

/** The AIO context: 0 before the first signal, -1 if there is none to be had. */
let context = 0;
let hasNoWait = true;

/** A kernel counter that becomes readable when signalled (eventfd(2)): virtqueue kicks and calls. */
export class EventFd implements Disposable {
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** SysError EMFILE. */
  static create(initial = 0): EventFd {
    const fd = eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw SysError.fromErrno('eventfd', errno());
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

  /** Wakes the other side. A full counter is signalled already, so that is no error. Never blocks. */
  signal(): void {
    const { fd } = this;
    if (signalByKernel(fd)) return;
    while (write(fd, oneAddress, COUNTER_SIZE) < 0 && errno() === EINTR);
  }

  /** Resets the counter; true if it had been signalled. Never blocks. SysError of read(2), which only a bug can cause. */
  consume(): boolean {
    const { fd } = this;
    while (readCounter(fd) < 0) {
      const failure = errno();
      if (failure === EAGAIN) return false;
      if (failure !== EINTR) throw SysError.fromErrno('read(eventfd)', failure);
    }
    return true;
  }

  /**
   * Whether reading takes one from the counter instead of all (EFD_SEMAPHORE), so that a peer could make it readable
   * for ever with one write. Also true if a peer reads at the same time, which hides the answer. Signals the eventfd,
   * and leaves it signalled if it was.
   */
  isSemaphore(): boolean {
    this.signal();
    this.signal();
    if (!this.consume()) return true;
    const count = addr64.get(view, COUNTER);
    if (count > 2) this.signal();
    return count < 2;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** Reads the counter into COUNTER; -1 and errno as read(2). */
function readCounter(fd: number): number {
  if (hasNoWait) {
    const count = preadv2(SYSCALL.preadv2, fd, iovecAddress, 1, NO_POSITION, NO_POSITION, RWF_NOWAIT);
    const failure = count < 0 ? errno() : EAGAIN;
    if (failure === EAGAIN || failure === EINTR) return count;
    hasNoWait = false;
  }
  return read(fd, counterAddress, COUNTER_SIZE);
}

/** False if there is no Linux AIO. */
function signalByKernel(fd: number): boolean {
  if (context === 0) context = openContext();
  if (context < 0) return false;
  request.aio_fildes.set(view, REQUEST, fd);
  request.aio_resfd.set(view, REQUEST, fd);
  if (submit()) return true;
  // Requests that ended fill the context until they are fetched. Fetching at least none of them does not wait.
  return ioGetevents(SYSCALL.io_getevents, context, 0, AIO_EVENTS, eventsAddress, 0) > 0 && submit();
}

function submit(): boolean {
  return ioSubmit(SYSCALL.io_submit, context, 1, requestPointerAddress) === 1;
}

function openContext(): number {
  addr64.set(view, CONTEXT, 0);
  return ioSetup(SYSCALL.io_setup, AIO_REQUESTS, address + CONTEXT) < 0 ? -1 : addr64.get(view, CONTEXT);
}
