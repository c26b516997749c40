import { monotonicMs } from '../sys/clock.ts';

/**
 * The vertical blanks of a virtual monitor: blank n is n refreshes, and the part of one that `phase` is, after the zero of
 * CLOCK_MONOTONIC. Times are in milliseconds.
 */
export class VblankClock {
  readonly #periodMs: number;
  readonly #phaseMs: number;

  constructor(refreshMhz: number, phase = 0) {
    this.#periodMs = 1e6 / refreshMhz;
    this.#phaseMs = this.#periodMs * phase;
  }

  /** The latest blank at `timeMs`. */
  sequenceAt(timeMs: number): number {
    return Math.floor((timeMs - this.#phaseMs) / this.#periodMs);
  }

  timeOf(sequence: number): number {
    return sequence * this.#periodMs + this.#phaseMs;
  }
}

/** Whether a phase is taken, by its number. */
const taken: boolean[] = [];

/**
 * A phase that no other virtual monitor of this process has as long as it is not disposed, so that guests' frames are not
 * all copied at the same blank. That of a monitor that is alone is 0.
 */
export class BlankPhase implements Disposable {
  /** From 0 to less than 1. */
  readonly value: number;
  readonly #number: number;
  #isDisposed = false;

  constructor() {
    const free = taken.indexOf(false);
    this.#number = free === -1 ? taken.length : free;
    taken[this.#number] = true;
    this.value = spread(this.#number);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    taken[this.#number] = false;
  }
}

/** 0, 1/2, 1/4, 3/4, 1/8, 5/8 and so on, each in a gap that those before have left (the van der Corput sequence). */
function spread(number: number): number {
  let value = 0;
  for (let rest = number, part = 1 / 2; rest > 0; rest >>>= 1, part /= 2) if (rest & 1) value += part;
  return value;
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
