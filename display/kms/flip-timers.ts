import { monotonicMs } from '../../src/sys/clock.ts';

/** Pace of a guest whose picture nobody can see, while no mode says another. */
const DARK_REFRESH_MHZ = 60_000;

/** No flip takes longer. */
const PATIENCE_MS = 1000;

/**
 * When an output stops waiting: after a refresh for a frame that no event ends, when patience is lost for the others.
 * Timers fire once and are started again: none is made for a frame.
 */
export class FlipTimers implements Disposable {
  readonly #onBeat: () => void;
  readonly #watchdog: NodeJS.Timeout;
  #beat: NodeJS.Timeout;
  /** While the CRTC is busy: when to give up; else 0. */
  #busyUntilMs = 0;

  /** `onBeat` is called a refresh after `beat`, `onBark` some time after `watch`, either once at the start as well. */
  constructor(onBeat: () => void, onBark: () => void) {
    this.#onBeat = onBeat;
    this.#beat = this.#makeBeat(DARK_REFRESH_MHZ);
    this.#watchdog = setTimeout(onBark, PATIENCE_MS).unref();
  }

  /** Begins a beat. */
  setRefresh(refreshMhz: number): void {
    clearTimeout(this.#beat);
    this.#beat = this.#makeBeat(refreshMhz);
  }

  beat(): void {
    this.#beat.refresh();
  }

  watch(): void {
    this.#watchdog.refresh();
  }

  /** Whether the CRTC was busy when it was asked last; patience begins with the first time. */
  setBusy(isBusy: boolean): void {
    if (!isBusy) this.#busyUntilMs = 0;
    else if (this.#busyUntilMs === 0) this.#busyUntilMs = monotonicMs() + PATIENCE_MS;
  }

  /** It was, and it is worth asking again. */
  get mayRetry(): boolean {
    return this.#busyUntilMs > monotonicMs();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#beat);
    clearTimeout(this.#watchdog);
  }

  #makeBeat(refreshMhz: number): NodeJS.Timeout {
    return setTimeout(this.#onBeat, 1_000_000 / refreshMhz).unref();
  }
}
