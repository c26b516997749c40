import { DRM_FORMAT, type Fourcc, formatInfo } from '../../protocols/drm-fourcc.ts';
import { fromShmFormat } from '../../protocols/wayland/shm-format.ts';
import type { FormatSet } from '../../src/core/framebuffer.ts';
import type { Log } from '../../src/core/log.ts';
import { ScanoutError, type SysError } from '../../src/sys/errors.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { pixmanFormat } from '../../src/sys/lib/pixman.ts';
import {
  type WaylandClass,
  type WaylandCloseReason,
  WaylandDisplay,
  WaylandError,
  type WaylandGlobal,
  type WaylandObject,
  WlCompositor,
  WlOutput,
  WlShm,
  WlSubcompositor,
  WpFractionalScaleManagerV1,
  WpPresentation,
  WpTearingControlManagerV1,
  WpViewporter,
  XdgWmBase,
  ZwpLinuxDmabufV1,
  ZxdgDecorationManagerV1,
} from './client/index.ts';
import { DmabufFormats } from './dmabuf-formats.ts';
import { ExplicitSync } from './explicit-sync.ts';
import { WaylandSeats } from './seat/seats.ts';

/** Clock id of wp_presentation.clock_id; linux/time.h. */
const CLOCK_MONOTONIC = 1;
/** Flag `current` of wl_output.mode. */
const CURRENT_MODE = 1;

/** `missing`: the compositor lacks a global that windows cannot do without. */
export class WaylandOutputError extends ScanoutError<'missing'> {}

export interface CompositorOptions {
  /** As `WaylandDisplay.connect` takes it. */
  readonly socket?: string | OwnedFd;
  readonly signal?: AbortSignal;
  /** If false, every picture is copied. */
  readonly useDmabufs: boolean;
  /** If false, dma-bufs are synchronised implicitly. */
  readonly useExplicitSync: boolean;
  readonly log: Log;
}

/** One connection to a compositor and the globals that windows use; those it does not offer are null. */
export class Compositor implements Disposable {
  readonly display: WaylandDisplay;
  readonly surfaces: WlCompositor;
  readonly subsurfaces: WlSubcompositor;
  readonly shm: WlShm;
  readonly shell: XdgWmBase;
  readonly monitors: HostMonitors;
  /** Disposed when the connection ends, which releases everything held down. */
  readonly seats: WaylandSeats;
  readonly viewporter: WpViewporter | null;
  readonly dmabuf: ZwpLinuxDmabufV1 | null;
  readonly presentation: WpPresentation | null;
  readonly fractionalScale: WpFractionalScaleManagerV1 | null;
  readonly decoration: ZxdgDecorationManagerV1 | null;
  readonly tearing: WpTearingControlManagerV1 | null;
  readonly #shmFormats = new Set<Fourcc>();
  readonly #dmabufFormats = new DmabufFormats();
  #isMonotonic = false;
  #sync: ExplicitSync | null = null;
  #failure: WaylandError | null = null;

  private constructor(display: WaylandDisplay, useDmabufs: boolean) {
    this.display = display;
    this.surfaces = required(display, WlCompositor, 6);
    this.subsurfaces = required(display, WlSubcompositor, 1);
    this.shm = required(display, WlShm, 1);
    this.shell = required(display, XdgWmBase, 6);
    this.monitors = new HostMonitors(display);
    this.seats = new WaylandSeats(display);
    display.onClosed(() => {
      this.seats[Symbol.dispose]();
      this.#sync?.[Symbol.dispose]();
    });
    this.viewporter = display.bind(WpViewporter, 1);
    // Only a viewport can show a part of a buffer, which is what a guest's picture may be.
    this.dmabuf = useDmabufs && this.viewporter ? display.bind(ZwpLinuxDmabufV1, 5) : null;
    this.presentation = display.bind(WpPresentation, 1);
    this.fractionalScale = this.viewporter ? display.bind(WpFractionalScaleManagerV1, 1) : null;
    this.decoration = display.bind(ZxdgDecorationManagerV1, 1);
    this.tearing = display.bind(WpTearingControlManagerV1, 1);
    this.shm.listener = { format: (format) => this.#shmFormats.add(fromShmFormat(format)) };
    this.shell.listener = { ping: (serial) => this.shell.pong(serial) };
    if (this.presentation)
      this.presentation.listener = { clockId: (clock) => (this.#isMonotonic = clock === CLOCK_MONOTONIC) };
    if (this.dmabuf && this.dmabuf.version < 4) this.#dmabufFormats.watchGlobal(this.dmabuf);
    else if (this.dmabuf) this.#dmabufFormats.watch(this.dmabuf.getDefaultFeedback());
  }

  /**
   * Rejects with WaylandError `connect`, WaylandOutputError `missing`, or the reason for which the
   * connection ended.
   */
  static async connect({ useDmabufs, useExplicitSync, log, ...options }: CompositorOptions): Promise<Compositor> {
    const display = await WaylandDisplay.connect(options);
    try {
      const compositor = new Compositor(display, useDmabufs);
      // Brings the formats and monitors.
      await display.roundtrip();
      if (useExplicitSync) compositor.#sync = ExplicitSync.open(display, compositor.#dmabufFormats.mainDevice, log);
      return compositor;
    } catch (error) {
      display[Symbol.dispose]();
      throw error;
    }
  }

  get shmFormats(): ReadonlySet<Fourcc> {
    return this.#shmFormats;
  }

  /** The wl_shm formats that the CPU can draw into, best first. */
  get shadowFormats(): Fourcc[] {
    const others = [...this.#shmFormats].filter(
      (format) => formatInfo(format)?.planes.length === 1 && pixmanFormat(format) !== null,
    );
    return [...new Set([DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888, ...others])];
  }

  /** The tranches of dma-buf formats that hold for every surface, best first. */
  get dmabufFormats(): readonly FormatSet[] {
    return this.#dmabufFormats.tranches;
  }

  /** Explicit synchronisation of dma-bufs; null if the compositor or this machine lacks it. */
  get sync(): ExplicitSync | null {
    return this.#sync;
  }

  /** The times in wp_presentation events are of CLOCK_MONOTONIC, as the ones of Output are. */
  get isMonotonic(): boolean {
    return this.#isMonotonic;
  }

  onClosed(listener: (reason: WaylandCloseReason) => void): () => void {
    return this.display.onClosed((reason) => listener(this.#failure ?? reason));
  }

  /**
   * A window needs something that the system cannot provide now, such as a file descriptor. Ends
   * the connection, so that all windows are opened again later. Not at once, because the caller may
   * be in the middle of a frame.
   */
  failed(cause: SysError): void {
    if (this.#failure) return;
    this.#failure = new WaylandError('system', `cannot keep the windows open: ${cause.message}`, { cause });
    setImmediate(() => this[Symbol.dispose]());
  }

  [Symbol.dispose](): void {
    this.display[Symbol.dispose]();
  }
}

/** What a window needs to know about one of the compositor's monitors. */
export interface HostMonitor {
  /** Screen pixels per logical pixel, a whole number. */
  scale: number;
  /** 0 when unknown. */
  refreshMhz: number;
}

/** The compositor's monitors (wl_output), as they come and go. */
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

  /** Stands for the monitor of a window that is on none yet. */
  get first(): HostMonitor | undefined {
    return this.#monitors.values().next().value;
  }

  /** Calls `listener` when a monitor has changed or is gone, until the returned function is called. */
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
        if (output.version === 1) this.#notify();
      },
      scale: (factor) => (monitor.scale = Math.max(1, factor)),
      done: () => this.#notify(),
    };
  }

  #remove(name: number): void {
    const output = this.#byName.get(name);
    if (!output) return;
    this.#byName.delete(name);
    this.#monitors.delete(output);
    output[Symbol.dispose]();
    this.#notify();
  }

  #notify(): void {
    for (const listener of [...this.#changed]) listener();
  }
}

function required<T extends WaylandObject>(display: WaylandDisplay, type: WaylandClass<T>, version: number): T {
  const bound = display.bind(type, version);
  if (!bound)
    throw new WaylandOutputError('missing', `the compositor has no ${type.interface.name}, which windows need`);
  return bound;
}
