import { DmabufPool, type ZeroCopy } from './dmabuf-pool.ts';
import type { BufferContext } from './plane-buffers.ts';
import { Screen, type ScreenOwner, type ScreenStats } from './screen.ts';
import { Bag } from '../core/bag.ts';
import type { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { MutableRect, type Rect } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import { MemoryBudget } from '../core/budget.ts';
import type { Monitor } from '../core/monitor.ts';
import type { Output } from '../core/output.ts';
import { scanoutId, type Flush, type ScanoutId, type Source, type SourceSink } from '../core/source.ts';

/** Refresh of a scanout nobody looks at: a guest that waits for its flush keeps an even pace. */
const UNSEEN_REFRESH_MS = 1000 / 60;

export interface BridgeOptions {
  readonly log?: Log;
  /** Which guest pages outputs may read as they are; `auto` is all that can be. */
  readonly zeroCopy?: ZeroCopy;
  /** Screens keep a guest's last picture when it shows none (reset, gone); default: they go dark. */
  readonly keepLast?: boolean;
  /** Bounds the shadows a guest can cause; pass the source's own to bound both together. */
  readonly budget?: MemoryBudget;
  /** The guest's input devices, told what people do at the outputs. */
  readonly input?: GuestInput;
}

export interface ScanoutStats {
  scanout: number;
  /** The guest's picture now, for example `1280x800`; null while it is off. */
  picture: string | null;
  flushes: number;
  screens: ScreenStats[];
}

interface Scanout {
  framebuffer: Framebuffer | null;
  readonly rect: MutableRect;
  cursor: Framebuffer | null;
  hotspotX: number;
  hotspotY: number;
  cursorX: number;
  cursorY: number;
  flushes: number;
  readonly screens: Screen[];
  /** That of the first screen that has one, as the guest was told. */
  monitor: Monitor | null;
}

/** One guest flush shown on several screens: done when the last of them is. No fence tells of all of them, so none is handed on. */
class SharedFlush implements Flush {
  readonly #pool: Bag<SharedFlush>;
  #flush: Flush | null = null;
  #remaining = 0;

  constructor(pool: Bag<SharedFlush>) {
    this.#pool = pool;
  }

  share(flush: Flush, screens: number): this {
    this.#flush = flush;
    this.#remaining = screens;
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
 *     using bridge = new Bridge(guest, { budget: guest.budget });
 *     bridge.show(scanoutId(0), output);
 */
export class Bridge implements SourceSink, ScreenOwner, Disposable {
  readonly input: GuestInput | null;
  readonly #source: Source;
  readonly #context: BufferContext;
  readonly #scanouts: Scanout[];
  readonly #sharedFlushes = new Bag<SharedFlush>();
  readonly #unseen = new Bag<Flush>();
  #unseenTimer: NodeJS.Timeout | null = null;
  #isDisposed = false;

  constructor(source: Source, options: BridgeOptions = {}) {
    this.input = options.input ?? null;
    this.#source = source;
    this.#context = {
      dmabufs: new DmabufPool(options.zeroCopy ?? 'auto'),
      budget: options.budget ?? new MemoryBudget(Infinity),
      keepLast: options.keepLast ?? false,
      log: options.log ?? (() => undefined),
    };
    this.#scanouts = Array.from({ length: source.scanouts }, () => ({
      framebuffer: null,
      rect: new MutableRect(),
      cursor: null,
      hotspotX: 0,
      hotspotY: 0,
      cursorX: 0,
      cursorY: 0,
      flushes: 0,
      screens: [],
      monitor: null,
    }));
    source.connect(this);
  }

  /**
   * Shows a scanout on an output, beside those that show it already. The guest's monitor is that
   * of the first that has one. `keepLast` for this output, if not as for all.
   */
  show(id: ScanoutId, output: Output, { keepLast = this.#context.keepLast }: Pick<BridgeOptions, 'keepLast'> = {}): void {
    const scanout = this.#scanouts[id];
    if (!scanout) throw new RangeError(`scanout ${id}: the guest has ${this.#scanouts.length}`);
    const screen = new Screen(output, id, { ...this.#context, keepLast }, this);
    scanout.screens.push(screen);
    this.#tellMonitor(id, scanout);
    if (!scanout.framebuffer) return;
    screen.setScanout(scanout.framebuffer, scanout.rect);
    screen.refresh();
    screen.setCursor(scanout.cursor, scanout.hotspotX, scanout.hotspotY, scanout.cursorX, scanout.cursorY);
  }

  /** Stops showing anything on this output, which stays the caller's. */
  hide(output: Output): void {
    this.#scanouts.forEach((scanout, index) => {
      const at = scanout.screens.findIndex((screen) => screen.output === output);
      if (at < 0) return;
      scanout.screens.splice(at, 1)[0]![Symbol.dispose]();
      // Whatever is held down at it, nobody tells its end.
      this.input?.releaseAll();
      this.#tellMonitor(scanoutId(index), scanout);
    });
  }

  get stats(): ScanoutStats[] {
    return this.#scanouts.map(({ framebuffer, rect, flushes, screens }, index) => ({
      scanout: index,
      picture: framebuffer ? `${rect.width}x${rect.height}` : null,
      flushes,
      screens: screens.map((screen) => screen.stats),
    }));
  }

  scanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void {
    const scanout = this.#scanouts[id]!;
    scanout.framebuffer = framebuffer;
    scanout.rect.copy(rect);
    this.input?.scanoutSized(id, framebuffer ? rect.width : 0, framebuffer ? rect.height : 0);
    // Here and below without an iterator, which is garbage until the function is compiled.
    const { screens } = scanout;
    for (let i = 0; i < screens.length; i++) screens[i]!.setScanout(framebuffer, rect);
  }

  flush(id: ScanoutId, damage: Damage, flush: Flush | null): void {
    const scanout = this.#scanouts[id]!;
    scanout.flushes++;
    const { screens } = scanout;
    if (flush && screens.length === 0) {
      this.#waitUnseen(flush);
      return;
    }
    let lit = 0;
    for (let i = 0; i < screens.length; i++) if (screens[i]!.output.monitor) lit++;
    // A dark screen's timer would slow the guest down on the lit ones.
    const waited = lit > 0 ? lit : screens.length;
    const each = flush && waited > 1 ? (this.#sharedFlushes.pop() ?? new SharedFlush(this.#sharedFlushes)).share(flush, waited) : flush;
    const acquire = flush?.acquire ?? null;
    for (let i = 0; i < screens.length; i++) screens[i]!.flush(damage, lit === 0 || screens[i]!.output.monitor ? each : null, acquire);
  }

  cursor(id: ScanoutId, framebuffer: Framebuffer | null, hotspotX: number, hotspotY: number, x: number, y: number): void {
    const scanout = this.#scanouts[id]!;
    scanout.cursor = framebuffer;
    scanout.hotspotX = hotspotX;
    scanout.hotspotY = hotspotY;
    scanout.cursorX = x;
    scanout.cursorY = y;
    for (const screen of scanout.screens) screen.setCursor(framebuffer, hotspotX, hotspotY, x, y);
  }

  cursorMoved(id: ScanoutId, x: number, y: number): void {
    const scanout = this.#scanouts[id]!;
    scanout.cursorX = x;
    scanout.cursorY = y;
    for (const screen of scanout.screens) screen.moveCursor(x, y);
  }

  halted(): void {
    for (const { screens } of this.#scanouts) for (const screen of screens) screen.halt();
  }

  destroyed(framebuffer: Framebuffer): void {
    for (const scanout of this.#scanouts) {
      if (scanout.cursor === framebuffer) scanout.cursor = null;
      for (const screen of scanout.screens) screen.forget(framebuffer);
    }
    this.#context.dmabufs.forget(framebuffer.id);
  }

  resized(screen: Screen): void {
    this.#scanouts.forEach((scanout, index) => {
      if (scanout.screens.includes(screen)) this.#tellMonitor(scanoutId(index), scanout);
    });
  }

  closed(screen: Screen, reason: string): void {
    this.#context.log('warn', `${screen.output.name} is gone: ${reason}`);
    this.hide(screen.output);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    for (const scanout of this.#scanouts) for (const screen of scanout.screens.splice(0)) screen[Symbol.dispose]();
    if (this.#unseenTimer) clearTimeout(this.#unseenTimer);
    this.#finishUnseen();
    this.#context.dmabufs[Symbol.dispose]();
  }

  /** Mirrors of other sizes show the picture of the first one's. */
  #tellMonitor(id: ScanoutId, scanout: Scanout): void {
    const monitor = scanout.screens.find((screen) => screen.output.monitor)?.output.monitor ?? null;
    if (monitor === scanout.monitor) return;
    scanout.monitor = monitor;
    this.#source.setMonitor(id, monitor);
  }

  #waitUnseen(flush: Flush): void {
    if (this.#isDisposed) {
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
