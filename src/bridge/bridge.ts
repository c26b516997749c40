import { Bag } from '../core/bag.ts';
import type { Damage } from '../core/damage.ts';
import { UsageError } from '../core/errors.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { MutableRect, type Rect } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import type { Monitor } from '../core/monitor.ts';
import type { Output } from '../core/output.ts';
import type { Flush, ScanoutId, Source } from '../core/source.ts';
import { DmabufPool, type ZeroCopy } from './dmabuf-pool.ts';
import { flushEnd } from './pending-flushes.ts';
import type { BufferContext } from './plane-buffers.ts';
import { Screen, type ScreenOwner, type ScreenStats } from './screen.ts';

/** Refresh of a scanout without a screen, so that a guest that waits for its flips keeps an even pace. */
const UNSEEN_REFRESH_MS = 1000 / 60;

/** The sources of all bridges that are not disposed. A second bridge would silently take over the first one's source. */
const bridged = new WeakSet<Source>();

export interface BridgeOptions {
  readonly log?: Log;
  /** Which guest pages outputs may read as they are; default `auto`, all that can be shared. */
  readonly zeroCopy?: ZeroCopy;
  /** Screens keep the guest's last picture while it shows none (reset, gone); by default they turn dark. */
  readonly keepLast?: boolean;
  /** The guest's input devices, which get what people do at the outputs. */
  readonly input?: GuestInput;
}

export interface ScanoutStats {
  scanout: number;
  /** The size of the guest's picture, for example `1280x800`; null while it is off. */
  picture: string | null;
  flushes: number;
  screens: ScreenStats[];
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

  constructor(pool: Bag<SharedFlush>) {
    this.#pool = pool;
  }

  share(flush: Flush, screens: number): this {
    this.#flush = flush;
    this.#remaining = screens;
    this.isFenced = flush.isFenced;
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
  readonly #sharedFlushes = new Bag<SharedFlush>();
  readonly #unseen = new Bag<Flush>();
  readonly #owner: ScreenOwner;
  #unseenTimer: NodeJS.Timeout | null = null;
  #isDisposed = false;

  /** Connects to `source`. Throws UsageError while another bridge is connected to it. */
  constructor(source: Source, options: BridgeOptions = {}) {
    if (bridged.has(source))
      throw new UsageError('Bridge: this source already has a bridge; dispose that bridge first');
    this.input = options.input ?? null;
    this.#source = source;
    this.#context = {
      dmabufs: new DmabufPool(options.zeroCopy ?? 'auto'),
      budget: source.budget,
      keepLast: options.keepLast ?? false,
      log: options.log ?? (() => undefined),
    };
    this.#owner = {
      input: this.input,
      resized: (screen) => this.#updateMonitor(screen.scanout),
      closed: (screen, reason) => {
        this.#context.log('warn', `${screen.output.name} is gone: ${reason}`);
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
        destroyed: (framebuffer) => this.#destroy(framebuffer),
      });
    } catch (error) {
      this.#context.dmabufs[Symbol.dispose]();
      throw error;
    }
    bridged.add(source);
  }

  /**
   * Shows scanout `id`, counted from 0, on an output, beside the outputs that show it already. The
   * guest's monitor is that of the first output that has one. `keepLast` overrides the bridge's.
   * Throws RangeError for a scanout that the guest does not have, and if the output is taken.
   */
  show(id: number, output: Output, { keepLast = this.#context.keepLast }: Pick<BridgeOptions, 'keepLast'> = {}): void {
    const scanout = this.#scanouts[id];
    if (!scanout) throw new RangeError(`scanout ${id}: the guest has ${this.#scanouts.length}, counted from 0`);
    const screen = new Screen(output, id, { ...this.#context, keepLast }, this.#owner);
    scanout.screens.push(screen);
    this.#updateMonitor(id);
    if (scanout.framebuffer) {
      screen.setScanout(scanout.framebuffer, scanout.rect);
      screen.refresh();
    }
    if (scanout.cursor)
      screen.setCursor(scanout.cursor, scanout.hotspotX, scanout.hotspotY, scanout.cursorX, scanout.cursorY);
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
      screens: screens.map((screen) => screen.stats),
    }));
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    bridged.delete(this.#source);
    for (const { screens } of this.#scanouts) for (const screen of screens.splice(0)) screen[Symbol.dispose]();
    if (this.#unseenTimer) clearTimeout(this.#unseenTimer);
    this.#finishUnseen();
    this.#context.dmabufs[Symbol.dispose]();
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
    if (screens.length === 0) {
      if (flush) this.#flushUnseen(flush, isFlip);
      return;
    }
    let lit = 0;
    for (let i = 0; i < screens.length; i++) if (screens[i]!.output.monitor) lit++;
    // The timer of a screen without a monitor must not slow the guest down on the others.
    const waited = lit > 0 ? lit : screens.length;
    const each =
      flush && waited > 1
        ? (this.#sharedFlushes.pop() ?? new SharedFlush(this.#sharedFlushes)).share(flush, waited)
        : flush;
    const acquire = flush?.acquire ?? null;
    for (let i = 0; i < screens.length; i++)
      screens[i]!.flush(damage, lit === 0 || screens[i]!.output.monitor ? each : null, acquire);
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

  #destroy(framebuffer: Framebuffer): void {
    for (const scanout of this.#scanouts) {
      if (scanout.cursor === framebuffer) scanout.cursor = null;
      if (scanout.flushed === framebuffer) scanout.flushed = null;
      for (const screen of scanout.screens) screen.remove(framebuffer);
    }
    this.#context.dmabufs.remove(framebuffer.id);
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
    const monitor = scanout.screens.find((screen) => screen.output.monitor)?.output.monitor ?? null;
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
    this.#unseen.add(flush);
    this.#unseenTimer ??= setTimeout(() => this.#finishUnseen(), UNSEEN_REFRESH_MS);
  }

  #finishUnseen(): void {
    this.#unseenTimer = null;
    for (let flush = this.#unseen.pop(); flush; flush = this.#unseen.pop()) flush.done();
  }
}
