import { Damage } from '../../src/core/damage.ts';
import type { Frame } from '../../src/core/output.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/buffer/fence-wait.ts';
import type { Place } from './placement.ts';

const nowhere = (): Place => ({ x: 0, y: 0, width: 0, height: 0 });

/**
 * The frame presented last, to be shown again or, if its picture was not finished, for the first time. Its handles are not here, they are whoever's
 * who shows it; its damage is empty unless it is unfinished.
 */
export class NewestFrame implements Frame {
  readonly canvas = nowhere();
  readonly primary = { handle: null, src: nowhere(), dst: nowhere() };
  readonly cursor = { handle: null, src: nowhere(), dst: nowhere() };
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
    move(primary.src, this.primary.src);
    move(primary.dst, this.primary.dst);
    move(cursor.src, this.cursor.src);
    move(cursor.dst, this.cursor.dst);
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
}

function move({ x, y, width, height }: Readonly<Place>, to: Place): void {
  to.x = x;
  to.y = y;
  to.width = width;
  to.height = height;
}
