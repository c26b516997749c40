/**
 * Calls back when it has not been started again for a while: at least the given time, and less than twice that. It does not
 * keep the process alive.
 *
 * Starting it again, which each frame does, only notes that: the timer waits once more then. To start a timer again, or to
 * look at the clock, costs more and leaves garbage.
 */
export class Deadline implements Disposable {
  readonly #ms: number;
  readonly #onMissed: () => void;
  #timeout: NodeJS.Timeout | null = null;
  #isWaiting = false;
  /** It was started again since the timer was. */
  #isStartedAgain = false;
  #isDisposed = false;

  constructor(ms: number, onMissed: () => void) {
    this.#ms = ms;
    this.#onMissed = onMissed;
  }

  start(): void {
    if (this.#isWaiting) this.#isStartedAgain = true;
    else if (!this.#isDisposed) this.#wait();
  }

  /** Starting it does nothing from here on. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#isWaiting = false;
    if (this.#timeout) clearTimeout(this.#timeout);
  }

  #wait(): void {
    this.#isWaiting = true;
    this.#isStartedAgain = false;
    if (this.#timeout) this.#timeout.refresh();
    else this.#timeout = setTimeout(this.#onTimeout, this.#ms).unref();
  }

  readonly #onTimeout = (): void => {
    if (this.#isStartedAgain) {
      this.#wait();
      return;
    }
    this.#isWaiting = false;
    this.#onMissed();
  };
}
