import { PresentedFlags } from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { VblankClock, VblankTimer } from '../../src/core/vblank.ts';
import type { WlCallback, WlSurface, WpPresentationFeedback } from './client/index.ts';
import type { Compositor } from './compositor.ts';

/** A compositor that has asked for no frame this long shows the window to nobody. */
const HIDDEN_AFTER_MS = 250;
const DEFAULT_REFRESH_MHZ = 60_000;

/** The frame in flight is on screen, or nobody can see it. */
export type OnShown = (timeMs: number, refreshMhz: number, sequence: number, flags: number) => void;

/**
 * Says when the frame in flight is done: when the compositor has presented it (wp_presentation),
 * else when it asks for the next one. In front of a hidden window frames end at the refresh of a
 * clock of ours; the frame callback that is still to come tells when it is seen again, so there is
 * never more than one.
 */
export class FramePacer implements Disposable {
  readonly #onShown: OnShown;
  readonly #timer = new VblankTimer(() => this.#timedOut());
  readonly #frameListener = { done: () => this.#frameDone() };
  readonly #feedbackListener = {
    presented: (secHigh: number, secLow: number, nsec: number, refresh: number, seqHigh: number, seqLow: number, flags: number) =>
      this.#presented((secHigh * 2 ** 32 + secLow) * 1000 + nsec / 1e6, refresh, seqHigh * 2 ** 32 + seqLow, flags),
    discarded: () => this.#discarded(),
  };
  #clock = new VblankClock(DEFAULT_REFRESH_MHZ);
  #refreshMhz = DEFAULT_REFRESH_MHZ;
  #patience: NodeJS.Timeout | null = null;
  #compositor: Compositor | null = null;
  #callback: WlCallback | null = null;
  #feedback: WpPresentationFeedback | null = null;
  #isInFlight = false;
  /** The frame in flight ends at the timer, with these flags. */
  #isTimed = false;
  #timedFlags = 0;
  #isHidden = false;
  #sequence = 0;

  constructor(onShown: OnShown) {
    this.#onShown = onShown;
  }

  get refreshMhz(): number {
    return this.#refreshMhz;
  }

  /** Of the screen the window is on; 0 when unknown. */
  set refreshMhz(refreshMhz: number) {
    const known = refreshMhz > 0 ? refreshMhz : DEFAULT_REFRESH_MHZ;
    if (known === this.#refreshMhz) return;
    this.#refreshMhz = known;
    this.#clock = new VblankClock(known);
  }

  /** A frame is in flight from now on: `onShown` follows, from a later turn of the event loop. */
  begin(): void {
    this.#isInFlight = true;
    this.#isTimed = false;
  }

  get isInFlight(): boolean {
    return this.#isInFlight;
  }

  /** The frame in flight goes out with the commit that follows. */
  commit(compositor: Compositor, surface: WlSurface): void {
    this.#compositor = compositor;
    if (!this.#callback) {
      this.#callback = surface.frame();
      this.#callback.listener = this.#frameListener;
    }
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

  /** The frame in flight waits for the compositor, but not for ever. */
  wait(): void {
    if (this.#patience) this.#patience.refresh();
    else this.#patience = setTimeout(() => this.#lostPatience(), HIDDEN_AFTER_MS);
  }

  /** The frame in flight changes nothing on screen, or cannot: it ends at the next refresh, with these flags. */
  timed(flags: number): void {
    this.#isTimed = true;
    this.#timedFlags = flags;
    this.#timer.set(this.#clock);
  }

  /** The frame in flight has no listener any more: `onShown` does not follow. */
  abandon(): void {
    this.#isInFlight = false;
    this.#isTimed = false;
    this.#unlisten();
  }

  /** The surface is gone, and with it whatever the compositor was to say about it. */
  reset(): void {
    this.#unlisten();
    this.#compositor = null;
    this.#isHidden = false;
    if (this.#isInFlight && !this.#isTimed) this.timed(PresentedFlags.HIDDEN);
  }

  [Symbol.dispose](): void {
    this.reset();
    this.#isInFlight = false;
    this.#timer[Symbol.dispose]();
    if (this.#patience) clearTimeout(this.#patience);
  }

  #unlisten(): void {
    if (this.#callback) this.#callback.listener = null;
    if (this.#feedback) this.#feedback.listener = null;
    this.#callback = null;
    this.#feedback = null;
  }

  #frameDone(): void {
    const wasHidden = this.#isHidden;
    this.#callback = null;
    this.#isHidden = false;
    // With a feedback under way the frame ends when that says so.
    if (!this.#feedback && (wasHidden || !this.#isTimed)) this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, 0);
  }

  #presented(timeMs: number, refreshNs: number, sequence: number, flags: number): void {
    this.#feedback = null;
    this.#sequence = sequence > 0 ? sequence : this.#sequence + 1;
    const isComparable = this.#compositor?.isMonotonic ?? false;
    const refreshMhz = refreshNs > 0 ? Math.round(1e12 / refreshNs) : 0;
    if (!this.#isTimed) this.#end(isComparable ? timeMs : monotonicMs(), refreshMhz, this.#sequence, flags);
  }

  /** Replaced before it was seen, or nobody looks; the frame callback knows which. */
  #discarded(): void {
    this.#feedback = null;
    if (!this.#callback && !this.#isTimed) this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, 0);
  }

  #lostPatience(): void {
    if (!this.#isInFlight || this.#isTimed) return;
    if (this.#feedback) this.#feedback.listener = null;
    this.#feedback = null;
    this.#isHidden = true;
    this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, PresentedFlags.HIDDEN);
  }

  #timedOut(): void {
    // Its frame may have ended early: the window is seen again.
    if (this.#isTimed) this.#end(monotonicMs(), this.#refreshMhz, ++this.#sequence, this.#timedFlags);
  }

  #end(timeMs: number, refreshMhz: number, sequence: number, flags: number): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#isTimed = false;
    this.#onShown(timeMs, refreshMhz, sequence, flags);
  }
}
