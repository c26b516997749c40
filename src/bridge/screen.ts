import { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, type Rect } from '../core/geometry.ts';
import type { InputSink } from '../core/input.ts';
import { logOnce } from '../core/log.ts';
import type { Frame, Output, ScreenListener } from '../core/output.ts';
import type { Flush, ScanoutId } from '../core/source.ts';
import type { BorrowedFd } from '../sys/fd.ts';
import { FenceWait } from '../sys/fence-wait.ts';
import { flushEnd, PendingFlushes } from './pending-flushes.ts';
import { PlaneBuffers, type BufferContext, type PlaneStats } from './plane-buffers.ts';

export interface ScreenStats {
  output: string;
  frames: number;
  primary: PlaneStats;
  cursor: PlaneStats;
}

/** What a screen reports to its bridge. */
export interface ScreenOwner {
  readonly input: InputSink | null;
  /** The output's monitor changed or was unplugged. */
  resized(screen: Screen): void;
  closed(screen: Screen, reason: string): void;
}

const IGNORE = (): void => undefined;

/**
 * One output showing one scanout. Keeps a single frame in flight and always shows the newest:
 * whatever arrives while a frame is in flight is copied (shadow rung) or remembered, and goes out
 * on `presented`.
 *
 *     flush -> stage -> commit -> present ... released, presented -> Flush.done
 *                ^------------- the newest, if something changed since
 */
export class Screen implements ScreenListener, Disposable {
  readonly output: Output;
  readonly scanout: ScanoutId;
  readonly input: InputSink | null;
  readonly #owner: ScreenOwner;
  readonly #primary: PlaneBuffers;
  readonly #cursor: PlaneBuffers;
  readonly #keepLast: boolean;
  readonly #frame: Frame = {
    canvas: { width: 0, height: 0 },
    primary: { handle: null, src: EMPTY_RECT, dst: EMPTY_RECT },
    cursor: { handle: null, src: EMPTY_RECT, dst: EMPTY_RECT },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
  };
  readonly #rect = new MutableRect();
  readonly #canvas = new MutableRect();
  readonly #cursorDst = new MutableRect();

  readonly #flushes = new PendingFlushes();
  readonly #damage = new Damage();
  /** Of the newest flush, until a frame carries it or it has signalled. */
  #acquire: BorrowedFd | null = null;
  readonly #unfinished = new FenceWait(() => {
    this.#acquire = null;
    this.#primary.stage();
    this.#commit();
  });
  #isDirty = false;
  #isInFlight = false;
  #isClosed = false;
  #isDisposed = false;
  #shown: Framebuffer | null = null;
  #shownIsZeroCopy = false;
  #frames = 0;
  #attachment: Disposable;

  /** Throws if the output is taken by another screen. */
  constructor(output: Output, scanout: ScanoutId, context: BufferContext, owner: ScreenOwner) {
    this.output = output;
    this.scanout = scanout;
    this.input = owner.input;
    this.#owner = owner;
    this.#keepLast = context.keepLast;
    const shared = { ...context, logOnce: logOnce(context.log) };
    this.#primary = new PlaneBuffers(output, 'primary', shared);
    this.#cursor = new PlaneBuffers(output, 'cursor', shared);
    this.#attachment = output.attach(this, { keepLast: this.#keepLast });
  }

  get stats(): ScreenStats {
    return { output: this.output.name, frames: this.#frames, primary: this.#primary.stats, cursor: this.#cursor.stats };
  }

  /**
   * The picture from the next flush on. Null turns the screen off now, or leaves a copy of the
   * last picture on it.
   */
  setScanout(framebuffer: Framebuffer | null, rect: Rect): void {
    if (!framebuffer && this.#keepLast) {
      this.halt();
      this.#primary.release();
      return;
    }
    this.#primary.show(framebuffer, rect);
    if (!framebuffer) this.#dependOn(null);
    this.#rect.copy(rect);
    this.#canvas.set(0, 0, rect.width, rect.height);
    this.#damage.clear();
    this.#damage.addRect(rect);
    if (!framebuffer) {
      this.#isDirty = true;
      this.#commit();
    }
  }

  /**
   * Until the next flush, shows a copy of the picture as it is now: the guest's memory may change.
   * Where the last picture stays for good the copy has no cursor, because a cursor that never moves
   * looks broken.
   */
  halt(): void {
    if (!this.#primary.framebuffer || this.#primary.isStill) return;
    // Drawing has stopped, so its fence may never signal: what is there now is the picture.
    this.#dependOn(null);
    this.#primary.freeze();
    if (!this.#keepLast) this.#cursor.freeze();
    this.#isDirty = true;
    this.#commit();
  }

  /** Shows `damage` once `acquire` has signalled. `flush` is done as `flushEnd` says. */
  flush(damage: Damage, flush: Flush | null, acquire: BorrowedFd | null): void {
    if (this.#primary.isStill) this.#resume();
    this.#dependOn(acquire);
    this.#primary.damage(damage);
    this.#damage.addAll(damage);
    this.#isDirty = true;
    const isCopied = this.#mayRead() && this.#primary.stage() && this.#primary.isCopied;
    const end =
      flush && flushEnd(flush.isFenced, acquire !== null || this.#primary.framebuffer !== this.#shown, isCopied);
    if (flush && end && end !== 'now') this.#flushes.add(flush, end);
    this.#commit();
    if (flush && end === 'now') flush.done();
  }

  /** Shows the whole picture as it is now, for a screen that joins a running guest. */
  refresh(): void {
    this.#primary.damageWhole();
    this.#isDirty = true;
    this.#commit();
  }

  setCursor(framebuffer: Framebuffer | null, hotspotX: number, hotspotY: number, x: number, y: number): void {
    const width = framebuffer ? Math.min(framebuffer.width, this.output.maxCursor.width) : 0;
    const height = framebuffer ? Math.min(framebuffer.height, this.output.maxCursor.height) : 0;
    this.#cursorDst.width = width;
    this.#cursorDst.height = height;
    this.#frame.hotspotX = hotspotX;
    this.#frame.hotspotY = hotspotY;
    this.#frame.isCursorNew = true;
    this.#cursor.thaw();
    this.#cursor.show(framebuffer, { x: 0, y: 0, width, height });
    this.#cursor.damageWhole();
    this.#cursor.stage();
    this.moveCursor(x, y);
  }

  moveCursor(x: number, y: number): void {
    this.#cursorDst.x = x;
    this.#cursorDst.y = y;
    this.#isDirty = true;
    this.#commit();
  }

  /** The framebuffer is going away. */
  remove(framebuffer: Framebuffer): void {
    if (this.#shown === framebuffer) this.#shown = null;
    this.#primary.remove(framebuffer);
    this.#cursor.remove(framebuffer);
  }

  presented(): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#frames++;
    this.#flushes.shown();
    this.#commit();
  }

  released(): void {
    this.#primary.freeIdle();
    this.#cursor.freeIdle();
    this.#flushes.released();
    this.#commit();
  }

  resized(): void {
    this.#owner.resized(this);
  }

  importsChanged(): void {
    this.#primary.importAgain();
    this.#cursor.importAgain();
    this.#damage.addRect(this.#rect);
    this.#isDirty = true;
    this.#commit();
  }

  closed(reason: string): void {
    this.#isClosed = true;
    this.#owner.closed(this, reason);
  }

  /** Ends the pairing. The output stays the caller's; every pending flush is done. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#dependOn(null);
    if (this.#keepLast && !this.#isClosed) this.#leaveStill();
    this.#attachment[Symbol.dispose]();
    this.#unfinished[Symbol.dispose]();
    this.#primary[Symbol.dispose]();
    this.#cursor[Symbol.dispose]();
    this.#flushes.finishAll();
  }

  /**
   * Leaves a copy of the picture on the screen instead of the guest's own memory. A frame may be in
   * flight; a second attachment may present nevertheless.
   */
  #leaveStill(): void {
    if (!this.#primary.isStill) {
      // A picture that was copied is a still one already.
      if (!this.#primary.framebuffer || !this.#shownIsZeroCopy) return;
      this.#primary.freeze();
      this.#isDirty = true;
    }
    if (!this.#isDirty) return;
    this.#attachment[Symbol.dispose]();
    this.#isInFlight = false;
    const { scanout } = this;
    const silent = {
      scanout,
      input: null,
      presented: IGNORE,
      released: IGNORE,
      resized: IGNORE,
      importsChanged: IGNORE,
      closed: IGNORE,
    };
    this.#attachment = this.output.attach(silent, { keepLast: true });
    this.#commit();
  }

  #commit(): void {
    if (!this.#isDirty || this.#isInFlight || !this.#mayRead() || !this.#primary.stage()) return;
    const frame = this.#frame;
    const { isStill } = this.#primary;
    const hidesCursor = isStill && this.#keepLast;
    if (!hidesCursor && !this.#cursor.stage()) return;
    const before = frame.primary.handle;
    this.#primary.take(frame.primary);
    if (hidesCursor) frame.cursor.handle = null;
    else this.#cursor.take(frame.cursor);
    // The guest's next picture may have another size already.
    const canvas = isStill ? frame.primary.src : this.#canvas;
    frame.canvas = canvas;
    frame.primary.dst = canvas;
    frame.cursor.dst = this.#cursorDst;
    if (isStill) {
      frame.damage.clear();
      frame.damage.addRect(canvas);
    } else {
      this.#takeDamage(frame);
    }
    const replaced = this.#shownIsZeroCopy && before !== frame.primary.handle ? before : null;
    this.#shown = isStill ? null : this.#primary.framebuffer;
    this.#shownIsZeroCopy = this.#primary.isZeroCopy;
    this.#isDirty = false;
    this.#isInFlight = true;
    frame.acquire = this.#acquire;
    frame.release = this.#flushes.send(replaced);
    this.#acquire = null;
    this.output.present(frame);
    frame.isCursorNew = false;
    this.#flushes.sent();
  }

  /** The picture is complete when `acquire` signals. An earlier fence belonged to a picture that is out of date. */
  #dependOn(acquire: BorrowedFd | null): void {
    this.#acquire = acquire;
    this.#unfinished.stop();
  }

  /** Whether the picture may be copied or presented now. If not, that continues when its fence signals. */
  #mayRead(): boolean {
    if (!this.#acquire || (this.#primary.isZeroCopy && this.output.takesFences)) return true;
    if (!this.#unfinished.isWaiting) this.#unfinished.start(this.#acquire);
    return false;
  }

  /** The guest draws again, after a pause or a reset. */
  #resume(): void {
    this.#primary.thaw();
    this.#cursor.thaw();
    // The cursor may have changed while it was not shown.
    this.#cursor.damageWhole();
    this.#damage.addRect(this.#rect);
  }

  /** Moves the damage from the framebuffer's pixels to those of the buffer shown. */
  #takeDamage(frame: Frame): void {
    frame.damage.clear();
    frame.damage.addAll(this.#damage, frame.primary.src.x - this.#rect.x, frame.primary.src.y - this.#rect.y);
    this.#damage.clear();
  }
}
