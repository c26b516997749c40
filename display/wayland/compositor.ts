import { DRM_FORMAT, type Fourcc, formatInfo } from '../../protocols/drm-fourcc.ts';
import { fromShmFormat } from '../../protocols/wayland/shm-format.ts';
import type { FormatSet } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import { MAX_REFRESH_MHZ } from '../../src/core/monitor.ts';
import { ScanoutError } from '../../src/sys/errors.ts';
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
  XdgActivationV1,
  XdgToplevelIconManagerV1,
  XdgWmBase,
  ZwpIdleInhibitManagerV1,
  ZwpLinuxDmabufV1,
  ZxdgDecorationManagerV1,
  ZxdgOutputManagerV1,
  type ZxdgOutputV1,
} from './client/index.ts';
import type { WaylandClipboard } from './clipboard.ts';
import { DmabufFormats } from './dmabuf-formats.ts';
import { ExplicitSync } from './explicit-sync.ts';
import { ImportLimit } from './import-limit.ts';
import { WaylandSeats } from './seat/seats.ts';
import { type HostScreen, MAX_SIDE } from './window-size.ts';

/** Clock id of wp_presentation.clock_id; linux/time.h. */
const CLOCK_MONOTONIC = 1;
/** Flag `current` of wl_output.mode. */
const CURRENT_MODE = 1;
/** A hidden frame takes one refresh, so that a slower one would stop the guest. */
const MIN_REFRESH_MHZ = 1000;
/** More than any desktop has; bounds the sizes that follow from it. */
export const MAX_SCALE = 64;

/** `missing`: the compositor lacks a global that windows cannot do without. */
export class WaylandOutputError extends ScanoutError<'missing'> {}

export interface CompositorOptions {
  /** As `WaylandDisplay.connect` takes it. */
  readonly socket?: string | OwnedFd;
  readonly signal?: AbortSignal;
  /** If false, dma-bufs are synchronised implicitly. */
  readonly useExplicitSync: boolean;
  /** Connected to the compositor's clipboard; null: that is left alone. */
  readonly clipboard: WaylandClipboard | null;
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
  readonly importLimit = new ImportLimit();
  /** Disposed when the connection ends, which releases everything held down. */
  readonly seats: WaylandSeats;
  readonly viewporter: WpViewporter | null;
  readonly dmabuf: ZwpLinuxDmabufV1 | null;
  readonly presentation: WpPresentation | null;
  readonly fractionalScale: WpFractionalScaleManagerV1 | null;
  readonly decoration: ZxdgDecorationManagerV1 | null;
  readonly tearing: WpTearingControlManagerV1 | null;
  readonly activation: XdgActivationV1 | null;
  readonly icons: XdgToplevelIconManagerV1 | null;
  readonly idleInhibit: ZwpIdleInhibitManagerV1 | null;
  readonly #shmFormats = new Set<Fourcc>();
  readonly #dmabufFormats = new DmabufFormats();
  #isMonotonic = false;
  #sync: ExplicitSync | null = null;
  #failure: WaylandError | null = null;

  private constructor(display: WaylandDisplay, clipboard: WaylandClipboard | null) {
    this.display = display;
    this.surfaces = required(display, WlCompositor, 6);
    this.subsurfaces = required(display, WlSubcompositor, 1);
    this.shm = required(display, WlShm, 1);
    this.shell = required(display, XdgWmBase, 6);
    this.monitors = new HostMonitors(display);
    this.seats = new WaylandSeats(display, clipboard);
    display.onClosed(() => {
      this.seats[Symbol.dispose]();
      this.#sync?.[Symbol.dispose]();
    });
    this.viewporter = display.bind(WpViewporter, 1);
    // Only a viewport can show a part of a buffer, which is what a guest's picture may be.
    this.dmabuf = this.viewporter ? display.bind(ZwpLinuxDmabufV1, 5) : null;
    this.presentation = display.bind(WpPresentation, 1);
    this.fractionalScale = this.viewporter ? display.bind(WpFractionalScaleManagerV1, 1) : null;
    this.decoration = display.bind(ZxdgDecorationManagerV1, 1);
    this.tearing = display.bind(WpTearingControlManagerV1, 1);
    this.activation = display.bind(XdgActivationV1, 1);
    this.icons = display.bind(XdgToplevelIconManagerV1, 1);
    this.idleInhibit = display.bind(ZwpIdleInhibitManagerV1, 1);
    this.shm.listener = { format: (format) => this.#addShmFormat(fromShmFormat(format)) };
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
  static async connect({ useExplicitSync, clipboard, log, ...options }: CompositorOptions): Promise<Compositor> {
    const display = await WaylandDisplay.connect(options);
    try {
      const compositor = new Compositor(display, clipboard);
      // Brings the formats and monitors.
      await display.roundtrip();
      // An error may have followed the answer in the same packet, and `onClosed` would not report it any more.
      if (display.closeReason) throw display.closeReason;
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
   * A window cannot go on: it needs something that the system cannot provide now, such as a file descriptor, or the
   * compositor asks for something impossible. Ends the connection, so that all windows are opened again later. Not at
   * once, because the caller may be in the middle of a frame.
   */
  failed(cause: unknown): void {
    if (this.#failure) return;
    const message = cause instanceof Error ? cause.message : String(cause);
    this.#failure = new WaylandError('system', `cannot keep the windows open: ${message}`, { cause });
    setImmediate(() => this[Symbol.dispose]());
  }

  [Symbol.dispose](): void {
    this.display[Symbol.dispose]();
  }

  /** Without those that this project does not know, of which a compositor could send any number. */
  #addShmFormat(format: Fourcc): void {
    if (formatInfo(format)) this.#shmFormats.add(format);
  }
}

/** What a window needs to know about one of the compositor's monitors. */
export interface HostMonitor {
  /** Screen pixels per logical pixel, a whole number. */
  scale: number;
  /** 0 when unknown. */
  refreshMhz: number;
  /** Null on a compositor without xdg_output. */
  screen: HostScreen | null;
}

/** Of wl_output.transform: the monitor hangs on its side. */
const SIDEWAYS = 1;

/** The compositor's monitors (wl_output), as they come and go. */
export class HostMonitors {
  readonly #display: WaylandDisplay;
  readonly #manager: ZxdgOutputManagerV1 | null;
  readonly #sizes = new Map<WlOutput, ZxdgOutputV1>();
  readonly #monitors = new Map<WlOutput, HostMonitor>();
  readonly #byName = new Map<number, WlOutput>();
  readonly #changed = new Set<() => void>();

  constructor(display: WaylandDisplay) {
    this.#display = display;
    this.#manager = display.bind(ZxdgOutputManagerV1, 3);
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
    const monitor: HostMonitor = { scale: 1, refreshMhz: 0, screen: null };
    this.#monitors.set(output, monitor);
    this.#byName.set(global.name, output);
    let isSideways = false;
    let pixels: Size = NO_SIZE;
    let logical: Size = NO_SIZE;
    const done = (): void => {
      const { width, height } = pixels;
      const turned = isSideways ? { width: height, height: width } : pixels;
      monitor.screen = isSize(pixels) && isSize(logical) ? { pixels: turned, logical } : null;
      this.#notify();
    };
    output.listener = {
      geometry: (_x, _y, _widthMm, _heightMm, _subpixel, _make, _model, transform) =>
        (isSideways = (transform & SIDEWAYS) !== 0),
      mode: (flags, width, height, refreshMhz) => {
        if (flags & CURRENT_MODE) {
          monitor.refreshMhz = isRefresh(refreshMhz) ? refreshMhz : 0;
          pixels = { width, height };
        }
        if (output.version === 1) done();
      },
      scale: (factor) => (monitor.scale = Math.min(Math.max(1, factor), MAX_SCALE)),
      done,
    };
    const size = this.#manager?.getXdgOutput(output);
    if (!size) return;
    this.#sizes.set(output, size);
    size.listener = { logicalSize: (width, height) => (logical = { width, height }), done };
  }

  #remove(name: number): void {
    const output = this.#byName.get(name);
    if (!output) return;
    this.#byName.delete(name);
    this.#monitors.delete(output);
    this.#sizes.get(output)?.[Symbol.dispose]();
    this.#sizes.delete(output);
    output[Symbol.dispose]();
    this.#notify();
  }

  #notify(): void {
    for (const listener of [...this.#changed]) listener();
  }
}

const NO_SIZE: Size = { width: 0, height: 0 };

function isSize({ width, height }: Size): boolean {
  return width > 0 && height > 0 && width <= MAX_SIDE && height <= MAX_SIDE;
}

function isRefresh(refreshMhz: number): boolean {
  return refreshMhz >= MIN_REFRESH_MHZ && refreshMhz <= MAX_REFRESH_MHZ;
}

function required<T extends WaylandObject>(display: WaylandDisplay, type: WaylandClass<T>, version: number): T {
  const bound = display.bind(type, version);
  if (!bound)
    throw new WaylandOutputError('missing', `the compositor has no ${type.interface.name}, which windows need`);
  return bound;
}
