import { Bag } from '../core/bag.ts';
import type { Damage } from '../core/damage.ts';
import { UsageError } from '../core/errors.ts';
import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import { MutableRect, type Rect, type Size } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import type { Monitor } from '../core/monitor.ts';
import type { BufferSink, GuestBuffer, Output } from '../core/output.ts';
import type { Flush, ScanoutId, Source } from '../core/source.ts';
import { UdmabufError } from '../sys/udmabuf.ts';
import { DmabufPool, type ZeroCopy } from './dmabuf-pool.ts';
import { flushEnd, PendingFlushes } from './pending-flushes.ts';
import type { FrameTimes } from './frame-ages.ts';
import type { BufferContext } from './plane-buffers.ts';
import { ImportTurns } from './plane-imports.ts';
import type { Latency } from './present-deadline.ts';
import { Screen, type ScreenOwner, type ScreenStats } from './screen.ts';

/** Refresh of a scanout without a screen, so that a guest that waits for its flips keeps an even pace. */
const UNSEEN_REFRESH_MS = 1000 / 60;

/** The sources of all bridges that are not disposed. A second bridge would silently take over the first one's source. */
const bridged = new WeakSet<Source>();

export interface BridgeOptions {
  readonly log?: Log;
  /** Which guest pages outputs may read as they are; default `auto`, those of blobs. */
  readonly zeroCopy?: ZeroCopy;
  /** Screens keep the guest's last picture while it shows none (reset, gone); by default they turn dark. */
  readonly keepLast?: boolean;
  /**
   * Default `safe`: a frame is presented as soon as the one before is on screen. `low`: outputs that know their next
   * vertical blank get it just before, with what the guest has drawn until then. A frame that is late then is a refresh late.
   */
  readonly latency?: Latency;
  /** The guest's input devices, which get what people do at the outputs. */
  readonly input?: GuestInput;
  /** Takes the buffers that programs of the guest export. */
  readonly buffers?: BufferSink;
}

export interface ObserveOptions {
  /** Whether the output keeps the last picture when the guest stops; default false. */
  readonly keepLast?: boolean;
  readonly log: Log;
}

export interface ScanoutStats {
  scanout: number;
  /** The size of the guest's picture, for example `1280x800`; null while it is off. */
  picture: string | null;
  flushes: number;
  screens: ScreenStats[];
}

/** An output that reads a scanout, until it is disposed. */
export interface Observation extends Disposable {
  /** What the output shows is a copy, which stays as it is. */
  readonly isCopy: boolean;
}

interface Scanout {
  framebuffer: Framebuffer | null;
  readonly rect: MutableRect;
  /** Of the newest flush, for telling flips from redraws while no screen shows the scanout. */
  flushed: Framebuffer | null;
  cursor: Framebuffer | null;
  hotspotX: number;
  hotspotY: number;
  cursorX: number;
  cursorY: number;
  flushes: number;
  readonly screens: Screen[];
  /** The first screen's that has one, as the guest was told. */
  monitor: Monitor | null;
}

/** One guest flush shown on several screens: done when the last of them is. Passes on no release fence, because none covers all screens. */
class SharedFlush implements Flush {
  readonly #pool: Bag<SharedFlush>;
  #flush: Flush | null = null;
  #remaining = 0;
  isFenced = false;
  isPaced = false;

  constructor(pool: Bag<SharedFlush>) {
    this.#pool = pool;
  }

  share(flush: Flush, screens: number): this {
    this.#flush = flush;
    this.#remaining = screens;
    this.isFenced = flush.isFenced;
    this.isPaced = flush.isPaced === true;
    return this;
  }

  done(): void {
    if (--this.#remaining > 0) return;
    const flush = this.#flush;
    this.#flush = null;
    this.#pool.add(this);
    flush?.done();
  }
}

/**
 * Pairs the scanouts of a source with outputs. Owns neither: dispose the bridge first, then the
 * outputs and the source.
 *
 *     using bridge = new Bridge(guest);
 *     bridge.show(0, output);
 */
export class Bridge implements Disposable {
  readonly input: GuestInput | null;
  readonly #source: Source;
  readonly #context: BufferContext;
  readonly #scanouts: Scanout[];
  /** Of observers: nothing is shared. */
  readonly #copies: DmabufPool;
  readonly #sharedFlushes = new Bag<SharedFlush>();
  readonly #unseen = new PendingFlushes();
  readonly #owner: ScreenOwner;
  readonly #buffers: BufferSink | null;
  readonly #exported = new Map<FramebufferId, GuestBuffer>();
  #unseenTimer: NodeJS.Timeout | null = null;
  #isDisposed = false;

  /** Connects to `source`. Throws UsageError while another bridge is connected to it. */
  constructor(source: Source, options: BridgeOptions = {}) {
    if (bridged.has(source))
      throw new UsageError('Bridge: this source already has a bridge; dispose that bridge first');
    this.input = options.input ?? null;
    this.#buffers = options.buffers ?? null;
    this.#source = source;
    this.#context = {
      dmabufs: new DmabufPool(options.zeroCopy ?? 'auto', source.budget),
      turns: new ImportTurns(),
      budget: source.budget,
      keepLast: options.keepLast ?? false,
      latency: options.latency ?? 'safe',
      log: options.log ?? (() => undefined),
    };
    this.#copies = new DmabufPool(
      'off',
      source.budget,
      () => new UdmabufError('driver-open-failed', 'guest pages are to be copied'),
    );
    this.#owner = {
      input: this.input,
      resized: (screen) => this.#updateMonitor(screen.scanout),
      closed: (screen, reason, isWanted) => {
        this.#context.log(isWanted ? 'info' : 'warn', `${screen.output.name} is gone: ${reason}`);
        this.#remove(screen);
      },
    };
    this.#scanouts = Array.from({ length: source.scanouts }, () => ({
      framebuffer: null,
      rect: new MutableRect(),
      flushed: null,
      cursor: null,
      hotspotX: 0,
      hotspotY: 0,
      cursorX: 0,
      cursorY: 0,
      flushes: 0,
      screens: [],
      monitor: null,
    }));
    try {
      source.connect({
        scanout: (id, framebuffer, rect) => this.#setScanout(id, framebuffer, rect),
        flush: (id, damage, flush) => this.#flush(id, damage, flush),
        cursor: (id, framebuffer, hotspotX, hotspotY, x, y) =>
          this.#setCursor(id, framebuffer, hotspotX, hotspotY, x, y),
        cursorMoved: (id, x, y) => this.#moveCursor(id, x, y),
        halted: () => this.#halt(),
        exported: (resource, framebuffer) => this.#export(resource, framebuffer),
        destroyed: (framebuffer) => this.#destroy(framebuffer),
      });
    } catch (error) {
      this.#release();
      throw error;
    }
    bridged.add(source);
  }

  /**
   * Shows scanout `id`, counted from 0, on an output, beside the outputs that show it already. The
   * guest's monitor is that of the first output that has one. `keepLast` overrides the bridge's.
   * Throws RangeError for a scanout that the guest does not have, an Error if the output is taken,
   * and what the output throws; the output is detached then.
   */
  show(id: number, output: Output, { keepLast = this.#context.keepLast }: Pick<BridgeOptions, 'keepLast'> = {}): void {
    this.#add(id, new Screen(output, id, { ...this.#context, keepLast }, this.#owner));
  }

  /**
   * Shows scanout `id` on an output that only reads it, for a picture of what other outputs show: the guest gets no
   * monitor and no input by it, and does not hear of its refresh, which should be high: a flush also waits for this
   * output, so that it never has parts of two pictures. Guest pages are copied. `keepLast` and errors as for `show`;
   * `log` hears why the output has no picture.
   */
  observe(id: ScanoutId, output: Output, { keepLast = false, log }: ObserveOptions): Observation {
    const context = { ...this.#context, dmabufs: this.#copies, keepLast, log };
    const screen = new Screen(output, id, context, this.#owner, { isObserver: true });
    this.#add(id, screen);
    return {
      get isCopy() {
        return screen.showsCopy;
      },
      [Symbol.dispose]: () => this.#remove(screen),
    };
  }

  /**
   * Hands out when each frame of the outputs that show scanout `id` now came to each stage, until the result is called.
   * Throws RangeError as `show`.
   */
  trace(id: ScanoutId, tracer: (output: string, times: FrameTimes) => void): () => void {
    const { screens } = this.#scanoutOf(id);
    const stops = screens.filter(isViewer).map((screen) => screen.trace((times) => tracer(screen.output.name, times)));
    return () => stops.forEach((stop) => stop());
  }

  /** The size of the guest's picture; null while the scanout is off. */
  pictureSize(id: ScanoutId): Size | null {
    const { framebuffer, rect } = this.#scanouts[id]!;
    return framebuffer ? { width: rect.width, height: rect.height } : null;
  }

  /** How often the guest has drawn, on all scanouts. */
  get flushes(): number {
    return this.#scanouts.reduce((sum, { flushes }) => sum + flushes, 0);
  }

  #scanoutOf(id: ScanoutId): Scanout {
    const scanout = this.#scanouts[id];
    if (!scanout) throw new RangeError(`scanout ${id}: the guest has ${this.#scanouts.length}, counted from 0`);
    return scanout;
  }

  /** Throws as `show`; the output is detached then. */
  #add(id: ScanoutId, screen: Screen): void {
    let scanout: Scanout;
    try {
      scanout = this.#scanoutOf(id);
    } catch (error) {
      screen[Symbol.dispose]();
      throw error;
    }
    scanout.screens.push(screen);
    try {
      this.#updateMonitor(id);
      const { framebuffer, rect, cursor, hotspotX, hotspotY, cursorX, cursorY } = scanout;
      if (framebuffer) screen.setScanout(framebuffer, rect);
      // Both present; the first frame has the cursor.
      if (cursor) screen.setCursor(cursor, hotspotX, hotspotY, cursorX, cursorY);
      else if (framebuffer) screen.refresh();
    } catch (error) {
      this.#remove(screen);
      throw error;
    }
  }

  /**
   * Resolves when each screen shows what the guest has flushed. That may be later than the answer to the flush, and than the
   * frame that an output has in flight: a large picture is copied in several turns of the event loop.
   */
  async settled(): Promise<void> {
    await Promise.all(this.#scanouts.flatMap(({ screens }) => screens.map((screen) => screen.settled())));
  }

  /**
   * Takes the guest off this output (with `keepLast`, its last picture stays), which remains the
   * caller's and may be shown something else at once. Does nothing if it shows no scanout.
   */
  hide(output: Output): void {
    for (const { screens } of this.#scanouts) {
      const screen = screens.find((candidate) => candidate.output === output);
      if (screen) this.#remove(screen);
    }
  }

  get stats(): ScanoutStats[] {
    return this.#scanouts.map(({ framebuffer, rect, flushes, screens }, index) => ({
      scanout: index,
      picture: framebuffer ? `${rect.width}x${rect.height}` : null,
      flushes,
      screens: screens.filter(isViewer).map((screen) => screen.stats),
    }));
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    bridged.delete(this.#source);
    for (const { screens } of this.#scanouts) for (const screen of screens.splice(0)) screen[Symbol.dispose]();
    if (this.#unseenTimer) clearTimeout(this.#unseenTimer);
    this.#finishUnseen();
    this.#release();
  }

  #release(): void {
    for (const buffer of this.#exported.values()) this.#buffers?.removed(buffer);
    this.#exported.clear();
    this.#context.turns[Symbol.dispose]();
    this.#context.dmabufs[Symbol.dispose]();
    this.#copies[Symbol.dispose]();
  }

  #setScanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void {
    const scanout = this.#scanouts[id]!;
    scanout.framebuffer = framebuffer;
    scanout.rect.copy(rect);
    this.input?.scanoutSized(id, framebuffer ? rect.width : 0, framebuffer ? rect.height : 0);
    // Loops on the flip path use no iterator, which is garbage until the function is compiled.
    const { screens } = scanout;
    for (let i = 0; i < screens.length; i++) screens[i]!.setScanout(framebuffer, rect);
  }

  #flush(id: ScanoutId, damage: Damage, flush: Flush | null): void {
    const scanout = this.#scanouts[id]!;
    const { screens } = scanout;
    scanout.flushes++;
    const isFlip = scanout.flushed !== scanout.framebuffer;
    scanout.flushed = scanout.framebuffer;
    let observers = 0;
    let lit = 0;
    for (let i = 0; i < screens.length; i++) {
      if (screens[i]!.isObserver) observers++;
      else if (isLit(screens[i]!.output)) lit++;
    }
    const viewers = screens.length - observers;
    // The timer of a screen that shows nothing must not slow the guest down on the others. Without any screen, another does.
    const waited = observers + (lit > 0 ? lit : Math.max(1, viewers));
    const each =
      flush && waited > 1
        ? (this.#sharedFlushes.pop() ?? new SharedFlush(this.#sharedFlushes)).share(flush, waited)
        : flush;
    const acquire = flush?.acquire ?? null;
    for (let i = 0; i < screens.length; i++) {
      const screen = screens[i]!;
      screen.flush(damage, lit === 0 || screen.isObserver || isLit(screen.output) ? each : null, acquire);
    }
    if (viewers === 0 && each) this.#flushUnseen(each, isFlip || flush?.isPaced === true);
  }

  #setCursor(
    id: ScanoutId,
    framebuffer: Framebuffer | null,
    hotspotX: number,
    hotspotY: number,
    x: number,
    y: number,
  ): void {
    const scanout = this.#scanouts[id]!;
    scanout.cursor = framebuffer;
    scanout.hotspotX = hotspotX;
    scanout.hotspotY = hotspotY;
    scanout.cursorX = x;
    scanout.cursorY = y;
    for (const screen of scanout.screens) screen.setCursor(framebuffer, hotspotX, hotspotY, x, y);
  }

  #moveCursor(id: ScanoutId, x: number, y: number): void {
    const scanout = this.#scanouts[id]!;
    scanout.cursorX = x;
    scanout.cursorY = y;
    for (const screen of scanout.screens) screen.moveCursor(x, y);
  }

  #halt(): void {
    for (const { screens } of this.#scanouts) for (const screen of screens) screen.halt();
  }

  #export(resource: number, framebuffer: Framebuffer): void {
    if (!this.#buffers) return;
    const { dmabufs } = this.#context;
    const buffer: GuestBuffer = {
      resource,
      framebuffer,
      share: () =>
        dmabufs.allows(framebuffer) ? dmabufs.take(framebuffer, true) : new Error('guest pages are to be copied'),
      unshare: () => dmabufs.release(framebuffer.id),
    };
    this.#exported.set(framebuffer.id, buffer);
    this.#buffers.added(buffer);
  }

  #destroy(framebuffer: Framebuffer): void {
    const exported = this.#exported.get(framebuffer.id);
    if (exported) {
      this.#exported.delete(framebuffer.id);
      this.#buffers!.removed(exported);
      return;
    }
    for (const scanout of this.#scanouts) {
      if (scanout.framebuffer === framebuffer) scanout.framebuffer = null;
      if (scanout.cursor === framebuffer) scanout.cursor = null;
      if (scanout.flushed === framebuffer) scanout.flushed = null;
      for (const screen of scanout.screens) screen.remove(framebuffer);
    }
  }

  #remove(screen: Screen): void {
    const { screens } = this.#scanouts[screen.scanout]!;
    const at = screens.indexOf(screen);
    if (at < 0) return;
    screens.splice(at, 1);
    screen[Symbol.dispose]();
    this.#updateMonitor(screen.scanout);
  }

  /** Mirrors of other sizes show the first screen's picture. */
  #updateMonitor(id: ScanoutId): void {
    const scanout = this.#scanouts[id]!;
    const monitor = scanout.screens.find((screen) => isViewer(screen) && screen.output.monitor)?.output.monitor ?? null;
    if (monitor === scanout.monitor) return;
    scanout.monitor = monitor;
    this.#source.setMonitor(id, monitor);
  }

  /** No screen shows the scanout: what a screen would end later, a timer does. */
  #flushUnseen(flush: Flush, isFlip: boolean): void {
    if (this.#isDisposed || flushEnd(flush.isFenced, isFlip, false) === 'now') {
      flush.done();
      return;
    }
    this.#unseen.add(flush, 'when shown');
    this.#unseenTimer ??= setTimeout(() => this.#finishUnseen(), UNSEEN_REFRESH_MS);
  }

  #finishUnseen(): void {
    this.#unseenTimer = null;
    this.#unseen.finishAll();
  }
}

/** People may see what it shows. */
function isLit(output: Output): boolean {
  return output.monitor !== null && output.isHidden !== true;
}

function isViewer({ isObserver }: Screen): boolean {
  return !isObserver;
}
