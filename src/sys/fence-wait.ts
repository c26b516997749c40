import { DisposableStack } from './disposable-stack.ts';
import { type BorrowedFd, dupFd } from './fd.ts';
import { Poll } from './poll.ts';

/** Calls back from the event loop when a sync_file has signalled; one at a time. */
export class FenceWait implements Disposable {
  readonly #onSignalled: () => void;
  #poll: DisposableStack | null = null;

  constructor(onSignalled: () => void) {
    this.#onSignalled = onSignalled;
  }

  get isWaiting(): boolean {
    return this.#poll !== null;
  }

  /** The fence stays the caller's, who may close it; any number may wait for one. SysError if it cannot be polled. */
  start(fence: BorrowedFd): void {
    this.stop();
    using stack = new DisposableStack();
    // A descriptor takes one poll.
    const own = stack.use(dupFd(fence));
    stack.use(
      Poll.readable(own, () => {
        this.stop();
        this.#onSignalled();
      }),
    );
    this.#poll = stack.move();
  }

  /** No call back before the next `start`. */
  stop(): void {
    this.#poll?.[Symbol.dispose]();
    this.#poll = null;
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
