import { MemoryBudget } from '../../../src/core/budget.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import { type Flush, type Source, type SourceSink } from '../../../src/core/source.ts';

/** A guest that shows its framebuffers in turn, each damaged as a whole, the next one as soon as a flip is done. */
export class FlipSource implements Source, Flush {
  readonly scanouts: number;
  readonly budget = new MemoryBudget(Infinity);
  readonly isFenced = true;
  readonly #framebuffers: readonly Framebuffer[];
  readonly #damage = new Damage();
  readonly #rect: { readonly x: 0; readonly y: 0; readonly width: number; readonly height: number };
  #sink: SourceSink | null = null;
  #next = 0;
  #left = 0;
  #scanout = 0;
  #onStop: () => void = () => undefined;

  /** All framebuffers have the same size and stay the caller's. */
  constructor(framebuffers: readonly Framebuffer[], scanouts = 1) {
    const { width, height } = framebuffers[0]!;
    this.scanouts = scanouts;
    this.#framebuffers = framebuffers;
    this.#rect = { x: 0, y: 0, width, height };
    this.#damage.addRect(this.#rect);
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(): void {
    // The pictures have a fixed size.
  }

  /** Resolves when the last of `count` flips is done. */
  flip(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#left = count;
      this.#onStop = () => setImmediate(resolve);
      this.show(0);
    });
  }

  /** Starts the next flip, on any scanout. */
  show(scanout: number): void {
    const framebuffer = this.#framebuffers[this.#next]!;
    this.#next = this.#next + 1 === this.#framebuffers.length ? 0 : this.#next + 1;
    this.#scanout = scanout;
    this.#sink!.scanout(this.#scanout, framebuffer, this.#rect);
    this.#sink!.flush(this.#scanout, this.#damage, this);
  }

  done(): void {
    this.#left--;
    if (this.#left > 0) this.show(0);
    else if (this.#left === 0) this.#onStop();
  }

  [Symbol.dispose](): void {
    this.#sink = null;
  }
}
