/** How much of one turn of the event loop a pump may take, ms. */
const SHARE_MS = 2;

/**
 * Work that comes in pieces and must not keep the event loop from turning: a queue of commands, a large copy, messages
 * to read. `step` does one piece and says whether there may be more. A pump runs pieces for its share of a turn and goes
 * on in the next, so everything else on the loop has its turn in between. However often it is started, it takes one share
 * a turn.
 */
export class Pump implements Disposable {
  readonly #step: () => boolean;
  readonly #isOnFlipPath: boolean;
  readonly #turn = (): void => {
    this.#next = undefined;
    this.#run(performance.now() + SHARE_MS);
  };
  #next: NodeJS.Immediate | undefined;
  #isRunning = false;
  #isDisposed = false;

  /**
   * `step` must take well under a millisecond. What it throws stops the pump and comes out of `start` or the event loop.
   * Looking at the clock allocates: with `isOnFlipPath`, `start` does the first piece without, which should be all there
   * is to do for a frame.
   */
  constructor(step: () => boolean, { isOnFlipPath = false } = {}) {
    this.#step = step;
    this.#isOnFlipPath = isOnFlipPath;
  }

  /** Whether the next share is scheduled. */
  get isBusy(): boolean {
    return this.#next !== undefined;
  }

  /** Works until there is nothing left or the share is used up. Does nothing if work goes on anyway. */
  start(): void {
    if (this.#next || this.#isRunning || this.#isDisposed) return;
    if (this.#isOnFlipPath && !this.#piece()) return;
    this.#run(performance.now() + SHARE_MS);
  }

  #run(end: number): void {
    while (this.#piece()) {
      if (performance.now() < end) continue;
      this.#next = setImmediate(this.#turn);
      return;
    }
  }

  #piece(): boolean {
    this.#isRunning = true;
    try {
      return this.#step() && !this.#isDisposed;
    } finally {
      this.#isRunning = false;
    }
  }

  /** Nothing is done after this, not even what was scheduled. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearImmediate(this.#next);
    this.#next = undefined;
  }
}
