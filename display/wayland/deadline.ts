/**
 * Calls back when it has not been started again for a while. A process that was stopped, or was busy for longer than
 * that, finds the timer due before it has read what the compositor sent in the meantime; so the callback follows only
 * after the event loop has read its sockets once more. Starting again allocates nothing.
 */
export class Deadline implements Disposable {
  readonly #ms: number;
  readonly #onMissed: () => void;
  #timeout: NodeJS.Timeout | null = null;
  /** The time is over, and the sockets are being read once more. */
  #isOver = false;

  constructor(ms: number, onMissed: () => void) {
    this.#ms = ms;
    this.#onMissed = onMissed;
  }

  start(): void {
    this.#isOver = false;
    if (this.#timeout) this.#timeout.refresh();
    else this.#timeout = setTimeout(this.#onTimeout, this.#ms);
  }

  /** It must not be started again. */
  [Symbol.dispose](): void {
    this.#isOver = false;
    if (this.#timeout) clearTimeout(this.#timeout);
  }

  readonly #onTimeout = (): void => {
    this.#isOver = true;
    // Timers run before the event loop polls, immediates after.
    setImmediate(this.#onPolled);
  };

  readonly #onPolled = (): void => {
    if (!this.#isOver) return;
    this.#isOver = false;
    this.#onMissed();
  };
}
