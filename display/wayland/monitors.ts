import { type WaylandDisplay, type WaylandGlobal, WlOutput } from './client/index.ts';

const CURRENT_MODE = 1;

/** What a window needs to know of a screen of the compositor's. */
export interface HostMonitor {
  /** Screen pixels per logical pixel, a whole number. */
  scale: number;
  /** 0 when unknown. */
  refreshMhz: number;
}

/** The compositor's screens, as they come and go. */
export class HostMonitors {
  readonly #display: WaylandDisplay;
  readonly #monitors = new Map<WlOutput, HostMonitor>();
  readonly #byName = new Map<number, WlOutput>();
  readonly #changed = new Set<() => void>();

  constructor(display: WaylandDisplay) {
    this.#display = display;
    for (const global of display.globals.values()) this.#add(global);
    display.onGlobalAdded((global) => this.#add(global));
    display.onGlobalRemoved(({ name }) => this.#remove(name));
  }

  get(output: WlOutput): HostMonitor | undefined {
    return this.#monitors.get(output);
  }

  /** For windows that are on none yet. */
  get first(): HostMonitor | undefined {
    return this.#monitors.values().next().value;
  }

  /** Calls `listener` when a screen changed or went, until the function returned is called. */
  onChange(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => void this.#changed.delete(listener);
  }

  #add(global: WaylandGlobal): void {
    if (global.interface !== WlOutput.interface.name) return;
    const output = this.#display.bind(WlOutput, 4, global);
    if (!output) return;
    const monitor: HostMonitor = { scale: 1, refreshMhz: 0 };
    this.#monitors.set(output, monitor);
    this.#byName.set(global.name, output);
    output.listener = {
      mode: (flags, _width, _height, refreshMhz) => {
        if (flags & CURRENT_MODE) monitor.refreshMhz = Math.max(0, refreshMhz);
        if (output.version === 1) this.#tell();
      },
      scale: (factor) => (monitor.scale = Math.max(1, factor)),
      done: () => this.#tell(),
    };
  }

  #remove(name: number): void {
    const output = this.#byName.get(name);
    if (!output) return;
    this.#byName.delete(name);
    this.#monitors.delete(output);
    output[Symbol.dispose]();
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#changed]) listener();
  }
}
