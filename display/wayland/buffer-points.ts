import type { BorrowedFd } from '../../src/sys/fd.ts';
import type { WpLinuxDrmSyncobjSurfaceV1, WpLinuxDrmSyncobjTimelineV1 } from './client/index.ts';
import type { ExplicitSync, ReleaseWait, SharedTimeline } from './explicit-sync.ts';

/**
 * The points of one buffer's commits, counted from 1: when it may be read, and when it has been.
 * A buffer has timelines of its own, because one point signals those before it, and a compositor
 * may be done with buffers in another order than it was given them.
 *
 *     begin -> set -> the commit -> released
 */
export class BufferPoints implements ReleaseWait, Disposable {
  readonly sync: ExplicitSync;
  readonly #onReleased: () => void;
  readonly #release: SharedTimeline;
  /** Made for the first fence. */
  #acquire: SharedTimeline | null = null;
  #begun = 0;
  #committed = 0;

  /** `onReleased`: the compositor has signalled the point of the newest commit. SysError EMFILE, ENOMEM. */
  constructor(sync: ExplicitSync, onReleased: () => void) {
    this.sync = sync;
    this.#onReleased = onReleased;
    this.#release = sync.newTimeline();
  }

  /** A commit in which the buffer may be read when `acquire` has signalled, null: at once. SysError; there is no such commit then. */
  begin(acquire: BorrowedFd | null): void {
    const point = ++this.#begun;
    if (acquire) {
      this.#acquire ??= this.sync.newTimeline();
      this.sync.device.signalWith(this.#acquire.kernel, point, acquire);
    }
    this.sync.watch(this.#release, point);
  }

  /** Sets what was begun; `isFenced` is whether with a fence. The buffer is attached in the same commit of `surface`. */
  set(surface: WpLinuxDrmSyncobjSurfaceV1, isFenced: boolean): void {
    const point = this.#begun;
    if (isFenced) setPoint(surface, 'setAcquirePoint', this.#acquire!.wire, point);
    else setPoint(surface, 'setAcquirePoint', this.sync.signalled.wire, 1);
    setPoint(surface, 'setReleasePoint', this.#release.wire, point);
    this.#committed = point;
    this.sync.wait(this);
  }

  get isOver(): boolean {
    return this.sync.device.lastSignalled(this.#release.kernel) >= this.#committed;
  }

  released(): void {
    this.#onReleased();
  }

  [Symbol.dispose](): void {
    this.sync.forget(this);
    this.sync.destroy(this.#release);
    if (this.#acquire) this.sync.destroy(this.#acquire);
  }
}

function setPoint(surface: WpLinuxDrmSyncobjSurfaceV1, request: 'setAcquirePoint' | 'setReleasePoint', timeline: WpLinuxDrmSyncobjTimelineV1, point: number): void {
  surface[request](timeline, Math.floor(point / 2 ** 32), point >>> 0);
}
