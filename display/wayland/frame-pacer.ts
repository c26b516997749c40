import { MutablePresentation, type Presentation, PresentedFlags } from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { VblankClock, VblankTimer } from '../../src/core/vblank.ts';
import type { WlCallback, WlSurface, WpPresentationFeedback } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { AnswerDeadline } from './deadline.ts';

/** A window whose frame the compositor has not shown for this long, or for twice that, is hidden. */
const HIDDEN_AFTER_MS = 250;
const DEFAULT_REFRESH_MHZ = 60_000;

/**
 * While the window cannot be seen, a guest draws for a monitor of this rate: whatever it draws is work for nothing, and
 * so is the copy of what has changed.
 */
const ASLEEP_REFRESH_MHZ = 10_000;

export interface PacerListener {
  /** The frame in flight is on screen or, with flag HIDDEN, cannot be seen. */
  shown(presentation: Presentation): void;
  /** It is asleep no more: commit what is due. */
  woken(): void;
}

/**
 * Determines when the frame in flight ends: when wp_presentation says that it was presented or, on
 * a compositor without that protocol, when the frame callback asks for the next one. A frame callback is also asked for
 * after a frame that was not presented: frames of a hidden window end by a slow timer, and the callback that is
 * outstanding shows when the window is visible again. So no second one is requested, and until then nothing need be
 * committed: the pacer is asleep.
 */
export class FramePacer implements Disposable {
  readonly #listener: PacerListener;
  readonly #timer = new VblankTimer(() => this.#timedOut());
  readonly #answerDeadline = new AnswerDeadline(HIDDEN_AFTER_MS, () => this.#unanswered());
  readonly #frameListener = { done: () => this.#frameDone() };
  readonly #feedbackListener = {
    presented: (
      secHigh: number,
      secLow: number,
      nsec: number,
      refresh: number,
      seqHigh: number,
      seqLow: number,
      flags: number,
    ) => this.#presented((secHigh * 2 ** 32 + secLow) * 1000 + nsec / 1e6, refresh, seqHigh * 2 ** 32 + seqLow, flags),
    discarded: () => this.#discarded(),
  };
  readonly #slowClock = new VblankClock(ASLEEP_REFRESH_MHZ);
  #clock = new VblankClock(DEFAULT_REFRESH_MHZ);
  #refreshMhz = DEFAULT_REFRESH_MHZ;
  #compositor: Compositor | null = null;
  #surface: WlSurface | null = null;
  #callback: WlCallback | null = null;
  #feedback: WpPresentationFeedback | null = null;
  #isInFlight = false;
  /** The compositor has said when the last frame was presented, and can be expected to do so for the next. */
  #isPresented = false;
  /** The frame in flight ends by the timer, with `#timedFlags`. */
  #isTimed = false;
  #timedFlags = 0;
  #isHidden = false;
  /** The compositor says that it draws the window no more. */
  #isSuspended = false;
  #sequence = 0;
  readonly #presentation = new MutablePresentation();

  constructor(listener: PacerListener) {
    this.#listener = listener;
  }

  get refreshMhz(): number {
    return this.#refreshMhz;
  }

  /** Of the monitor the window is on; set to 0 if unknown. */
  set refreshMhz(refreshMhz: number) {
    const known = refreshMhz > 0 ? refreshMhz : DEFAULT_REFRESH_MHZ;
    if (known === this.#refreshMhz) return;
    this.#refreshMhz = known;
    this.#clock = new VblankClock(known);
  }

  /** Starts a frame: `onShown` follows in a later turn of the event loop, unless `abandon` comes first. */
  begin(): void {
    this.#isInFlight = true;
    this.#isTimed = false;
  }

  get isInFlight(): boolean {
    return this.#isInFlight;
  }

  /** The window cannot be seen, and `woken` follows when it can. */
  get isAsleep(): boolean {
    return this.#isHidden && this.#callback !== null;
  }

  /** The compositor says that it does not draw the window for now, or that it does again. */
  suspend(isSuspended: boolean): void {
    if (isSuspended === this.#isSuspended) return;
    this.#isSuspended = isSuspended;
    if (isSuspended) {
      if (!this.#isInFlight) this.#sleep();
      else if (!this.#isTimed) this.#unanswered();
    } else if (this.isAsleep) {
      this.#wake();
    }
  }

  /** The next commit of `surface` contains the frame in flight. */
  commit(compositor: Compositor, surface: WlSurface): void {
    this.#compositor = compositor;
    this.#surface = surface;
    if (this.#isSuspended) this.#isHidden = true;
    if (this.#isHidden || !this.#isPresented) this.#askForCallback(surface);
    if (this.#isHidden) {
      this.timed(PresentedFlags.HIDDEN);
      return;
    }
    if (compositor.presentation) {
      this.#feedback = compositor.presentation.feedback(surface);
      this.#feedback.listener = this.#feedbackListener;
    }
    this.wait();
  }

  /** Waits for the compositor, and ends the frame in flight as hidden if nothing happens. */
  wait(): void {
    this.#answerDeadline.start();
  }

  /**
   * Ends the frame in flight at the next refresh with these flags: it changes nothing on screen, or
   * cannot be shown.
   */
  timed(flags: number): void {
    this.#isTimed = true;
    this.#timedFlags = flags;
    this.#timer.set(this.isAsleep ? this.#slowClock : this.#clock);
  }

  /** Drops the frame in flight: `onShown` does not follow. */
  abandon(): void {
    this.#isInFlight = false;
    this.#isTimed = false;
    this.#unlisten();
  }

  /** The surface is gone: the compositor will send nothing about it, and the frame in flight ends as hidden. */
  reset(): void {
    this.#unlisten();
    this.#compositor = null;
    this.#surface = null;
    this.#isPresented = false;
    this.#isHidden = false;
    this.#isSuspended = false;
    if (this.#isInFlight && !this.#isTimed) this.timed(PresentedFlags.HIDDEN);
  }

  [Symbol.dispose](): void {
    this.reset();
    this.#isInFlight = false;
    this.#timer[Symbol.dispose]();
    this.#answerDeadline[Symbol.dispose]();
  }

  #unlisten(): void {
    if (this.#callback) this.#callback.listener = null;
    if (this.#feedback) this.#feedback.listener = null;
    this.#callback = null;
    this.#feedback = null;
  }

  #askForCallback(surface: WlSurface): void {
    if (this.#callback) return;
    this.#callback = surface.frame();
    this.#callback.listener = this.#frameListener;
  }

  /** What was committed is hidden: a frame callback tells when the window is seen again. */
  #sleep(): void {
    this.#hide();
    if (this.#callback || !this.#surface) return;
    this.#askForCallback(this.#surface);
    this.#surface.commit();
  }

  #hide(): void {
    this.#isHidden = true;
    this.#isPresented = false;
  }

  #frameDone(): void {
    this.#callback = null;
    if (this.#isHidden) this.#wake();
    // If a presentation feedback is outstanding, the frame ends with that.
    else if (!this.#feedback && !this.#isTimed) this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, 0);
  }

  #wake(): void {
    this.#isHidden = false;
    this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, 0);
    this.#listener.woken();
  }

  #presented(timeMs: number, refreshNs: number, sequence: number, flags: number): void {
    this.#feedback = null;
    this.#isPresented = true;
    this.#sequence = sequence > 0 ? sequence : this.#sequence + 1;
    const isComparable = this.#compositor?.isMonotonic ?? false;
    const refreshMhz = refreshNs > 0 ? Math.round(1e12 / refreshNs) : 0;
    if (!this.#isTimed) this.#end(isComparable ? timeMs : monotonicMs(), refreshMhz, this.#sequence, flags);
  }

  /**
   * The frame was replaced before it was presented, or is not visible. Without an outstanding frame callback it is not
   * known which: the next frame asks for one.
   */
  #discarded(): void {
    this.#feedback = null;
    this.#isPresented = false;
    if (!this.#callback && !this.#isTimed) this.timed(0);
  }

  #unanswered(): void {
    if (!this.#isInFlight || this.#isTimed) return;
    const feedback = this.#feedback;
    this.#feedback = null;
    if (feedback) {
      feedback.listener = null;
      this.#sleep();
    } else {
      // It waits for something before its commit, or for a frame callback already.
      this.#hide();
    }
    this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, PresentedFlags.HIDDEN);
  }

  #timedOut(): void {
    // The frame may have ended before the timer, because the window became visible again.
    if (this.#isTimed) this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, this.#timedFlags);
  }

  #end(timeMs: number, refreshMhz: number, sequence: number, flags: number): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#isTimed = false;
    this.#listener.shown(this.#presentation.set(timeMs, refreshMhz, sequence, flags));
  }
}
