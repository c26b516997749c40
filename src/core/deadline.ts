/**
 * Calls back when it has not been started again for a while. It does not keep the process alive.
 *
 * Starting it again, which each frame does, only notes the time: the timer looks at that when it ends, and waits for the
 * rest. Starting a timer again costs more, and leaves garbage.
 */
export class Deadline implements Disposable {
  readonly #ms: number;
  readonly #onMissed: () => void;
  #startedMs = 0;
  #timeout: NodeJS.Timeout | null = null;
  #isDisposed = false;

  constructor(ms: number, onMissed: () => void) {
    this.#ms = ms;
    this.#onMissed = onMissed;
  }

  start(): void {
    this.#startedMs = performance.now();
    if (!this.#timeout && !this.#isDisposed) this.#wait(this.#ms);
  }

  /** Starting it does nothing from here on. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.#timeout) clearTimeout(this.#timeout);
    this.#timeout = null;
  }

  #wait(ms: number): void {
    this.#timeout = setTimeout(this.#onTimeout, ms).unref();
  }

  readonly #onTimeout = (): void => {
    this.#timeout = null;
    const left = this.#startedMs + this.#ms - performance.now();
    if (left > 0) this.#wait(Math.ceil(left));
    else this.#onMissed();
  };
}
