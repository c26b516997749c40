import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import { Damage } from '../core/damage.ts';
import type { Rect } from '../core/geometry.ts';
import type { MemoryBudget } from '../core/budget.ts';
import type { Handle, Output, PlaneState, Shadow } from '../core/output.ts';

/** One on screen, one in flight, one being written. */
const MAX_SHADOWS = 3;

/** `stale` is what changed in the guest since this buffer was last written: its age, as an area. */
interface Entry {
  readonly shadow: Shadow;
  readonly stale: Damage;
}

/** Writes the given area of the guest's picture into a shadow; both are in the shadow's pixels. */
export type ShadowWriter = (shadow: Shadow, area: Damage) => void;

/**
 * The shadow buffers one plane of one output flips between. Each is brought up to date by its own
 * age, a large picture in several pieces. What changes meanwhile is left for the next time.
 *
 *     free -> stage ... stage -> staged (has the newest picture) -> take, present -> held -> free
 */
export class ShadowChain implements Disposable {
  readonly #output: Output;
  readonly #budget: MemoryBudget;
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly #whole: Rect;
  /** Each frame looks through it, by index: an iterator would be garbage until the code is optimized. */
  readonly #entries: Entry[] = [];
  #staged: Entry | null = null;
  /** The buffer that is being brought up to date, and what it lacks. */
  #unfinished: Entry | null = null;
  readonly #missing = new Damage();
  readonly #piece = new Damage();
  #refusal: string | null = null;

  constructor(output: Output, budget: MemoryBudget, width: number, height: number, format: Fourcc) {
    this.#output = output;
    this.#budget = budget;
    this.width = width;
    this.height = height;
    this.format = format;
    this.#whole = { x: 0, y: 0, width, height };
  }

  /** `area`, moved by `dx`, `dy`, changed in the guest's picture: every buffer is stale there. */
  age(area: Damage, dx: number, dy: number): void {
    for (let i = 0; i < this.#entries.length; i++) this.#entries[i]!.stale.addAll(area, dx, dy);
  }

  /** The picture is another one: what was copied of the last one is of no use. */
  ageWhole(): void {
    this.#unfinished = null;
    this.#staged = null;
    for (const { stale } of this.#entries) stale.add(0, 0, this.width, this.height);
  }

  /**
   * Brings about `area` pixels of one buffer up to date. 'more': call it again. 'busy': all are held, stage again after
   * `released`. 'no-memory': there is none to write and none will come back. Throws what `write` throws.
   */
  stage(write: ShadowWriter, area: number): 'staged' | 'more' | 'busy' | 'no-memory' {
    const entry = this.#unfinished ?? this.#begin();
    if (!entry) return this.#entries.length > 1 ? 'busy' : 'no-memory';
    this.#piece.clear();
    this.#missing.moveTo(this.#piece, area);
    try {
      write(entry.shadow, this.#piece);
    } catch (error) {
      this.#unfinished = null;
      entry.stale.add(0, 0, this.width, this.height);
      throw error;
    }
    if (!this.#missing.isEmpty) return 'more';
    this.#unfinished = null;
    this.#staged = entry;
    return 'staged';
  }

  /** There is a buffer for `take`. */
  get isStaged(): boolean {
    return this.#staged !== null;
  }

  /** Something changed while the staged buffer was brought up to date. */
  get isBehind(): boolean {
    return this.#staged !== null && !this.#staged.stale.isEmpty;
  }

  /** Puts the staged buffer into `state`. If nothing was staged since, a buffer of this chain stays. */
  take(state: PlaneState): void {
    const entry = this.#staged;
    if (entry) {
      this.#staged = null;
      state.handle = entry.shadow;
      state.src = this.#whole;
    } else if (!this.#has(state.handle)) {
      state.handle = null;
    }
  }

  /** Why the output made no buffer when last asked; null if it did. */
  get refusal(): string | null {
    return this.#refusal;
  }

  /** No buffer is held. */
  get isIdle(): boolean {
    return this.#entries.every(({ shadow }) => !shadow.isHeld);
  }

  get byteLength(): number {
    return this.#entries.reduce((sum, { shadow }) => sum + shadow.stride * shadow.height, 0);
  }

  [Symbol.dispose](): void {
    for (const { shadow } of this.#entries.splice(0)) {
      this.#budget.release(shadow.stride * shadow.height);
      shadow[Symbol.dispose]();
    }
    this.#staged = null;
    this.#unfinished = null;
  }

  #begin(): Entry | null {
    const entry = this.#staged ?? this.#youngestFree() ?? this.#grow();
    if (!entry) return null;
    this.#staged = null;
    this.#unfinished = entry;
    this.#missing.clear();
    this.#missing.addAll(entry.stale);
    entry.stale.clear();
    return entry;
  }

  #has(handle: Handle | null): boolean {
    for (let i = 0; i < this.#entries.length; i++) if (this.#entries[i]!.shadow === handle) return true;
    return false;
  }

  #youngestFree(): Entry | null {
    let best: Entry | null = null;
    let bestArea = Infinity;
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i]!;
      if (entry.shadow.isHeld) continue;
      const area = entry.stale.area;
      if (area < bestArea) {
        best = entry;
        bestArea = area;
      }
    }
    return best;
  }

  #grow(): Entry | null {
    if (this.#entries.length === MAX_SHADOWS) return null;
    // The output chooses the stride, so the size is known only afterwards; the estimate is corrected below.
    const estimate = this.width * this.height * 4;
    if (!this.#budget.reserve(estimate)) return null;
    let shadow: Shadow;
    try {
      shadow = this.#output.createShadow(this.width, this.height, this.format);
    } catch (error) {
      this.#budget.release(estimate);
      this.#refusal = String(error);
      return null;
    }
    this.#refusal = null;
    this.#budget.release(estimate);
    if (!this.#budget.reserve(shadow.stride * shadow.height)) {
      shadow[Symbol.dispose]();
      return null;
    }
    const entry: Entry = { shadow, stale: new Damage() };
    entry.stale.add(0, 0, this.width, this.height);
    this.#entries.push(entry);
    return entry;
  }
}
