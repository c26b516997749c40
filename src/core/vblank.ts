import { monotonicMs } from '../sys/clock.ts';

/**
 * The vertical blanks of a virtual monitor: blank n is n refreshes after the zero of
 * CLOCK_MONOTONIC. Times are in milliseconds.
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

/** Waits for one moment at a time: a vertical blank, or another. After dispose it does nothing and must not be set. */
export class VblankTimer implements Disposable {
  readonly #onBlank: () => void;
  readonly #onTimeout = (): void => this.#timedOut();
  /** By the whole milliseconds they take, which is all that timers count: a frame starts one again and makes none. */
  readonly #timeouts: NodeJS.Timeout[] = [];
  #dueMs = 0;

  constructor(onBlank: () => void) {
    this.#onBlank = onBlank;
  }

  /** For the next blank of `clock`, whose number it returns. Must not be set already. */
  set(clock: VblankClock): number {
    const now = monotonicMs();
    const sequence = clock.sequenceAt(now) + 1;
    this.at(clock.timeOf(sequence), now);
    return sequence;
  }

  /** For a time of CLOCK_MONOTONIC that is not before `nowMs`. Must not be set already. */
  at(timeMs: number, nowMs: number): void {
    this.#dueMs = timeMs;
    this.#wait(timeMs - nowMs);
  }

  [Symbol.dispose](): void {
    this.#timeouts.forEach(clearTimeout);
  }

  #timedOut(): void {
    // Timers start from a truncated clock.
    const early = this.#dueMs - monotonicMs();
    if (early > 0) this.#wait(early);
    else this.#onBlank();
  }

  #wait(ms: number): void {
    const whole = Math.ceil(ms);
    const timeout = this.#timeouts[whole];
    if (timeout) timeout.refresh();
    else this.#timeouts[whole] = setTimeout(this.#onTimeout, whole);
  }
}
