/**
 * The vertical blanks of a monitor that does not exist: blank number n was at n refreshes after
 * the zero of CLOCK_MONOTONIC, whether anybody looked or not. Times are in milliseconds.
 */
export class VblankClock {
  readonly #periodMs: number;

  constructor(refreshMhz: number) {
    this.#periodMs = 1e6 / refreshMhz;
  }

  /** The latest blank at `timeMs`. */
  sequenceAt(timeMs: number): number {
    return Math.floor(timeMs / this.#periodMs);
  }

  timeOf(sequence: number): number {
    return sequence * this.#periodMs;
  }
}
