import { readlinkSync } from 'node:fs';
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_EVENT_SIZE, EPOLLIN } from '../../protocols/linux-epoll.ts';
import { DisposableStack } from './disposable-stack.ts';
import { SysError } from './errors.ts';
import { type BorrowedFd, dupFd, OwnedFd } from './fd.ts';
import { errno, epollCreate1, epollCtl, epollWait } from './libc.ts';
import { Poll } from './poll.ts';

/** Arguments of the calls below: the kernel reads the first and fills the second. */
const readable = new Uint8Array(EPOLL_EVENT_SIZE);
new DataView(readable.buffer).setUint32(0, EPOLLIN, true);
const readyEvent = new Uint8Array(EPOLL_EVENT_SIZE);

/**
 * Calls back from the event loop when a sync_file has signalled; waits for one fence at a time and
 * keeps the process alive while it does.
 *
 * The event loop watches an epoll set, made at the first `start`, and fences go in and out of the
 * set: five system calls a fence, where a poll of its own takes thirteen. The set and its
 * descriptor last until dispose.
 */
export class FenceWait implements Disposable {
  readonly #onSignalled: () => void;
  #set: { readonly epoll: OwnedFd; readonly poll: Poll } | null = null;
  /** The fence in the set: a duplicate, because the caller may close the original. */
  #fence: OwnedFd | null = null;

  constructor(onSignalled: () => void) {
    this.#onSignalled = onSignalled;
  }

  get isWaiting(): boolean {
    return this.#fence !== null;
  }

  /**
   * Waits for `fence` in place of any earlier one. The caller keeps the descriptor and may close it
   * at once; any number of FenceWaits may wait for one fence. SysError EMFILE, or EPERM if the
   * descriptor cannot be polled; in either case nothing is waited for.
   */
  start(fence: BorrowedFd): void {
    this.stop();
    const { epoll, poll } = (this.#set ??= this.#openSet());
    const own = dupFd(fence);
    if (epollCtl(epoll.fd, EPOLL_CTL_ADD, own.fd, readable) < 0) {
      const error = SysError.fromErrno('epoll_ctl', errno(), `fd ${own.fd}`);
      own[Symbol.dispose]();
      throw error;
    }
    this.#fence = own;
    poll.ref();
  }

  /** No callback before the next `start`. */
  stop(): void {
    if (this.#fence === null || this.#set === null) return;
    // Closing the duplicate does not take it out of the set while another descriptor of the fence is open.
    epollCtl(this.#set.epoll.fd, EPOLL_CTL_DEL, this.#fence.fd, readable);
    this.#fence[Symbol.dispose]();
    this.#fence = null;
    this.#set.poll.unref();
  }

  /** Calls back now if the fence has signalled, for a caller that would give up otherwise. The event loop does so, too. */
  check(): void {
    // The event loop may have found an earlier fence, replaced or stopped since in the same turn.
    if (this.#fence === null || this.#set === null) return;
    if (epollWait(this.#set.epoll.fd, readyEvent, 1, 0) <= 0) return;
    this.stop();
    this.#onSignalled();
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#set?.poll[Symbol.dispose]();
    this.#set?.epoll[Symbol.dispose]();
    this.#set = null;
  }

  #openSet(): { readonly epoll: OwnedFd; readonly poll: Poll } {
    const number = epollCreate1(EPOLL_CLOEXEC);
    if (number < 0) throw SysError.fromErrno('epoll_create1', errno());
    using stack = new DisposableStack();
    const epoll = stack.use(OwnedFd.adopt(number));
    const poll = Poll.readable(epoll, () => this.check()).unref();
    stack.move();
    return { epoll, poll };
  }
}

/** Whether a descriptor that a peer sent is a sync_file, and may be waited for. Never blocks. */
export function isSyncFile(fd: BorrowedFd): boolean {
  return readlinkSync(`/proc/self/fd/${fd.fd}`) === 'anon_inode:sync_file';
}
