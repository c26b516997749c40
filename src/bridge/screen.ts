import { Bag } from '../core/bag.ts';
import { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, type Rect } from '../core/geometry.ts';
import type { InputSink } from '../core/input.ts';
import { logOnce } from '../core/log.ts';
import type { Frame, Handle, Output, ScreenListener } from '../core/output.ts';
import type { Flush, ScanoutId } from '../core/source.ts';
import type { BorrowedFd } from '../sys/fd.ts';
import { FenceWait } from '../sys/fence-wait.ts';
import { PendingFlushes } from './pending-flushes.ts';
import { PlaneBuffers, type BufferContext, type PlaneStats } from './plane-buffers.ts';

export interface ScreenStats {
  output: string;
  frames: number;
  primary: PlaneStats;
  cursor: PlaneStats;
}

/** What a screen tells its bridge. */
export interface ScreenOwner {
  readonly input: InputSink | null;
  /** Its output's monitor is another, or none. */
  resized(screen: Screen): void;
  closed(screen: Screen, reason: string): void;
}

/**
 * One output showing one scanout. Keeps a single frame in flight and always shows the newest:
 * what arrives meanwhile is copied (shadow rung) or remembered, and goes out on `presented`.
 *
 *     flush -> stage -> commit -> present ... released, presented -> Flush.done
 *                ^------------- the newest, if something changed meanwhile
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

  /** Presented and not yet released. */
  readonly #held = new Bag<Handle>();
  readonly #flushes = new PendingFlushes();
  readonly #damage = new Damage();
  /** Of the newest flush, until a frame has it or it has signalled. */
  #acquire: BorrowedFd | null = null;
  readonly #unfinished = new FenceWait(() => {
    this.#acquire = null;
    this.#primary.stage();
    this.#commit();
  });
  #isDirty = false;
  #isInFlight = false;
  #shown: Framebuffer | null = null;
  #shownIsZeroCopy = false;
  #frames = 0;

  constructor(output: Output, scanout: ScanoutId, context: BufferContext, owner: ScreenOwner) {
    this.output = output;
    this.scanout = scanout;
    this.input = owner.input;
    this.#owner = owner;
    this.#keepLast = context.keepLast;
    const isShown = (handle: Handle) => this.#held.has(handle) || this.#frame.primary.handle === handle || this.#frame.cursor.handle === handle;
    const shared = { ...context, logOnce: logOnce(context.log) };
    this.#primary = new PlaneBuffers(output, 'primary', shared, isShown);
    this.#cursor = new PlaneBuffers(output, 'cursor', shared, isShown);
    output.listen(this);
  }

  get stats(): ScreenStats {
    return { output: this.output.name, frames: this.#frames, primary: this.#primary.stats, cursor: this.#cursor.stats };
  }

  /** The picture from the next flush on; null blanks the screen now, or leaves it with a copy of its last picture. */
  setScanout(framebuffer: Framebuffer | null, rect: Rect): void {
    if (!framebuffer && this.#keepLast) {
      this.halt();
      this.#primary.letGo();
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
   * Shows a copy of the picture as it is now, whatever becomes of the guest's memory, until the
   * next flush. Where the last picture stays for good it has no cursor: one that does not move
   * looks broken.
   */
  halt(): void {
    if (!this.#primary.framebuffer || this.#primary.isStill) return;
    // Whoever was drawing stands still: what there is now is the picture.
    this.#dependOn(null);
    this.#primary.freeze();
    if (!this.#keepLast) this.#cursor.freeze();
    this.#isDirty = true;
    this.#commit();
  }

  /** Shows `damage` once `acquire` has signalled; `flush.done()` follows, see the design's rules for when. */
  flush(damage: Damage, flush: Flush | null, acquire: BorrowedFd | null): void {
    if (this.#primary.isStill) this.#goOn();
    this.#dependOn(acquire);
    this.#primary.damage(damage);
    this.#damage.addAll(damage);
    this.#isDirty = true;
    const isCopied = this.#mayRead() && this.#primary.stage() && !this.#primary.isZeroCopy;
    const isFlip = this.#primary.framebuffer !== this.#shown;
    // A fence has to stay until it has signalled.
    if (flush && (isFlip || acquire)) this.#flushes.addFlip(flush);
    else if (flush && !isCopied) this.#flushes.addRedraw(flush);
    this.#commit();
    if (flush && !isFlip && isCopied) flush.done();
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

  forget(framebuffer: Framebuffer): void {
    if (this.#shown === framebuffer) this.#shown = null;
    this.#primary.forget(framebuffer);
    this.#cursor.forget(framebuffer);
  }

  presented(): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#frames++;
    this.#flushes.shown(this.#held);
    this.#commit();
  }

  released(handle: Handle): void {
    while (this.#held.remove(handle));
    this.#primary.released(handle);
    this.#cursor.released(handle);
    this.#flushes.released(handle);
    this.#commit();
  }

  resized(): void {
    this.#owner.resized(this);
  }

  importsChanged(): void {
    this.#primary.renew();
    this.#cursor.renew();
    this.#damage.addRect(this.#rect);
    this.#isDirty = true;
    this.#commit();
  }

  closed(reason: string): void {
    this.#owner.closed(this, reason);
  }

  /** Ends the pairing; the output stays its owner's. Whoever waits for a frame is answered. */
  [Symbol.dispose](): void {
    this.#isDirty = false;
    this.#dependOn(null);
    this.#primary[Symbol.dispose]();
    this.#cursor[Symbol.dispose]();
    this.#flushes.finishAll();
  }

  #commit(): void {
    if (!this.#isDirty || this.#isInFlight || !this.#mayRead() || !this.#primary.stage() || !this.#cursor.stage()) return;
    const frame = this.#frame;
    const before = frame.primary.handle;
    const { isStill } = this.#primary;
    this.#primary.take(frame.primary);
    if (isStill && this.#keepLast) frame.cursor.handle = null;
    else this.#cursor.take(frame.cursor);
    // The guest's next picture may be of another size already.
    const canvas = isStill ? frame.primary.src : this.#canvas;
    frame.canvas = canvas;
    frame.primary.dst = canvas;
    frame.cursor.dst = this.#cursorDst;
    if (isStill) {
      frame.damage.clear();
      frame.damage.addRect(canvas);
    } else {
      this.#shiftDamage(frame);
    }
    if (frame.primary.handle && !this.#held.has(frame.primary.handle)) this.#held.add(frame.primary.handle);
    if (frame.cursor.handle && !this.#held.has(frame.cursor.handle)) this.#held.add(frame.cursor.handle);
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

  /** The picture is finished when this signals; whatever it was to wait for before was for one that is overtaken. */
  #dependOn(acquire: BorrowedFd | null): void {
    this.#acquire = acquire;
    this.#unfinished.stop();
  }

  /** Whether the picture may be copied or presented now; else that goes on when its fence signals. */
  #mayRead(): boolean {
    if (!this.#acquire || (this.#primary.isZeroCopy && this.output.takesFences)) return true;
    if (!this.#unfinished.isWaiting) this.#unfinished.start(this.#acquire);
    return false;
  }

  /** The guest draws again, after a pause or anew. */
  #goOn(): void {
    this.#primary.thaw();
    this.#cursor.thaw();
    // It may not have been shown meanwhile.
    this.#cursor.damageWhole();
    this.#damage.addRect(this.#rect);
  }

  /** From the framebuffer's pixels to those of the buffer shown. */
  #shiftDamage(frame: Frame): void {
    frame.damage.clear();
    frame.damage.addAll(this.#damage, frame.primary.src.x - this.#rect.x, frame.primary.src.y - this.#rect.y);
    this.#damage.clear();
  }
}
