import { Bag } from '../core/bag.ts';
import type { Frame, Handle } from '../core/output.ts';
import type { Flush } from '../core/source.ts';
import type { OwnedFd } from '../sys/fd.ts';

/**
 * The flushes of one screen that are not done yet. A flip is done when its frame is on screen and
 * the output has let go of what that replaced; a redraw of what is on screen, at the next commit.
 *
 *     addFlip   -> staged -> send -> in flight -> shown [-> released] -> Flush.done
 *     addRedraw ---------------------> sent -------------------------> Flush.done
 */
export class PendingFlushes {
  readonly #atCommit = new Bag<Flush>();
  /** Done when the frame they wait for is shown: first staged, then in flight. */
  #staged = new Bag<Flush>();
  #inFlight = new Bag<Flush>();
  /** Shown, but the output still reads the buffer that was replaced. */
  readonly #atRelease = new Bag<Flush>();
  /** What the frame in flight replaces, and what `#atRelease` waits for; zero-copy handles only. */
  #replaced: Handle | null = null;
  #awaited: Handle | null = null;
  /** A staged flush wants a release fence. */
  #wantsRelease = false;
  readonly #release = (fence: OwnedFd): void => {
    try {
      for (let i = 0; i < this.#inFlight.count; i++) this.#inFlight.at(i).release?.(fence.dup());
    } finally {
      fence[Symbol.dispose]();
    }
  };

  addFlip(flush: Flush): void {
    this.#staged.add(flush);
    this.#wantsRelease ||= flush.release !== undefined;
  }

  addRedraw(flush: Flush): void {
    this.#atCommit.add(flush);
  }

  /**
   * A frame goes out, with all that is staged; the guest may draw into `replaced` once it is free, null where it
   * waits for nothing. Gives what takes the frame's release fence; null if nobody wants one.
   */
  send(replaced: Handle | null): Frame['release'] {
    const staged = this.#staged;
    this.#staged = this.#inFlight;
    this.#inFlight = staged;
    this.#replaced = replaced;
    const release = this.#wantsRelease ? this.#release : null;
    this.#wantsRelease = false;
    return release;
  }

  /** The output has the frame. */
  sent(): void {
    finish(this.#atCommit);
  }

  /** The frame in flight is on screen; `held` are the handles the output has not released. */
  shown(held: Bag<Handle>): void {
    const replaced = this.#replaced;
    this.#replaced = null;
    if (!replaced || !held.has(replaced)) {
      finish(this.#inFlight);
      return;
    }
    this.#awaited = replaced;
    for (let flush = this.#inFlight.pop(); flush; flush = this.#inFlight.pop()) this.#atRelease.add(flush);
  }

  released(handle: Handle): void {
    if (handle !== this.#awaited) return;
    this.#awaited = null;
    finish(this.#atRelease);
  }

  /** Nobody will show anything any more. */
  finishAll(): void {
    finish(this.#atCommit);
    finish(this.#staged);
    finish(this.#inFlight);
    finish(this.#atRelease);
  }
}

function finish(flushes: Bag<Flush>): void {
  for (let flush = flushes.pop(); flush; flush = flushes.pop()) flush.done();
}
