import { Damage } from '../../src/core/damage.ts';
import { Deadline } from '../../src/core/deadline.ts';
import { MutableRect } from '../../src/core/geometry.ts';
import type { Frame, Handle } from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { KmsBuffer } from './buffer.ts';

/* The frames of one output: whose buffers are held, what the newest shows, and when a frame ends. */

/** The buffers of one frame. */
class FrameSlot {
  picture: KmsBuffer | null = null;
  cursor: KmsBuffer | null = null;
  /** A frame is in this slot; it may be without buffers. */
  isFilled = false;
  /** The listener that presented it is still attached. */
  isOwn = false;
}

/**
 * Holds the buffers of three frames, each until the next has taken its place:
 *
 *     queue ---> next ---> in flight ---> on screen ---> released
 *                     send           land
 *
 * `next` is used only while the frame in flight is not one of the attached listener's, who has one frame at a time.
 */
export class HeldBuffers implements Disposable {
  readonly #onReleased: (handle: Handle) => void;
  #next = new FrameSlot();
  #inFlight = new FrameSlot();
  #onScreen = new FrameSlot();

  /**
   * `land` calls `onReleased` for each buffer that is no longer held, if its listener is still attached. It
   * may dispose us.
   */
  constructor(onReleased: (handle: Handle) => void) {
    this.#onReleased = onReleased;
  }

  get hasNext(): boolean {
    return this.#next.isFilled;
  }

  get isInFlight(): boolean {
    return this.#inFlight.isFilled;
  }

  /** Neither on screen nor on the way there is a buffer of a listener. */
  get isBlank(): boolean {
    const newest = this.#newest;
    return !this.hasNext && newest.picture === null && newest.cursor === null;
  }

  /** Of the newest frame. */
  get picture(): KmsBuffer | null {
    return this.#newest.picture;
  }

  get cursor(): KmsBuffer | null {
    return this.#newest.cursor;
  }

  /**
   * Holds the buffers of the frame to be sent next, in place of another that waited. A handle that was
   * disposed counts as none.
   */
  queue(picture: Handle | null, cursor: Handle | null, isOwn: boolean): void {
    const slot = this.#next;
    clear(slot);
    slot.picture = usable(picture);
    slot.cursor = usable(cursor);
    slot.picture?.hold();
    slot.cursor?.hold();
    slot.isFilled = true;
    slot.isOwn = isOwn;
  }

  /** The frame on screen is in flight once more. Nothing may be in flight. */
  repeat(): void {
    const { picture, cursor, isOwn } = this.#onScreen;
    const slot = this.#inFlight;
    slot.picture = picture;
    slot.cursor = cursor;
    picture?.hold();
    cursor?.hold();
    slot.isFilled = true;
    slot.isOwn = isOwn;
  }

  /** The next frame is in flight now. Nothing may be in flight. */
  send(): void {
    const slot = this.#inFlight;
    this.#inFlight = this.#next;
    this.#next = slot;
  }

  /** The frame in flight is on screen now, as far as anyone waits for it. */
  land(): void {
    const { picture, cursor, isOwn } = this.#onScreen;
    const slot = this.#onScreen;
    this.#onScreen = this.#inFlight;
    this.#inFlight = slot;
    clear(slot);
    if (!isOwn) return;
    if (picture && !picture.isHeld) this.#onReleased(picture);
    // The first call may have detached the listener.
    if (cursor && cursor !== picture && !cursor.isHeld && this.#onScreen.isOwn) this.#onReleased(cursor);
  }

  /** The frame in flight was never committed: it is dropped, and the screen stays as it is. */
  drop(): void {
    clear(this.#inFlight);
  }

  /** The listener is detached: it is not told when its buffers are released. */
  disown(): void {
    this.#next.isOwn = this.#inFlight.isOwn = this.#onScreen.isOwn = false;
  }

  [Symbol.dispose](): void {
    for (const slot of [this.#next, this.#inFlight, this.#onScreen]) clear(slot);
  }

  get #newest(): FrameSlot {
    return this.#next.isFilled ? this.#next : this.#inFlight.isFilled ? this.#inFlight : this.#onScreen;
  }
}

function clear(slot: FrameSlot): void {
  slot.picture?.unhold();
  slot.cursor?.unhold();
  slot.picture = slot.cursor = null;
  slot.isFilled = slot.isOwn = false;
}

function usable(handle: Handle | null): KmsBuffer | null {
  return handle instanceof KmsBuffer && !handle.isDisposed ? handle : null;
}

/**
 * A copy of the frame presented last, without its handles, which `HeldBuffers` has: to be committed again with another
 * mode or, if it could not be committed in `present`, for the first time. Its damage is empty unless it waits for that.
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

  /** `onFinished`: the fence that `waitFor` was given has signalled. */
  constructor(onFinished: () => void) {
    this.#acquire = new FenceWait(onFinished);
  }

  /** The fence of its picture has not signalled. */
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

  /**
   * It is committed later, with this damage, and not before `acquire` has signalled, which stays the caller's. SysError if
   * that cannot be waited for; it is to be committed without it then.
   */
  postpone(damage: Damage, acquire: BorrowedFd | null): void {
    this.damage.addAll(damage);
    if (acquire) this.#acquire.start(acquire);
  }

  /** Calls `onFinished` now if its fence has signalled. */
  check(): void {
    this.#acquire.check();
  }

  /** It was committed, or is not going to be. */
  settle(): void {
    this.#acquire.stop();
    this.damage.clear();
  }

  [Symbol.dispose](): void {
    this.settle();
    this.#acquire[Symbol.dispose]();
  }
}

/** Pace of a guest whose picture is not shown, until a mode sets another. */
const DEFAULT_REFRESH_MHZ = 60_000;

/** No flip takes longer. */
const PATIENCE_MS = 1000;

/**
 * When an output stops waiting for a frame: a refresh later if no event will come, PATIENCE_MS or twice that later if one
 * should. A frame makes no timer.
 */
export class FlipTimers implements Disposable {
  readonly #onTick: () => void;
  readonly #timeout: Deadline;
  #tick: NodeJS.Timeout;
  /** While the CRTC is busy: when to give up; else 0. */
  #busyUntilMs = 0;

  /**
   * `onTick` is called one refresh after `startTick`, and once after construction, `onTimeout` PATIENCE_MS, or up
   * to twice that, after the last `startTimeout`.
   */
  constructor(onTick: () => void, onTimeout: () => void) {
    this.#onTick = onTick;
    this.#tick = this.#makeTick(DEFAULT_REFRESH_MHZ);
    this.#timeout = new Deadline(PATIENCE_MS, onTimeout);
  }

  /** Starts a tick. */
  setRefresh(refreshMhz: number): void {
    clearTimeout(this.#tick);
    this.#tick = this.#makeTick(refreshMhz);
  }

  startTick(): void {
    this.#tick.refresh();
  }

  startTimeout(): void {
    this.#timeout.start();
  }

  /** Whether the last commit was refused because the CRTC is busy; PATIENCE_MS count from the first such refusal. */
  setBusy(isBusy: boolean): void {
    if (!isBusy) this.#busyUntilMs = 0;
    else if (this.#busyUntilMs === 0) this.#busyUntilMs = monotonicMs() + PATIENCE_MS;
  }

  /** The last commit was refused because the CRTC is busy. */
  get isBusy(): boolean {
    return this.#busyUntilMs !== 0;
  }

  /** It is busy, and not for long yet. */
  get mayRetry(): boolean {
    return this.#busyUntilMs > monotonicMs();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#tick);
    this.#timeout[Symbol.dispose]();
  }

  #makeTick(refreshMhz: number): NodeJS.Timeout {
    return setTimeout(this.#onTick, 1_000_000 / refreshMhz).unref();
  }
}

/** A count of vertical blanks that only grows, over those that the hardware counts and those it does not. */
export class VblankCount {
  #count = 0;
  /** The hardware's count, 32 bits, at the last event; -1: not known, or that of another CRTC. */
  #hardware = -1;

  get count(): number {
    return this.#count;
  }

  /** A vertical blank with the hardware's count. */
  counted(hardware: number): void {
    this.#count += this.#hardware < 0 ? 1 : (hardware - this.#hardware) >>> 0;
    this.#hardware = hardware;
  }

  /** One that the hardware did not report. */
  uncounted(): void {
    this.#count++;
    this.reset();
  }

  /** The hardware's count starts again, or another CRTC's is used. */
  reset(): void {
    this.#hardware = -1;
  }
}
