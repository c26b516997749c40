import { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, type Rect } from '../core/geometry.ts';
import type { InputSink } from '../core/input.ts';
import { logOnce, type LogOnce } from '../core/log.ts';
import type { Frame, Handle, Output, Presentation, ScreenListener } from '../core/output.ts';
import type { Flush, ScanoutId } from '../core/source.ts';
import { SysError } from '../sys/errors.ts';
import type { BorrowedFd } from '../sys/fd.ts';
import { FenceWait } from '../sys/fence-wait.ts';
import { Pump } from '../sys/pump.ts';
import { CountedInput } from './counted-input.ts';
import { FrameAges, type FrameAgesStats, type FrameTimes } from './frame-ages.ts';
import { flushEnd, PendingFlushes } from './pending-flushes.ts';
import { PresentDeadline } from './present-deadline.ts';
import { PlaneBuffers, type BufferContext, type PlaneStats } from './plane-buffers.ts';
import type { Importer, ImportTurns } from './plane-imports.ts';

/** How a screen differs from one that people look at. */
export interface ScreenOptions {
  /** Only reads the scanout: it is no monitor of the guest, and not in the statistics. */
  readonly isObserver?: boolean;
}

export interface ScreenStats {
  output: string;
  frames: number;
  /** How often people did something at the output: groups of events, such as the press of a key. */
  input: number;
  ages: FrameAgesStats;
  primary: PlaneStats;
  cursor: PlaneStats;
}

/** What a screen reports to its bridge. */
export interface ScreenOwner {
  readonly input: InputSink | null;
  /** The output's monitor changed or was unplugged. */
  resized(screen: Screen): void;
  closed(screen: Screen, reason: string, isWanted: boolean): void;
}

const IGNORE = (): void => undefined;

/**
 * One output showing one scanout. Keeps a single frame in flight and always shows the newest:
 * whatever arrives while a frame is in flight is copied (shadow rung) or remembered, and goes out
 * on `presented`.
 *
 *     flush -> stage ... -> commit -> present ... released, presented -> Flush.done
 *                ^------------- the newest, if something changed since
 */
export class Screen implements ScreenListener, Importer, Disposable {
  readonly output: Output;
  readonly scanout: ScanoutId;
  readonly input: CountedInput | null;
  readonly isObserver: boolean;
  readonly #owner: ScreenOwner;
  readonly #primary: PlaneBuffers;
  readonly #cursor: PlaneBuffers;
  readonly #keepLast: boolean;
  readonly #logOnce: LogOnce;
  readonly #turns: ImportTurns;
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
    this.#stage();
    this.#commit();
  });
  /** Copies a large picture, a share of each turn of the event loop. */
  readonly #copying = new Pump(() => {
    try {
      return this.#copyNext();
    } catch (error) {
      // This may be a turn of the event loop that belongs to no caller: only the output is lost.
      this.closed(String(error));
      return false;
    }
  });
  #isDirty = false;
  #isInFlight = false;
  #isClosed = false;
  #isDisposed = false;
  #shown: Framebuffer | null = null;
  #shownIsZeroCopy = false;
  #frames = 0;
  /** Called once there is nothing left to copy or to show. */
  readonly #settling: (() => void)[] = [];
  readonly #ages = new FrameAges();
  /** Null: frames are presented at once. */
  #deadline: PresentDeadline | null = null;
  #attachment: Disposable;

  /** Throws if the output is taken by another screen. */
  constructor(
    output: Output,
    scanout: ScanoutId,
    context: BufferContext,
    owner: ScreenOwner,
    { isObserver = false }: ScreenOptions = {},
  ) {
    this.output = output;
    this.scanout = scanout;
    this.isObserver = isObserver;
    this.input = isObserver || !owner.input ? null : new CountedInput(owner.input);
    this.#owner = owner;
    this.#keepLast = context.keepLast;
    this.#turns = context.turns;
    this.#logOnce = logOnce(context.log);
    const shared = { ...context, logOnce: this.#logOnce };
    this.#primary = new PlaneBuffers(output, 'primary', shared);
    this.#cursor = new PlaneBuffers(output, 'cursor', shared);
    if (context.latency === 'low' && output.nextBlank && !isObserver)
      this.#deadline = new PresentDeadline(output, () => this.#commitWhenDue());
    this.#attachment = output.attach(this, { keepLast: this.#keepLast });
  }

  /** The output shows pixels that were copied: the guest cannot change them. */
  get showsCopy(): boolean {
    return !this.#shownIsZeroCopy;
  }

  get stats(): ScreenStats {
    const { stats: ages } = this.#ages;
    const { stats: primary } = this.#primary;
    const { stats: cursor } = this.#cursor;
    const input = this.input?.frames ?? 0;
    return { output: this.output.name, frames: this.#frames, input, ages, primary, cursor };
  }

  /** Hands out the times of every frame, until the result is called. */
  trace(tracer: (times: FrameTimes) => void): () => void {
    return this.#ages.trace(tracer);
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
    this.#ages.flushed();
    this.#dependOn(acquire);
    this.#primary.damage(damage);
    this.#damage.addAll(damage);
    this.#isDirty = true;
    const isCopied =
      this.#primary.isReady &&
      this.#mayRead() &&
      this.#primary.stage() &&
      this.#primary.isCopied &&
      !this.#primary.isBehind;
    if (isCopied) this.#ages.staged();
    const isFlip = acquire !== null || this.#primary.framebuffer !== this.#shown;
    const end = flush && flushEnd(flush.isFenced, isFlip || flush.isPaced === true, isCopied);
    if (flush && end && end !== 'now') this.#flushes.add(flush, end);
    this.#commit();
    if (this.#primary.isCopying) this.#copying.start();
    if (flush && end === 'now') flush.done();
  }

  /** Resolves when the newest of what was flushed is on screen, or the pairing has ended. */
  settled(): Promise<void> {
    return this.#isSettled ? Promise.resolve() : new Promise((resolve) => this.#settling.push(resolve));
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

  /** It is this screen's turn to make handles. */
  prepare(): void {
    if (this.#isInFlight) return;
    try {
      this.#primary.prepare();
      this.#cursor.prepare();
      this.#commit();
    } catch (error) {
      // As while a picture is copied: only the output is lost.
      this.closed(String(error));
    }
  }

  presented(presentation: Presentation): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#deadline?.shown(presentation);
    this.#ages.shown(presentation);
    this.#frames++;
    this.#flushes.shown();
    this.#commit();
    if (this.#settling.length > 0 && this.#isSettled) this.#tellSettled();
  }

  released(handle: Handle): void {
    this.#ages.released(handle);
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

  closed(reason: string, isWanted = false): void {
    this.#isClosed = true;
    this.#owner.closed(this, reason, isWanted);
  }

  /** Ends the pairing. The output stays the caller's; every pending flush is done. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#dependOn(null);
    if (this.#deadline) {
      this.#deadline[Symbol.dispose]();
      this.#deadline = null;
      // The frame that it put off is the one to stay.
      if (this.#keepLast && !this.#isClosed) this.#commit();
    }
    if (this.#keepLast && !this.#isClosed) this.#leaveStill();
    this.#turns.remove(this);
    this.#attachment[Symbol.dispose]();
    this.#unfinished[Symbol.dispose]();
    this.#copying[Symbol.dispose]();
    this.#primary[Symbol.dispose]();
    this.#cursor[Symbol.dispose]();
    this.#flushes.finishAll();
    this.#tellSettled();
  }

  get #isSettled(): boolean {
    return this.#isDisposed || !(this.#isDirty || this.#isInFlight || this.#primary.isCopying);
  }

  #tellSettled(): void {
    for (const settled of this.#settling.splice(0)) settled();
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

  /** A picture that stays for good is shown without its cursor. */
  get #hidesCursor(): boolean {
    return this.#primary.isStill && this.#keepLast;
  }

  #commit(): void {
    if (!this.#isDirty || this.#isInFlight || !this.#isReady() || !this.#mayRead()) return;
    if (!this.#primary.isStaged && !this.#stage()) return;
    if (this.#deadline?.wait()) return;
    const frame = this.#frame;
    const { isStill } = this.#primary;
    const hidesCursor = this.#hidesCursor;
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
    // The rest of what the guest has drawn is for the next frame.
    this.#isDirty = this.#primary.isBehind;
    if (this.#isDirty) this.#damage.addRect(this.#rect);
    this.#isInFlight = true;
    frame.acquire = this.#acquire;
    frame.release = this.#flushes.send(replaced);
    this.#acquire = null;
    this.#ages.staged();
    this.output.present(frame);
    this.#ages.presented(frame.primary.handle);
    frame.isCursorNew = false;
    this.#flushes.read();
  }

  #commitWhenDue(): void {
    try {
      this.#commit();
    } catch (error) {
      // As while a picture is copied: only the output is lost.
      this.closed(String(error));
    }
  }

  /** Whether there is more to copy. */
  #copyNext(): boolean {
    if (!this.#mayRead()) return false;
    if (!this.#primary.stage()) return this.#primary.isCopying;
    if (!this.#primary.isBehind) this.#flushes.read();
    this.#commit();
    return this.#primary.isCopying;
  }

  /** Copies what must be copied. False: not all yet; what is much goes on in the next turns. */
  #stage(): boolean {
    if (this.#primary.stage()) return true;
    if (this.#primary.isCopying) this.#copying.start();
    return false;
  }

  /** Whether the planes' framebuffers can be shown. If not, that continues when it is this screen's turn to make handles. */
  #isReady(): boolean {
    const needsCursor = !this.#hidesCursor && !this.#cursor.isReady;
    if (this.#primary.isReady && !needsCursor) return true;
    if (this.#primary.isExpensive || (needsCursor && this.#cursor.isExpensive)) {
      this.#turns.add(this);
      return false;
    }
    this.#primary.prepare();
    this.#cursor.prepare();
    return true;
  }

  /** The picture is complete when `acquire` signals. An earlier fence belonged to a picture that is out of date. */
  #dependOn(acquire: BorrowedFd | null): void {
    this.#acquire = acquire;
    this.#unfinished.stop();
  }

  /**
   * Whether the picture may be copied or presented now. If not, that continues when its fence signals. A picture whose
   * fence cannot be waited for is shown at once, perhaps unfinished: otherwise its flush would never be done.
   */
  #mayRead(): boolean {
    if (!this.#acquire || (this.#primary.isZeroCopy && this.output.takesFences)) return true;
    if (this.#unfinished.isWaiting) return false;
    try {
      this.#unfinished.start(this.#acquire);
      return false;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#logOnce(
        'warn',
        `${this.output.name}: pictures are shown before they are finished, because their fences cannot be waited for: ${error.message}`,
        'fence',
      );
      this.#acquire = null;
      return true;
    }
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
