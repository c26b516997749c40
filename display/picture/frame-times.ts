/** One frame of a screen, for a time line. */
export interface FrameTime {
  /** CLOCK_MONOTONIC. */
  readonly timeMs: number;
  /** How many pixels the guest said had changed; 0 for a screen that went dark, or a cursor that moved. */
  readonly damagedPixels: number;
}

const CAPACITY = 1024;

/** The newest frames of a screen, in memory that is there from the start. */
export class FrameTimes {
  readonly #times = new Float64Array(CAPACITY);
  readonly #damaged = new Uint32Array(CAPACITY);
  #count = 0;

  add(timeMs: number, damagedPixels: number): void {
    const at = this.#count++ % CAPACITY;
    this.#times[at] = timeMs;
    this.#damaged[at] = damagedPixels;
  }

  /** Oldest first. */
  toArray(): FrameTime[] {
    const length = Math.min(this.#count, CAPACITY);
    return Array.from({ length }, (_, index) => {
      const at = (this.#count - length + index) % CAPACITY;
      return { timeMs: this.#times[at]!, damagedPixels: this.#damaged[at]! };
    });
  }
}
