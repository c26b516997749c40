import type { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, sameRect, type Rect } from '../core/geometry.ts';
import type { Log, LogOnce } from '../core/log.ts';
import type { MemoryBudget } from '../core/budget.ts';
import type { Handle, Output, PlaneState } from '../core/output.ts';
import { chooseShadowFormat, copyPixels } from './copy-pixels.ts';
import type { DmabufPool } from './dmabuf-pool.ts';
import { type PlaneCacheStats, PlaneImports } from './plane-imports.ts';
import { ShadowChain, type ShadowWriter } from './shadow-chain.ts';

/**
 * How a framebuffer reaches an output, best first:
 * `dmabuf` as the source gave it, `udmabuf` made of guest pages, `direct` read by the output
 * itself, `shadow` copied damage.
 */
export type Rung = 'dmabuf' | 'udmabuf' | 'direct' | 'shadow';

/** What the planes of a bridge share. */
export interface BufferContext {
  readonly dmabufs: DmabufPool;
  readonly budget: MemoryBudget;
  readonly log: Log;
  /** Screens keep the last picture of a guest that shows none. */
  readonly keepLast: boolean;
}

/** What the planes of a screen share. */
export interface ScreenContext extends BufferContext {
  /** The reason why one plane copies is the other's as well. */
  readonly logOnce: LogOnce;
}

export interface PlaneStats extends PlaneCacheStats {
  rung: Rung | null;
  /** Bytes copied into shadows so far. */
  copiedBytes: number;
  shadowBytes: number;
}

/**
 * The buffers one plane of one output shows: for each framebuffer of the guest the best rung that
 * works. Handles are kept per framebuffer, so a flip between known ones makes nothing new.
 *
 *     show(fb, rect) -> damage(area) -> stage() -> take(state) -> released(handle)
 *
 * `freeze` puts a copy in front of whatever is shown, `thaw` takes it away.
 */
export class PlaneBuffers implements Disposable {
  readonly #output: Output;
  readonly #context: ScreenContext;
  readonly #use: 'primary' | 'cursor';
  readonly #imports: PlaneImports;
  readonly #write: ShadowWriter;
  #framebuffer: Framebuffer | null = null;
  /** One object for the plane's life: `take` hands it out on every frame. */
  readonly #rect = new MutableRect();
  #handle: Handle | null = null;
  #chain: ShadowChain | null = null;
  #chainIsBehind = false;
  /** While frozen, the chain whose newest buffer is the picture: `#chain` or the one before it. */
  #still: ShadowChain | null = null;
  /** Chains of an earlier size whose buffers the output still shows. */
  readonly #oldChains: ShadowChain[] = [];
  #rung: Rung | null = null;
  #copiedBytes = 0;

  constructor(output: Output, use: 'primary' | 'cursor', context: ScreenContext, isShown: (handle: Handle) => boolean) {
    this.#output = output;
    this.#use = use;
    this.#context = context;
    this.#imports = new PlaneImports(output, context.dmabufs, context.logOnce, isShown);
    this.#write = (shadow, area) => {
      const framebuffer = this.#framebuffer;
      if (framebuffer?.backing.kind !== 'pages') return;
      shadow.beginWrite();
      try {
        copyPixels(framebuffer, framebuffer.backing, this.#rect, shadow, area);
      } finally {
        shadow.endWrite();
      }
      this.#copiedBytes += area.area * 4;
    };
  }

  get framebuffer(): Framebuffer | null {
    return this.#framebuffer;
  }

  get stats(): PlaneStats {
    return { ...this.#imports.stats, rung: this.#rung, copiedBytes: this.#copiedBytes, shadowBytes: this.#chain?.byteLength ?? 0 };
  }

  get isStill(): boolean {
    return this.#still !== null;
  }

  /** From now on `rect` of this framebuffer is the plane's picture, or will be after `thaw`; null is nothing, at once. */
  show(framebuffer: Framebuffer | null, rect: Rect): void {
    if (!framebuffer) this.thaw();
    if (framebuffer === this.#framebuffer && sameRect(rect, this.#rect)) return;
    this.#framebuffer = framebuffer;
    this.#rect.copy(rect);
    this.#handle = null;
    this.#chainIsBehind = false;
    if (framebuffer) this.#climb(framebuffer);
  }

  /** `area` of the framebuffer changed. */
  damage(area: Damage): void {
    const chain = this.#chain;
    // A guest may flush nothing, to wait for the frame: that is no reason for another buffer.
    if (this.#handle || !chain || area.isEmpty) return;
    chain.age(area, -this.#rect.x, -this.#rect.y);
    this.#chainIsBehind = true;
  }

  damageWhole(): void {
    if (this.#handle || !this.#chain) return;
    this.#chain.ageWhole();
    this.#chainIsBehind = true;
  }

  /**
   * Copies what must be copied. False: nothing can be shown before the output releases a buffer.
   * When a copy is impossible the picture stays as it was, with one log line.
   */
  stage(): boolean {
    const chain = this.#chain;
    if (this.#still || this.#handle || !chain || !this.#chainIsBehind) return true;
    this.#chainIsBehind = !this.#copyInto(chain);
    return !this.#chainIsBehind;
  }

  /** Until `thaw` the plane's picture is a copy of what it is now (nothing, where it cannot be copied): the guest's memory may change. */
  freeze(): void {
    if (this.#still || !this.#framebuffer) return;
    if (this.#handle) {
      this.#fitChain(this.#framebuffer);
      this.#chainIsBehind = true;
    }
    const chain = this.#chain!;
    if (this.#chainIsBehind) this.#copyInto(chain);
    this.#chainIsBehind = false;
    this.#still = chain;
  }

  /** The framebuffer may go, its frozen picture stays. */
  letGo(): void {
    this.#framebuffer = null;
    this.#handle = null;
  }

  /** The plane's picture is that of its framebuffer again. */
  thaw(): void {
    const still = this.#still;
    this.#still = null;
    if (!still || (still === this.#chain && !this.#handle)) return;
    if (still === this.#chain) this.#chain = null;
    this.#retire(still);
  }

  /** Puts what `present` shall show into `state`; a shadow not written since stays the same handle. */
  take(state: PlaneState): void {
    if (this.#still) {
      this.#still.take(state);
    } else if (!this.#framebuffer) {
      state.handle = null;
    } else if (this.#handle) {
      state.handle = this.#handle;
      state.src = this.#rect;
    } else {
      this.#chain!.take(state);
    }
  }

  released(handle: Handle): void {
    this.#chain?.released(handle);
    this.#still?.released(handle);
    for (let i = this.#oldChains.length - 1; i >= 0; i--) {
      const chain = this.#oldChains[i]!;
      chain.released(handle);
      if (chain.isIdle) this.#oldChains.splice(i, 1)[0]![Symbol.dispose]();
    }
  }

  /** The output imports something else than before: every framebuffer is tried anew. */
  renew(): void {
    this.#imports.renew();
    this.#handle = null;
    if (this.#framebuffer) this.#climb(this.#framebuffer);
  }

  /** The framebuffer is gone: so is its handle. */
  forget(framebuffer: Framebuffer): void {
    if (this.#framebuffer?.id === framebuffer.id) this.show(null, EMPTY_RECT);
    this.#imports.forget(framebuffer.id);
  }

  /** True when the plane's picture reaches the output without a copy of ours. */
  get isZeroCopy(): boolean {
    return this.#handle !== null && this.#rung !== 'direct' && !this.#still;
  }

  [Symbol.dispose](): void {
    this.#framebuffer = null;
    this.#handle = null;
    this.#imports[Symbol.dispose]();
    this.#chain?.[Symbol.dispose]();
    this.#still?.[Symbol.dispose]();
    for (const chain of this.#oldChains.splice(0)) chain[Symbol.dispose]();
    this.#chain = null;
    this.#still = null;
  }

  /** Takes the best rung that works. */
  #climb(framebuffer: Framebuffer): void {
    this.#handle = this.#imports.get(framebuffer);
    if (!this.#handle) this.#useShadow(framebuffer);
    else if (framebuffer.backing.kind === 'dmabuf') this.#useRung('dmabuf');
    else this.#useRung(this.#output.readsPages ? 'direct' : 'udmabuf');
  }

  #useShadow(framebuffer: Framebuffer): void {
    this.#fitChain(framebuffer);
    this.#chainIsBehind = true;
    this.#useRung('shadow');
  }

  /** Brings the newest buffer up to date. False: all are busy. */
  #copyInto(chain: ShadowChain): boolean {
    try {
      const result = chain.stage(this.#write);
      if (result === 'no-memory') {
        const why = chain.refusal ?? `limit ${this.#context.budget.limit} bytes, raise --max-guest-memory`;
        this.#context.logOnce('warn', `${this.#output.name}: no memory for a shadow of ${chain.width}x${chain.height} (${why})`, 'no memory');
      }
      return result !== 'busy';
    } catch (error) {
      this.#context.logOnce('warn', `${this.#output.name}: the ${this.#use} plane keeps its old picture: ${String(error)}`, 'copy failed');
      return true;
    }
  }

  /** A chain for copies of the plane's picture, all of them out of date. */
  #fitChain(framebuffer: Framebuffer): void {
    const max = this.#output.maxCursor;
    const width = this.#use === 'cursor' ? Math.min(this.#rect.width, max.width) : this.#rect.width;
    const height = this.#use === 'cursor' ? Math.min(this.#rect.height, max.height) : this.#rect.height;
    const format = chooseShadowFormat(framebuffer.format, this.#output.shadowFormats, this.#use === 'cursor');
    const chain = this.#chain;
    if (chain?.width !== width || chain.height !== height || chain.format !== format) {
      if (chain && chain !== this.#still) this.#retire(chain);
      this.#chain = new ShadowChain(this.#output, this.#context.budget, width, height, format);
    }
    this.#chain!.ageWhole();
  }

  #retire(chain: ShadowChain): void {
    if (chain.isIdle) chain[Symbol.dispose]();
    else this.#oldChains.push(chain);
  }

  #useRung(rung: Rung): void {
    if (rung === this.#rung) return;
    this.#rung = rung;
    if (this.#use === 'primary') this.#context.logOnce('info', `${this.#output.name} shows the guest by rung '${rung}'`);
  }
}
