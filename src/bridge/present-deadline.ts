import type { Output, Presentation } from '../core/output.ts';
import { VblankTimer } from '../core/vblank.ts';
import { monotonicMs } from '../sys/clock.ts';

/** When frames are presented: `safe`, at once; `low`, as late as they can still be on screen at the next vertical blank. */
export type Latency = 'low' | 'safe';

/** Before the vertical blank. Timers count whole milliseconds and may be one late; the commit takes a fraction of one. */
const MARGIN_MS = 3;
/** Later than this after its blank, a frame was for the next one. */
const TOLERANCE_MS = 1;

/**
 * Puts off a frame until just before the vertical blank, so that it shows what the guest has drawn by then. A frame that
 * misses its blank makes the next ones a millisecond earlier, for good; at the worst, all are presented at once.
 */
export class PresentDeadline implements Disposable {
  readonly #output: Output;
  readonly #timer: VblankTimer;
  #marginMs = MARGIN_MS;
  /** The blank that the frame put off is for. 0: none was since the last frame on screen. */
  #blankMs = 0;
  #isWaiting = false;

  constructor(output: Output, onDue: () => void) {
    this.#output = output;
    this.#timer = new VblankTimer(() => {
      this.#isWaiting = false;
      onDue();
    });
  }

  /** Whether the next frame is to wait until `onDue` is called. Once it was, the frame waits no more, however late that is. */
  wait(): boolean {
    if (this.#isWaiting) return true;
    if (this.#blankMs > 0) return false;
    const now = monotonicMs();
    const blankMs = this.#output.nextBlank?.(now) ?? 0;
    if (blankMs - this.#marginMs <= now) return false;
    this.#blankMs = blankMs;
    this.#isWaiting = true;
    this.#timer.at(blankMs - this.#marginMs, now);
    return true;
  }

  /** The frame presented last is on screen. */
  shown(presentation: Pick<Presentation, 'timeMs'>): void {
    if (this.#blankMs > 0 && presentation.timeMs > this.#blankMs + TOLERANCE_MS) this.#marginMs++;
    this.#blankMs = 0;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}
