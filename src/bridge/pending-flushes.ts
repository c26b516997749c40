import { Bag } from '../core/bag.ts';
import type { Frame, Handle } from '../core/output.ts';
import type { Flush } from '../core/source.ts';
import type { OwnedFd } from '../sys/fd.ts';

export type FlushEnd = 'now' | 'at commit' | 'when shown';

/**
 * When a flush is done. This is the one place that decides it.
 *
 * - A flip (another framebuffer than the one shown) is done when its frame is on screen and the
 *   buffer it replaced is no longer held. That paces a double-buffered guest by the screen.
 * - A redraw of the framebuffer shown, with a fence, is done when its pixels have been read: copied
 *   into a shadow, or handed to the output by the next commit. Then the guest may draw again.
 * - A redraw without a fence is done at once. Its driver waits for the answer, not for the
 *   screen: firmware flushes after every character and must not run at the refresh rate.
 *
 * A screen that is hidden, closed or unplugged completes frames by a timer, so it never blocks a
 * guest. A flush with an acquire fence counts as a flip, because the fence must stay open until it
 * has signalled, and so does one that is paced.
 */
export function flushEnd(isFenced: boolean, isFlip: boolean, isRead: boolean): FlushEnd {
  if (isFlip) return 'when shown';
  return isFenced && !isRead ? 'at commit' : 'now';
}

/**
 * The flushes of one screen that are not done yet.
 *
 *     add('when shown') -> staged -> send -> in flight -> shown [-> released] -> Flush.done
 *     add('at commit') ----------------------> read ------------------------> Flush.done
 */
export class PendingFlushes {
  readonly #atCommit = new Bag<Flush>();
  /** Done when the frame they wait for is shown: first staged, then in flight. */
  #staged = new Bag<Flush>();
  #inFlight = new Bag<Flush>();
  /** Shown, but the output still holds the buffer that was replaced. */
  readonly #atRelease = new Bag<Flush>();
  /** To be done now. A source may flush again from inside `done`, which must not end that flush as well. */
  readonly #due = new Bag<Flush>();
  /** The buffer that the frame in flight replaces, and the one `#atRelease` waits for: guest memory, or null. */
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

  add(flush: Flush, end: 'at commit' | 'when shown'): void {
    if (end === 'at commit') {
      this.#atCommit.add(flush);
      return;
    }
    this.#staged.add(flush);
    this.#wantsRelease ||= flush.release !== undefined;
  }

  /**
   * Everything staged goes out with a frame. `replaced` is the guest memory that the frame takes off
   * the screen, null if there is none. Returns what takes the frame's release fence, null if no
   * flush wants one.
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

  /** The pixels have been read: copied, or handed to the output with a frame. */
  read(): void {
    this.#finish(this.#atCommit);
  }

  /** The frame in flight is on screen. */
  shown(): void {
    const replaced = this.#replaced;
    this.#replaced = null;
    if (!replaced?.isHeld) {
      this.#finish(this.#inFlight);
      return;
    }
    this.#awaited = replaced;
    move(this.#inFlight, this.#atRelease);
  }

  /** The output has released a buffer. */
  released(): void {
    if (this.#awaited === null || this.#awaited.isHeld) return;
    this.#awaited = null;
    this.#finish(this.#atRelease);
  }

  /** The screen shows no more frames. */
  finishAll(): void {
    this.#replaced = null;
    this.#awaited = null;
    for (const flushes of [this.#atCommit, this.#staged, this.#inFlight, this.#atRelease]) this.#finish(flushes);
  }

  #finish(flushes: Bag<Flush>): void {
    move(flushes, this.#due);
    for (let flush = this.#due.pop(); flush; flush = this.#due.pop()) flush.done();
  }
}

function move(from: Bag<Flush>, to: Bag<Flush>): void {
  for (let flush = from.pop(); flush; flush = from.pop()) to.add(flush);
}
