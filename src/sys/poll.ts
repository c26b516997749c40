import koffi, { type node } from 'koffi';
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_EVENT_SIZE } from '../../protocols/linux-epoll.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { errno, epollCreate1, epollCtl } from './libc.ts';
import { SysError } from './errors.ts';

export interface PollEvents {
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** The peer hung up its sending side, or all of it. */
  readonly disconnect?: boolean;
}

const noEvents = new Uint8Array(EPOLL_EVENT_SIZE);

// koffi stops a poll when its handle is garbage-collected, so live ones are kept here, by
// descriptor: libuv allows only one poll for each.
const live = new Map<number, Poll>();

/**
 * Calls back from the event loop while a descriptor is ready (level-triggered) and keeps the
 * process alive unless `unref`ed. One poll per descriptor number; dispose it *before* the
 * descriptor is closed. After an error on the descriptor (EPOLLERR: a peer that left without
 * reading all) the callback runs a last time, with no event set, and the poll is over: read until
 * reading shows the error.
 */
export class Poll implements Disposable {
  readonly #fd: number;
  readonly #onReady: (ready: PollEvents) => void;
  #events: PollEvents;
  #paused = false;
  #handle: node.PollHandle | null;

  private constructor(fd: BorrowedFd, events: PollEvents, onReady: (ready: PollEvents) => void) {
    this.#fd = fd.fd;
    this.#events = events;
    this.#onReady = onReady;
    checkPollable(this.#fd);
    this.#handle = koffi.node.poll(this.#fd, events, this.#dispatch as never);
    live.set(this.#fd, this);
  }

  /**
   * SysError EEXIST if the descriptor has a poll already, EPERM if it is one that cannot be
   * polled (a regular file), EBADF.
   */
  static watch(fd: BorrowedFd, events: PollEvents, onReady: (ready: PollEvents) => void): Poll {
    return new Poll(fd, events, onReady);
  }

  static readable(fd: BorrowedFd, onReady: (ready: PollEvents) => void): Poll {
    return new Poll(fd, { readable: true }, onReady);
  }

  static writable(fd: BorrowedFd, onReady: () => void): Poll {
    return new Poll(fd, { writable: true }, onReady);
  }

  /** Changes the events that are waited for, and begins again after an error. */
  update(events: PollEvents): void {
    this.#events = events;
    if (!this.#paused) this.#handle?.start(events, this.#dispatch as never);
  }

  /** No callback until `resume`, which reports what became ready in between. */
  pause(): void {
    this.#paused = true;
    this.#handle?.stop();
  }

  resume(): void {
    this.#paused = false;
    this.#handle?.start(this.#events, this.#dispatch as never);
  }

  ref(): this {
    this.#handle?.ref();
    return this;
  }

  /** The process may end while this poll waits. */
  unref(): this {
    this.#handle?.unref();
    return this;
  }

  [Symbol.dispose](): void {
    if (this.#handle === null) return;
    this.#handle.close();
    this.#handle = null;
    live.delete(this.#fd);
  }

  // koffi passes a status first, which its type declaration omits.
  readonly #dispatch = (_status: number, ready: PollEvents): void => {
    isDispatching = true;
    try {
      this.#onReady(ready);
    } catch (error) {
      rethrowUncaught(error);
    }
    isDispatching = false;
    runLast();
    runQueued();
  };
}

let isDispatching = false;
const IGNORE = (): void => undefined;
/** What `runLast` calls: the first `lastCount` of them. It keeps its length, because emptied arrays give their memory back. */
const last: (() => void)[] = [];
let lastCount = 0;

/**
 * Calls `callback` once, at the end of the callback of a poll that runs now; if none does, in this turn's `setImmediate`.
 * What the callback does several times can then be done once, such as sending. Allocates nothing in a poll.
 */
export function callLast(callback: () => void): void {
  if (isDispatching) last[lastCount++] = callback;
  else setImmediate(callback);
}

function runLast(): void {
  for (let i = 0; i < lastCount; i++) {
    const callback = last[i]!;
    last[i] = IGNORE;
    try {
      callback();
    } catch (error) {
      rethrowUncaught(error);
    }
  }
  lastCount = 0;
}

/**
 * Node's own step after each callback of a handle: it runs process.nextTick callbacks and microtasks. Deprecated without
 * a successor (DEP0134), so a Node that drops it is provided for.
 */
const runTicksAndMicrotasks =
  (process as { _tickCallback?: () => void })._tickCallback ?? (() => void setImmediate(() => undefined));

/**
 * Runs what a callback queued: ticks, promise reactions, and what those queue in turn.
 *
 * koffi calls back with napi_call_function. That opens no callback scope (napi_make_callback would), so Node does not
 * notice that JavaScript ran, and leaves the queues alone until it next calls JavaScript itself: until the next timer
 * if the process is idle otherwise. Before 26.4 an empty scope in each turn of the loop hid this
 * (nodejs/node#62969 removed it). `setImmediate` would make Node call in the same turn, but costs 200 to 400 bytes for
 * each wake-up, and a flip has several.
 */
function runQueued(): void {
  for (;;) {
    try {
      runTicksAndMicrotasks();
      return;
    } catch (error) {
      // A tick threw. The ticks behind it are still to run.
      rethrowUncaught(error);
    }
  }
}

/**
 * Makes `error` an uncaught exception. Thrown through koffi it would surface in some later, unrelated native call;
 * thrown from a microtask, Node handles it at once and also resets the async hooks that a failed tick left behind.
 */
function rethrowUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** koffi aborts the process on a descriptor that libuv refuses, so try it with epoll first. */
function checkPollable(fd: number): void {
  if (live.has(fd)) throw new SysError('poll', 'EEXIST', `fd ${fd} has a poll already`);
  const epfd = epollCreate1(EPOLL_CLOEXEC);
  if (epfd < 0) throw SysError.fromErrno('epoll_create1', errno());
  const probe = OwnedFd.adopt(epfd);
  try {
    if (epollCtl(epfd, EPOLL_CTL_ADD, fd, noEvents) < 0) throw SysError.fromErrno('epoll_ctl', errno(), `fd ${fd}`);
  } finally {
    probe[Symbol.dispose]();
  }
}
