import { MemoryBudget } from '../../src/core/budget.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import { type Flush, type ScanoutId, type Source, type SourceSink } from '../../src/core/source.ts';

/** A guest that shows one framebuffer after another on each of its monitors. */
export class FlippingGuest implements Source {
  readonly scanouts: number;
  readonly budget = new MemoryBudget(Infinity);
  /** By scanout: the monitors that were plugged in, in order; null where one was unplugged. */
  readonly monitors: (Monitor | null)[][];
  readonly #damage = new Damage();
  #onMonitor: () => void = () => undefined;
  #sink!: SourceSink;

  constructor(scanouts = 1) {
    this.scanouts = scanouts;
    this.monitors = Array.from({ length: scanouts }, () => []);
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.monitors[id]!.push(monitor);
    this.#onMonitor();
  }

  /** Resolves when the next monitor is plugged in or unplugged. */
  replug(): Promise<void> {
    return new Promise((resolve) => (this.#onMonitor = resolve));
  }

  /** Resolves when the bridge reports the flush as done. */
  flip(framebuffer: Framebuffer, scanout = 0, fences: Omit<Flush, 'done' | 'isFenced'> = {}): Promise<void> {
    const whole = { x: 0, y: 0, width: framebuffer.width, height: framebuffer.height };
    this.#damage.clear();
    this.#damage.addRect(whole);
    this.#sink.scanout(scanout, framebuffer, whole);
    return new Promise((done) => this.#sink.flush(scanout, this.#damage, { isFenced: true, ...fences, done }));
  }

  destroy(framebuffer: Framebuffer): void {
    this.#sink.destroyed(framebuffer);
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }
}
