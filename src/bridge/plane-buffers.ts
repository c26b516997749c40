import { formatInfo, type Fourcc } from '../../protocols/drm-fourcc.ts';
import type { MemoryBudget } from '../core/budget.ts';
import type { Damage } from '../core/damage.ts';
import type { Framebuffer } from '../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect, sameRect, type Rect } from '../core/geometry.ts';
import type { Log, LogOnce } from '../core/log.ts';
import type { Handle, Output, PlaneState } from '../core/output.ts';
import { chooseShadowFormat, CopyError, copyPixels } from './copy-pixels.ts';
import type { DmabufPool } from './dmabuf-pool.ts';
import { type ImportTurns, type PlaneCacheStats, PlaneImports } from './plane-imports.ts';
import type { Latency } from './present-deadline.ts';
import { ShadowChain, type ShadowWriter } from './shadow-chain.ts';

/**
 * How a framebuffer reaches an output, best first:
 * `dmabuf` as the source gave it, `udmabuf` made of guest pages, `direct` read by the output
 * itself, `shadow` copied damage.
 */
export type Rung = 'dmabuf' | 'udmabuf' | 'direct' | 'shadow';

/** How many pixels are copied between looks at the clock. A cursor is copied at once. */
const PIECE = 512 * 512;

/** What the planes of a bridge share. */
export interface BufferContext {
  readonly dmabufs: DmabufPool;
  readonly turns: ImportTurns;
  readonly budget: MemoryBudget;
  readonly log: Log;
  /** Screens keep the last picture of a guest that shows none. */
  readonly keepLast: boolean;
  readonly latency: Latency;
}

/** What the planes of a screen share. */
export interface ScreenContext extends BufferContext {
  /** Both planes usually copy for the same reason, which is logged once. */
  readonly logOnce: LogOnce;
}

export interface PlaneStats extends PlaneCacheStats {
  rung: Rung | null;
  /** Bytes copied into shadows so far. */
  copiedBytes: number;
  shadowBytes: number;
}

/**
 * The buffers one plane of one output shows: for each framebuffer of the guest, the best rung that
 * works. Handles are kept per framebuffer, so a flip between known ones creates nothing.
 *
 *     show(fb, rect) -> damage(area) -> stage() ... stage() -> take(state)
 *
 * `freeze` puts a copy in front of what is shown, `thaw` removes it.
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
  /** Of the framebuffer; null if it is copied, or not ready. */
  #handle: Handle | null = null;
  #isReady = true;
  /** Where the framebuffer is copied; null if no shadow of the output can take it. */
  #chain: ShadowChain | null = null;
  #chainIsBehind = false;
  #isCopying = false;
  /** Frozen. */
  #isStill = false;
  /** While frozen, the chain whose newest buffer is the picture: `#chain` or the one before it. Null: nothing is shown. */
  #still: ShadowChain | null = null;
  /** Chains of an earlier size that have buffers on screen; they stay charged to the budget until then. */
  readonly #oldChains: ShadowChain[] = [];
  #rung: Rung | null = null;
  #copiedBytes = 0;

  constructor(output: Output, use: 'primary' | 'cursor', context: ScreenContext) {
    this.#output = output;
    this.#use = use;
    this.#context = context;
    this.#imports = new PlaneImports(output, context.dmabufs, context.logOnce);
    this.#write = (shadow, area) => {
      const framebuffer = this.#framebuffer;
      if (!framebuffer) return;
      shadow.beginWrite();
      try {
        copyPixels(framebuffer, this.#rect, shadow, area);
      } finally {
        shadow.endWrite();
      }
      this.#copiedBytes += area.area * bytesPerPixel(shadow.format);
    };
  }

  get framebuffer(): Framebuffer | null {
    return this.#framebuffer;
  }

  get stats(): PlaneStats {
    return {
      ...this.#imports.stats,
      rung: this.#rung,
      copiedBytes: this.#copiedBytes,
      shadowBytes: this.#chain?.byteLength ?? 0,
    };
  }

  get isStill(): boolean {
    return this.#isStill;
  }

  /** It is known how the picture reaches the output. If not, call `prepare` before `stage`. */
  get isReady(): boolean {
    return this.#isReady || this.#isStill;
  }

  /** `prepare` takes milliseconds, so it has to wait for its turn. */
  get isExpensive(): boolean {
    return !this.isReady && this.#framebuffer !== null && this.#imports.isExpensive(this.#framebuffer);
  }

  /** The framebuffer's pixels have been read once they are staged. */
  get isCopied(): boolean {
    return this.#handle === null;
  }

  /** The output reads the guest's memory after `present`. */
  get isZeroCopy(): boolean {
    return this.#handle !== null && this.#rung !== 'direct' && !this.#isStill;
  }

  /**
   * `rect` of `framebuffer` is the plane's picture from now on, or after `thaw`; null is nothing, now. Makes nothing: a guest
   * may announce many framebuffers that it never shows.
   */
  show(framebuffer: Framebuffer | null, rect: Rect): void {
    if (!framebuffer) this.thaw();
    if (framebuffer === this.#framebuffer && sameRect(rect, this.#rect)) return;
    this.#framebuffer = framebuffer;
    this.#rect.copy(rect);
    this.#handle = null;
    this.#chainIsBehind = false;
    this.#isReady = true;
    if (framebuffer) this.#climb(framebuffer, this.#imports.find(framebuffer));
  }

  /** Takes the best rung that works for the framebuffer. */
  prepare(): void {
    if (this.isReady || !this.#framebuffer) return;
    this.#climb(this.#framebuffer, this.#imports.make(this.#framebuffer));
  }

  /** `area` of the framebuffer changed. */
  damage(area: Damage): void {
    const chain = this.#chain;
    // A guest may flush nothing, only to wait for the frame: that needs no other buffer.
    if (this.#handle || !this.#isReady || !chain || area.isEmpty) return;
    chain.age(area, -this.#rect.x, -this.#rect.y);
    this.#chainIsBehind = true;
  }

  damageWhole(): void {
    if (this.#handle || !this.#isReady || !this.#chain) return;
    this.#chain.ageWhole();
    this.#chainIsBehind = true;
  }

  /**
   * Copies what must be copied, of a large picture a piece. True: it is all done. False: call this again while
   * `isCopying`, otherwise once the output has released a buffer. If a copy is impossible the picture stays as it was,
   * and one line is logged.
   */
  stage(): boolean {
    const chain = this.#chain;
    this.#isCopying = false;
    if (this.#isStill || this.#handle || !chain || !this.#chainIsBehind) return true;
    const result = this.#copyInto(chain, PIECE);
    this.#isCopying = result === 'more';
    if (result !== 'done') return false;
    this.#chainIsBehind = chain.isBehind;
    return true;
  }

  /** A copy has begun, and the next `stage` continues it. */
  get isCopying(): boolean {
    return this.#isCopying;
  }

  /** There is a finished copy, though the guest may have drawn since. */
  get isStaged(): boolean {
    return !this.#isStill && this.#handle === null && this.#chain?.isStaged === true;
  }

  /** The guest has drawn what is in no finished copy. */
  get isBehind(): boolean {
    return !this.#isStill && this.#chainIsBehind;
  }

  /**
   * Until `thaw`, the plane shows a copy of its picture as it is now, because the guest's memory may
   * change. It shows nothing if the picture cannot be copied.
   */
  freeze(): void {
    if (this.#isStill || !this.#framebuffer) return;
    if (this.#handle || !this.#isReady) {
      this.#fitChain(this.#framebuffer);
      this.#chainIsBehind = true;
    }
    const chain = this.#chain;
    if (chain && this.#chainIsBehind) this.#copyInto(chain, Infinity);
    this.#chainIsBehind = false;
    this.#isCopying = false;
    this.#still = chain;
    this.#isStill = true;
  }

  /** The framebuffer may go away; a frozen picture stays. */
  release(): void {
    this.#framebuffer = null;
    this.#handle = null;
    this.#isReady = true;
  }

  /** The plane shows its framebuffer again. */
  thaw(): void {
    const still = this.#still;
    this.#still = null;
    this.#isStill = false;
    if (!still || (still === this.#chain && !this.#handle)) return;
    if (still === this.#chain) this.#chain = null;
    this.#retire(still);
  }

  /** Puts what `present` is to show into `state`. A shadow that was not written since stays the same handle. */
  take(state: PlaneState): void {
    if (this.#still) {
      this.#still.take(state);
    } else if (this.#isStill || !this.#framebuffer) {
      state.handle = null;
    } else if (this.#handle) {
      state.handle = this.#handle;
      state.src = this.#rect;
    } else if (this.#chain) {
      this.#chain.take(state);
    } else {
      state.handle = null;
    }
  }

  /** The output has released a buffer: frees chains that were waiting for that. */
  freeIdle(): void {
    for (let i = this.#oldChains.length - 1; i >= 0; i--) {
      if (this.#oldChains[i]!.isIdle) this.#oldChains.splice(i, 1)[0]![Symbol.dispose]();
    }
  }

  /** The output's imports changed: every framebuffer is tried again. */
  importAgain(): void {
    this.#imports.clear();
    this.#handle = null;
    if (this.#framebuffer) this.#climb(this.#framebuffer, this.#imports.find(this.#framebuffer));
  }

  /** The framebuffer goes away, and its handle with it. A frozen picture stays. */
  remove(framebuffer: Framebuffer): void {
    if (this.#framebuffer?.id === framebuffer.id) {
      if (this.#isStill) this.release();
      else this.show(null, EMPTY_RECT);
    }
    this.#imports.remove(framebuffer.id);
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

  /** `handle` as `PlaneImports.find` returns it. */
  #climb(framebuffer: Framebuffer, handle: Handle | null | undefined): void {
    this.#isReady = handle !== undefined;
    this.#handle = handle ?? null;
    if (!this.#isReady) return;
    if (!this.#handle) this.#useShadow(framebuffer);
    else if (framebuffer.backing.kind === 'dmabuf') this.#useRung('dmabuf');
    else this.#useRung(this.#output.readsPages ? 'direct' : 'udmabuf');
  }

  #useShadow(framebuffer: Framebuffer): void {
    this.#fitChain(framebuffer);
    this.#chainIsBehind = this.#chain !== null;
    this.#useRung('shadow');
  }

  /** Brings about `area` pixels of the newest buffer up to date. 'busy': all are held. */
  #copyInto(chain: ShadowChain, area: number): 'done' | 'more' | 'busy' {
    try {
      const result = chain.stage(this.#write, area);
      if (result === 'no-memory') {
        const why = chain.refusal ?? `limit ${this.#context.budget.limit} bytes, raise --max-guest-memory`;
        this.#context.logOnce(
          'warn',
          `${this.#output.name}: no memory for a shadow of ${chain.width}x${chain.height} (${why})`,
          'no memory',
        );
      }
      return result === 'more' || result === 'busy' ? result : 'done';
    } catch (error) {
      this.#context.logOnce(
        'warn',
        `${this.#output.name}: the ${this.#use} plane keeps its old picture: ${String(error)}`,
        'copy failed',
      );
      return 'done';
    }
  }

  /** Makes `#chain` one for copies of the plane's picture, all of them out of date; null if the output has no format for it. */
  #fitChain(framebuffer: Framebuffer): void {
    const max = this.#output.maxCursor;
    const width = this.#use === 'cursor' ? Math.min(this.#rect.width, max.width) : this.#rect.width;
    const height = this.#use === 'cursor' ? Math.min(this.#rect.height, max.height) : this.#rect.height;
    const format = this.#shadowFormat(framebuffer);
    const chain = this.#chain;
    if (chain === null || chain.width !== width || chain.height !== height || chain.format !== format) {
      if (chain && chain !== this.#still) this.#retire(chain);
      this.#chain = format === null ? null : new ShadowChain(this.#output, this.#context.budget, width, height, format);
    }
    this.#chain?.ageWhole();
  }

  #shadowFormat(framebuffer: Framebuffer): Fourcc | null {
    try {
      return chooseShadowFormat(framebuffer, this.#output.shadowFormats, this.#use === 'cursor');
    } catch (error) {
      if (!(error instanceof CopyError)) throw error;
      this.#context.logOnce(
        'warn',
        `${this.#output.name}: the ${this.#use} plane shows nothing: ${error.message}`,
        'no shadow format',
      );
      return null;
    }
  }

  #retire(chain: ShadowChain): void {
    if (chain.isIdle) chain[Symbol.dispose]();
    else this.#oldChains.push(chain);
  }

  #useRung(rung: Rung): void {
    if (rung === this.#rung) return;
    this.#rung = rung;
    if (this.#use === 'primary')
      this.#context.logOnce('info', `${this.#output.name} shows the guest by rung '${rung}'`);
  }
}

function bytesPerPixel(format: Fourcc): number {
  return formatInfo(format)?.planes[0]?.bytesPerBlock ?? 4;
}
