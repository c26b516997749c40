import { Deadline } from '../../src/core/deadline.ts';

/**
 * A deadline for answers of the compositor. A process that was stopped, or was busy for longer than that, finds the timer
 * due before it has read what the compositor sent in the meantime; so the callback follows only after the event loop has
 * read its sockets once more.
 */
export class AnswerDeadline implements Disposable {
  readonly #onMissed: () => void;
  readonly #deadline: Deadline;
  /** The time is over, and the sockets are being read once more. */
  #isOver = false;

  constructor(ms: number, onMissed: () => void) {
    this.#onMissed = onMissed;
    this.#deadline = new Deadline(ms, () => {
      this.#isOver = true;
      // Timers run before the event loop polls, immediates after.
      setImmediate(this.#onPolled);
    });
  }

  start(): void {
    this.#isOver = false;
    this.#deadline.start();
  }

  [Symbol.dispose](): void {
    this.#isOver = false;
    this.#deadline[Symbol.dispose]();
  }

  readonly #onPolled = (): void => {
    if (!this.#isOver) return;
    this.#isOver = false;
    this.#onMissed();
  };
}
