import type { Handle, Presentation } from '../core/output.ts';
import { monotonicMs } from '../sys/clock.ts';

/** How long after the guest's flush a stage came, of many frames, in ms. */
export interface AgeStats {
  readonly median: number;
  readonly p99: number;
}

/**
 * The ages of frames: since the guest's flush was handled until all that must be copied was, until the output had the frame,
 * until it was on screen, and until its buffer was released. Null: not seen yet. Frames that a newer one replaced before
 * they were presented do not count.
 */
export interface FrameAgesStats {
  readonly staged: AgeStats | null;
  readonly presented: AgeStats | null;
  readonly onScreen: AgeStats | null;
  readonly released: AgeStats | null;
}

/** When a frame came to each stage: CLOCK_MONOTONIC in ms. */
export interface FrameTimes {
  readonly flushed: number;
  readonly staged: number;
  readonly presented: number;
  readonly onScreen: number;
  /** Null if its buffer was presented again before it was released. */
  readonly released: number | null;
}

/** Reading the clock takes time and leaves garbage, so one frame of so many is measured. */
const EVERY = 256;
/** How many frames the figures are of. */
const KEPT = 256;

/** The ages of one stage. */
class Ages {
  readonly #ages = new Float64Array(KEPT);
  #count = 0;

  add(age: number): void {
    this.#ages[this.#count++ % KEPT] = age;
  }

  get stats(): AgeStats | null {
    const ages = this.#ages.slice(0, Math.min(this.#count, KEPT)).sort();
    if (ages.length === 0) return null;
    const at = (share: number): number => ages[Math.ceil(ages.length * share) - 1]!;
    return { median: at(0.5), p99: at(0.99) };
  }
}

/** The times of a frame so far, in fields that are used again. */
class Times {
  isUsed = false;
  flushed = 0;
  staged = 0;
  presented = 0;
  onScreen = 0;
  /** Null until it is. A compositor that copies releases a buffer before its frame is on screen. */
  released: number | null = null;
  handle: Handle | null = null;
}

/** Measures frames of a screen, from flush to release. */
export class FrameAges {
  readonly #staged = new Ages();
  readonly #presented = new Ages();
  readonly #onScreen = new Ages();
  readonly #released = new Ages();
  readonly #now: () => number;
  #flushes = 0;
  /** The frame that is not presented yet, the one that is not on screen yet, and the one that is not released yet. */
  #waiting = new Times();
  #inFlight = new Times();
  #shown = new Times();
  #isStaged = false;
  readonly #tracers = new Set<(times: FrameTimes) => void>();

  constructor(now: () => number = monotonicMs) {
    this.#now = now;
  }

  get stats(): FrameAgesStats {
    return {
      staged: this.#staged.stats,
      presented: this.#presented.stats,
      onScreen: this.#onScreen.stats,
      released: this.#released.stats,
    };
  }

  /** Measures every frame and hands out its times, when it was released or its buffer is presented again, until the result is called. */
  trace(tracer: (times: FrameTimes) => void): () => void {
    this.#tracers.add(tracer);
    return () => void this.#tracers.delete(tracer);
  }

  /** The guest has flushed. A frame that was not presented yet is superseded. */
  flushed(): void {
    const frame = this.#waiting;
    if (++this.#flushes % EVERY !== 0 && !frame.isUsed && this.#tracers.size === 0) return;
    frame.isUsed = true;
    frame.flushed = this.#now();
    this.#isStaged = false;
  }

  /** All of the frame is there to be presented: it need not be copied, or was. */
  staged(): void {
    if (!this.#waiting.isUsed || this.#isStaged) return;
    this.#isStaged = true;
    this.#waiting.staged = this.#now();
  }

  /** The output has the frame, which shows `handle`. */
  presented(handle: Handle | null): void {
    const frame = this.#waiting;
    if (!frame.isUsed) return;
    this.#waiting = this.#inFlight;
    this.#waiting.isUsed = false;
    this.#inFlight = frame;
    frame.handle = handle;
    frame.presented = this.#now();
    this.#staged.add(frame.staged - frame.flushed);
    this.#presented.add(frame.presented - frame.flushed);
  }

  /** The frame is on screen. */
  shown(presentation: Pick<Presentation, 'timeMs'>): void {
    const frame = this.#inFlight;
    if (!frame.isUsed) return;
    const { timeMs } = presentation;
    frame.onScreen = timeMs;
    this.#onScreen.add(timeMs - frame.flushed);
    if (this.#shown.isUsed) this.#end(this.#shown);
    this.#inFlight = this.#shown;
    this.#shown = frame;
    if (frame.released !== null) this.#end(frame);
  }

  released(handle: Handle): void {
    const isShown = this.#shown.isUsed && this.#shown.handle === handle;
    const frame = isShown ? this.#shown : this.#inFlight;
    if (!frame.isUsed || frame.handle !== handle || frame.released !== null) return;
    frame.released = this.#now();
    this.#released.add(frame.released - frame.flushed);
    if (isShown) this.#end(frame);
  }

  #end(frame: Times): void {
    const { flushed, staged, presented, onScreen, released } = frame;
    frame.isUsed = false;
    frame.handle = null;
    frame.released = null;
    if (this.#tracers.size === 0) return;
    for (const tracer of this.#tracers) tracer({ flushed, staged, presented, onScreen, released });
  }
}
