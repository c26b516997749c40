import type { WlOutput, WlSurface } from './client/index.ts';
import type { Compositor } from './compositor.ts';

/** wp_fractional_scale_v1 counts in these. */
const SCALE_UNITS = 120;

/** Where a window is: its scale and refresh, by whatever the compositor tells of them. */
export class HostScale implements Disposable {
  readonly #compositor: Compositor;
  readonly #entered = new Set<WlOutput>();
  readonly #undo: (() => void)[] = [];
  #fractional = 0;
  #preferred = 0;

  constructor(compositor: Compositor, surface: WlSurface, onChange: () => void) {
    this.#compositor = compositor;
    surface.listener = {
      enter: (output) => {
        if (output) this.#entered.add(output);
        onChange();
      },
      leave: (output) => {
        if (output) this.#entered.delete(output);
        onChange();
      },
      preferredBufferScale: (factor) => {
        this.#preferred = Math.max(1, factor);
        onChange();
      },
    };
    const fractional = compositor.fractionalScale?.getFractionalScale(surface);
    if (fractional) {
      fractional.listener = {
        preferredScale: (scale) => {
          this.#fractional = Math.max(1, scale) / SCALE_UNITS;
          onChange();
        },
      };
      this.#undo.push(() => fractional[Symbol.dispose]());
    }
    this.#undo.push(compositor.monitors.onChange(onChange));
  }

  /** Screen pixels per logical pixel, the largest of the screens the window is on. */
  get value(): number {
    if (this.#fractional > 0) return this.#fractional;
    if (this.#preferred > 0) return this.#preferred;
    const { monitors } = this.#compositor;
    let scale = 0;
    for (const output of this.#entered) scale = Math.max(scale, monitors.get(output)?.scale ?? 1);
    return scale > 0 ? scale : (monitors.first?.scale ?? 1);
  }

  /** 0 when unknown. */
  get refreshMhz(): number {
    const { monitors } = this.#compositor;
    for (const output of this.#entered) {
      const monitor = monitors.get(output);
      if (monitor) return monitor.refreshMhz;
    }
    return monitors.first?.refreshMhz ?? 0;
  }

  [Symbol.dispose](): void {
    for (const undo of this.#undo) undo();
  }
}
