import { Damage } from '../../src/core/damage.ts';
import { MutableRect } from '../../src/core/geometry.ts';
import type { Frame } from '../../src/core/output.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';

/**
 * The frame presented last, to be shown again or, if its picture was not finished, for the first time. Its handles are
 * not here, they are whoever's who shows it; its damage is empty unless it is unfinished.
 */
export class NewestFrame implements Frame, Disposable {
  readonly canvas = { width: 0, height: 0 };
  readonly primary = { handle: null, src: new MutableRect(), dst: new MutableRect() };
  readonly cursor = { handle: null, src: new MutableRect(), dst: new MutableRect() };
  hotspotX = 0;
  hotspotY = 0;
  readonly isCursorNew = false;
  readonly damage = new Damage();
  readonly acquire = null;
  readonly release = null;
  readonly #acquire: FenceWait;

  /** `onFinished` ends what `finish` begins. */
  constructor(onFinished: () => void) {
    this.#acquire = new FenceWait(() => {
      onFinished();
      this.damage.clear();
    });
  }

  get isUnfinished(): boolean {
    return this.#acquire.isWaiting;
  }

  /** Allocates nothing. */
  copy({ canvas, primary, cursor, hotspotX, hotspotY }: Frame): void {
    this.canvas.width = canvas.width;
    this.canvas.height = canvas.height;
    this.primary.src.copy(primary.src);
    this.primary.dst.copy(primary.dst);
    this.cursor.src.copy(cursor.src);
    this.cursor.dst.copy(cursor.dst);
    this.hotspotX = hotspotX;
    this.hotspotY = hotspotY;
  }

  /** It cannot be shown before `acquire`, which stays the caller's, has signalled. */
  finish(acquire: BorrowedFd, damage: Damage): void {
    this.damage.addAll(damage);
    this.#acquire.start(acquire);
  }

  /** Nobody waits for it any more. */
  giveUp(): void {
    if (!this.isUnfinished) return;
    this.#acquire.stop();
    this.damage.clear();
  }

  [Symbol.dispose](): void {
    this.giveUp();
    this.#acquire[Symbol.dispose]();
  }
}
