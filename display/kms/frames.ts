import { Damage } from '../../src/core/damage.ts';
import { MutableRect } from '../../src/core/geometry.ts';
import type { Frame, Handle } from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { KmsBuffer } from './buffer.ts';

/** The buffers of the frame on screen and of the one that is to be, each kept alive until another takes its place. */
export class ShownBuffers implements Disposable {
  readonly #onReleased: (handle: Handle) => void;
  #picture: KmsBuffer | null = null;
  #cursor: KmsBuffer | null = null;
  #nextPicture: KmsBuffer | null = null;
  #nextCursor: KmsBuffer | null = null;
  #isWaiting = false;

  /** `onReleased` hears of each that no frame has any more, from inside `turn`; it may dispose us. */
  constructor(onReleased: (handle: Handle) => void) {
    this.#onReleased = onReleased;
  }

  /** A frame waits to be shown. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Of the newest frame. */
  get picture(): KmsBuffer | null {
    return this.#isWaiting ? this.#nextPicture : this.#picture;
  }

  get cursor(): KmsBuffer | null {
    return this.#isWaiting ? this.#nextCursor : this.#cursor;
  }

  /** A frame with these is to be shown; a handle freed already counts as none. */
  wait(picture: Handle | null, cursor: Handle | null): void {
    this.#nextPicture = usable(picture);
    this.#nextCursor = usable(cursor);
    this.#nextPicture?.acquire();
    this.#nextCursor?.acquire();
    this.#isWaiting = true;
  }

  /** The waiting frame is shown now, as far as anybody waits for it. */
  turn(): void {
    const picture = this.#picture;
    const cursor = this.#cursor;
    this.#picture = this.#nextPicture;
    this.#cursor = this.#nextCursor;
    this.#nextPicture = null;
    this.#nextCursor = null;
    this.#isWaiting = false;
    picture?.release();
    cursor?.release();
    if (picture && !picture.isHeld) this.#onReleased(picture);
    if (cursor && cursor !== picture && !cursor.isHeld) this.#onReleased(cursor);
  }

  [Symbol.dispose](): void {
    for (const buffer of [this.#picture, this.#cursor, this.#nextPicture, this.#nextCursor]) buffer?.release();
    this.#picture = this.#cursor = this.#nextPicture = this.#nextCursor = null;
    this.#isWaiting = false;
  }
}

function usable(handle: Handle | null): KmsBuffer | null {
  return handle instanceof KmsBuffer && !handle.isFreed ? handle : null;
}

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

/** Pace of a guest whose picture nobody can see, while no mode says another. */
const DARK_REFRESH_MHZ = 60_000;

/** No flip takes longer. */
const PATIENCE_MS = 1000;

/**
 * When an output stops waiting: after a refresh for a frame that no event ends, when patience is lost for the others.
 * Timers fire once and are started again: none is made for a frame.
 */
export class FlipTimers implements Disposable {
  readonly #onTick: () => void;
  readonly #watchdog: NodeJS.Timeout;
  #tick: NodeJS.Timeout;
  /** While the CRTC is busy: when to give up; else 0. */
  #busyUntilMs = 0;

  /** `onTick` is called a refresh after `startTick`, `onTimeout` some time after `startTimeout`, either once at the start as well. */
  constructor(onTick: () => void, onTimeout: () => void) {
    this.#onTick = onTick;
    this.#tick = this.#makeTick(DARK_REFRESH_MHZ);
    this.#watchdog = setTimeout(onTimeout, PATIENCE_MS).unref();
  }

  /** Begins a beat. */
  setRefresh(refreshMhz: number): void {
    clearTimeout(this.#tick);
    this.#tick = this.#makeTick(refreshMhz);
  }

  startTick(): void {
    this.#tick.refresh();
  }

  startTimeout(): void {
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
    clearTimeout(this.#tick);
    clearTimeout(this.#watchdog);
  }

  #makeTick(refreshMhz: number): NodeJS.Timeout {
    return setTimeout(this.#onTick, 1_000_000 / refreshMhz).unref();
  }
}

/** A count of vertical blanks that only grows, over those the hardware counts and those nobody saw. */
export class VblankCount {
  #count = 0;
  /** The hardware's, 32 bits, at the last event; -1: not known, or another CRTC's. */
  #hardware = -1;

  get count(): number {
    return this.#count;
  }

  /** The hardware counted one. */
  seen(hardware: number): void {
    this.#count += this.#hardware < 0 ? 1 : (hardware - this.#hardware) >>> 0;
    this.#hardware = hardware;
  }

  /** One went by without it. */
  unseen(): void {
    this.#count++;
    this.forget();
  }

  /** The hardware's count starts anew, or is another's. */
  forget(): void {
    this.#hardware = -1;
  }
}
