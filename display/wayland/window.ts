import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import type { FormatSet } from '../../src/core/framebuffer.ts';
import { MutableRect, type Rect, sameRect, type Size } from '../../src/core/geometry.ts';
import type { ScreenListener } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import {
  type WlOutput,
  type WlSurface,
  WpTearingControlV1PresentationHint,
  type WpViewport,
  XdgToplevelState,
  ZxdgToplevelDecorationV1Mode,
} from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { DmabufFormats } from './dmabuf-formats.ts';
import { GRAB_SHORTCUT } from './seat/keyboard.ts';
import { ShmBuffer, ShmPools } from './shm.ts';
import { Surface } from './surface.ts';

const APP_ID = 'scanout-bridge';
const MIN_SIDE = 64;
/** A window that keeps its size this long is no longer being dragged. */
const SETTLED_AFTER_MS = 200;
/** The states in which the compositor decides the window's size. */
const FIXED_STATES: ReadonlySet<number> = new Set([
  ...[XdgToplevelState.maximized, XdgToplevelState.fullscreen],
  ...[
    XdgToplevelState.tiled_left,
    XdgToplevelState.tiled_right,
    XdgToplevelState.tiled_top,
    XdgToplevelState.tiled_bottom,
  ],
]);

export interface WindowOptions {
  readonly title: string;
  readonly fullscreen: boolean;
  /** Screen pixels per guest pixel. */
  readonly zoom: number;
  /** Allows the compositor to show frames before the vertical blank. */
  readonly tearing: boolean;
}

/** Events of a window. */
export interface WindowListener {
  /** The compositor has configured it: from the first call on it may show pictures. Commit the newest again. */
  configured(): void;
  /** The wl_buffer that `picture.attach` was missing has been created. */
  bufferReady(): void;
  /** The user has resized it: a guest's picture of this size, in guest pixels, would fill it. */
  resized(picture: Size): void;
  refreshChanged(refreshMhz: number): void;
  /** `placement` changed. */
  placed(): void;
  formatsChanged(tranches: readonly FormatSet[]): void;
  /** The user has closed it. */
  closed(): void;
}

/**
 * A window: a black surface of the window's size, with the guest's picture on a subsurface above it.
 * So a picture of another shape is letterboxed in whatever size the compositor insists on. All input
 * goes to the black surface; `placement` says where the picture lies on it. Without a decoration
 * protocol the window has no frame: compositors move and close such windows by key or task list.
 */
export class Window implements Disposable {
  /** Shows the guest's picture. Committed by `commitPicture`. */
  readonly picture: Surface;
  /** Where the picture lies on `surface`, in the compositor's logical pixels. */
  readonly placement = new MutableRect();
  /** Size of the guest's picture. */
  readonly canvas: { width: number; height: number };
  readonly #compositor: Compositor;
  readonly #options: WindowOptions;
  readonly #listener: WindowListener;
  readonly #stack = new DisposableStack();
  readonly #xdgSurface;
  readonly #toplevel;
  readonly #subsurface;
  readonly #backdrop: Backdrop;
  readonly #viewport: WpViewport | null;
  readonly #hostScale: HostScale;
  #settling: NodeJS.Timeout | null = null;
  /**
   * From the newest xdg_toplevel.configure, to be applied at the next xdg_surface.configure; 0
   * leaves the choice to the window.
   */
  #wished = { width: 0, height: 0 };
  #bounds = { width: 0, height: 0 };
  #isFloating = true;
  #isResizing = false;
  #serial: number | null = null;
  #isConfigured = false;
  #size: Size = { width: 0, height: 0 };
  /** The size to return to from full screen or a maximised state. */
  #floatingSize: Size | null = null;
  readonly #source = new MutableRect();
  /** The host scale that the window was laid out for. */
  #scaled = 1;
  /** The place of the picture or the size of the window has changed since the last commit. */
  #isMoved = true;
  /** The title names the grab shortcut. */
  #showsShortcut = false;
  #isDisposed = false;

  /** `canvas` is the size of the guest's picture, or a guess while there is none. */
  constructor(compositor: Compositor, canvas: Size, options: WindowOptions, listener: WindowListener) {
    this.#compositor = compositor;
    this.#options = options;
    this.#listener = listener;
    this.canvas = { ...canvas };
    const stack = this.#stack;
    this.#backdrop = stack.use(new Backdrop(compositor));
    this.picture = stack.use(
      new Surface(compositor, { isOpaque: true, sync: compositor.sync, onReady: () => listener.bufferReady() }),
    );
    this.#subsurface = stack.use(compositor.subsurfaces.getSubsurface(this.picture.wl, this.surface));
    this.#subsurface.setDesync();
    this.#viewport = compositor.viewporter && stack.use(compositor.viewporter.getViewport(this.picture.wl));
    this.#xdgSurface = stack.use(compositor.shell.getXdgSurface(this.surface));
    this.#toplevel = stack.use(this.#xdgSurface.getToplevel());
    this.#hostScale = stack.use(new HostScale(compositor, this.surface, () => this.#monitorChanged()));
    this.#scaled = this.#hostScale.value;
    this.#describe();
    this.#listen();
    this.surface.commit();
  }

  /** The compositor has configured it: it may show pictures. */
  get isConfigured(): boolean {
    return this.#isConfigured;
  }

  /** The black surface, which gets all input. */
  get surface(): WlSurface {
    return this.#backdrop.surface.wl;
  }

  /** Sends what people do at the window to `listener.input`, until `detachInput`. */
  attachInput({ scanout, input }: ScreenListener): void {
    const { seats } = this.#compositor;
    const { placement, canvas } = this;
    seats.attach(this.surface, {
      scanout,
      input,
      toGuest(x, y, out) {
        out.x = ((x - placement.x) * canvas.width) / placement.width;
        out.y = ((y - placement.y) * canvas.height) / placement.height;
      },
      grabChanged: (isGrabbed) => this.#showShortcut(isGrabbed),
    });
    if (input && seats.canGrab) this.#showShortcut(false);
  }

  /** Releases what is held down at the window. To be called before the window is disposed. */
  detachInput(): void {
    this.#compositor.seats.detach(this.surface);
    if (this.#showsShortcut) this.#setTitle(this.#options.title);
    this.#showsShortcut = false;
  }

  /** The guest's picture has this size from the next commit on. */
  setCanvas(width: number, height: number): void {
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.#isFloating) this.#size = this.#floatingSize = this.#natural();
    this.#isMoved = true;
  }

  /**
   * The part of the buffer that is the picture, from the next commit on. Does nothing on a
   * compositor without viewports.
   */
  setSource(source: Rect): void {
    if (sameRect(source, this.#source)) return;
    this.#source.copy(source);
    this.#viewport?.setSource(source.x, source.y, source.width, source.height);
  }

  /** Commits the picture, and in the same step the window if the picture's place on it has changed. */
  commitPicture(): void {
    if (!this.#isMoved) {
      this.picture.commit();
      return;
    }
    this.#isMoved = false;
    this.#place();
    this.#subsurface.setSync();
    this.picture.commit();
    this.#commitBackdrop();
    this.#subsurface.setDesync();
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.#settling) clearTimeout(this.#settling);
    this.#stack[Symbol.dispose]();
  }

  #showShortcut(isGrabbed: boolean): void {
    this.#showsShortcut = true;
    this.#setTitle(`${this.#options.title} — ${GRAB_SHORTCUT} to ${isGrabbed ? 'release' : 'grab'}`);
  }

  /** Does nothing once the connection is lost, which is when input is detached and grabs end too. */
  #setTitle(title: string): void {
    if (!this.#toplevel.isDestroyed) this.#toplevel.setTitle(title);
  }

  get #scaling(): Scaling {
    return { hostScale: this.#scaled, zoom: this.#options.zoom };
  }

  #describe(): void {
    const { title, fullscreen, tearing } = this.#options;
    const { decoration, dmabuf, tearing: tearingControl } = this.#compositor;
    this.#toplevel.setTitle(title);
    this.#toplevel.setAppId(APP_ID);
    this.#toplevel.setMinSize(MIN_SIDE, MIN_SIDE);
    if (fullscreen) this.#toplevel.setFullscreen(null);
    if (decoration)
      this.#stack
        .use(decoration.getToplevelDecoration(this.#toplevel))
        .setMode(ZxdgToplevelDecorationV1Mode.server_side);
    if (tearing && tearingControl)
      this.#stack
        .use(tearingControl.getTearingControl(this.picture.wl))
        .setPresentationHint(WpTearingControlV1PresentationHint.async);
    if (dmabuf && dmabuf.version >= 4) {
      const formats = new DmabufFormats(() => this.#listener.formatsChanged(formats.tranches));
      formats.watch(this.#stack.use(dmabuf.getSurfaceFeedback(this.picture.wl)));
    }
    using nowhere = this.#compositor.surfaces.createRegion();
    this.picture.wl.setInputRegion(nowhere);
  }

  #listen(): void {
    this.#toplevel.listener = {
      configure: (width, height, states) => this.#wish(width, height, states),
      configureBounds: (width, height) => (this.#bounds = { width, height }),
      close: () => this.#listener.closed(),
    };
    this.#xdgSurface.listener = { configure: (serial) => this.#configureSoon(serial) };
  }

  #wish(width: number, height: number, states: Uint8Array): void {
    this.#wished = { width: Math.max(0, width), height: Math.max(0, height) };
    this.#isFloating = true;
    this.#isResizing = false;
    const view = new DataView(states.buffer, states.byteOffset, states.byteLength);
    for (let at = 0; at + 4 <= states.length; at += 4) {
      const state = view.getUint32(at, true);
      if (state === XdgToplevelState.resizing) this.#isResizing = true;
      else if (FIXED_STATES.has(state)) this.#isFloating = false;
    }
  }

  /** Answers all configures that arrive together once, however many there are. */
  #configureSoon(serial: number): void {
    if (this.#serial === null) queueMicrotask(() => this.#configure());
    this.#serial = serial;
  }

  #configure(): void {
    if (this.#isDisposed || this.#xdgSurface.isDestroyed || this.#serial === null) return;
    this.#xdgSurface.ackConfigure(this.#serial);
    this.#serial = null;
    const isFirst = !this.#isConfigured;
    this.#isConfigured = true;
    const { width: before, height: heightBefore } = this.#size;
    const own = this.#floatingSize ?? this.#natural();
    this.#size = { width: this.#wished.width || own.width, height: this.#wished.height || own.height };
    if (this.#isFloating) this.#floatingSize = this.#size;
    const isResized = this.#size.width !== before || this.#size.height !== heightBefore;
    if (isResized) this.#isMoved = true;
    if (isFirst && this.#wished.width > 0) this.#settled();
    else if (!isFirst && (isResized || this.#settling)) this.#settle();
    if (isFirst) this.#listener.configured();
    if (this.#isMoved) this.commitPicture();
    else this.surface.commit();
  }

  /** Reports the size once it has settled. */
  #settle(): void {
    if (this.#settling) clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = null;
      // A drag ends with a configure without this state.
      if (this.#isResizing) this.#settle();
      else this.#settled();
    }, SETTLED_AFTER_MS);
  }

  #settled(): void {
    this.#listener.resized(pictureFor(this.#size, this.#scaling));
  }

  #monitorChanged(): void {
    this.#listener.refreshChanged(this.#hostScale.refreshMhz);
    if (this.#hostScale.value === this.#scaled) return;
    this.#scaled = this.#hostScale.value;
    if (!this.#isConfigured) return;
    if (this.#isFloating) this.#size = this.#floatingSize = this.#natural();
    else this.#settle();
    this.#isMoved = true;
    this.commitPicture();
  }

  /** The size at which the window shows the picture unscaled, within the bounds of the compositor. */
  #natural(): Size {
    const { width, height } = this.canvas;
    if (this.#viewport) return within(windowFor(this.canvas, this.#scaling), this.#bounds);
    return { width: width / this.#bufferScale, height: height / this.#bufferScale };
  }

  /** For compositors without viewports, which scale by whole numbers that divide the picture's size. */
  get #bufferScale(): number {
    const scale = this.#compositor.surfaces.version >= 3 ? this.#scaled : 1;
    return this.canvas.width % scale === 0 && this.canvas.height % scale === 0 ? scale : 1;
  }

  #place(): void {
    if (this.#viewport) {
      fit(this.canvas, this.#size, this.placement);
      this.#viewport.setDestination(this.placement.width, this.placement.height);
    } else {
      centre(this.canvas, this.#size, this.#bufferScale, this.placement);
      if (this.picture.wl.version >= 3) this.picture.wl.setBufferScale(this.#bufferScale);
    }
    this.#subsurface.setPosition(this.placement.x, this.placement.y);
    this.#listener.placed();
  }

  #commitBackdrop(): void {
    const { width, height } = this.#size;
    this.#xdgSurface.setWindowGeometry(0, 0, width, height);
    this.#backdrop.commit(width, height);
  }
}

/**
 * A window's own surface, black: one pixel scaled up or, on a compositor without viewports, a
 * buffer of the window's size.
 */
class Backdrop implements Disposable {
  readonly surface: Surface;
  readonly #viewport: WpViewport | null;
  readonly #pools = new ShmPools();
  #black: ShmBuffer | null = null;

  constructor(compositor: Compositor) {
    this.surface = new Surface(compositor, { isOpaque: true });
    this.#viewport = compositor.viewporter?.getViewport(this.surface.wl) ?? null;
  }

  /** Commits the surface in this size. */
  commit(width: number, height: number): void {
    this.#viewport?.setDestination(width, height);
    try {
      if (this.#viewport) this.#attach(1, 1);
      else this.#attach(width, height);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.surface.compositor.failed(error);
      return;
    }
    this.surface.commit();
  }

  [Symbol.dispose](): void {
    this.#viewport?.[Symbol.dispose]();
    this.surface[Symbol.dispose]();
    this.#black?.[Symbol.dispose]();
  }

  #attach(width: number, height: number): void {
    const before = this.#black;
    if (before?.width === width && before.height === height) return;
    this.#black = ShmBuffer.create(this.#pools, width, height, DRM_FORMAT.XRGB8888);
    before?.[Symbol.dispose]();
    this.surface.attach(this.#black, null, null);
  }
}

/** wp_fractional_scale_v1 sends the scale in 120ths. */
const SCALE_UNITS = 120;

/** Scale and refresh rate of the monitors a window is on, from whichever protocol the compositor has for that. */
class HostScale implements Disposable {
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

  /** Screen pixels per logical pixel: the largest among the monitors the window is on. */
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

export interface Scaling {
  /** Screen pixels per logical pixel, fractions allowed. */
  readonly hostScale: number;
  /** Screen pixels per guest pixel, as the user chose. */
  readonly zoom: number;
}

/**
 * The window size, in logical pixels, at which `picture` has the user's zoom: at zoom 1 each guest
 * pixel is one screen pixel.
 */
export function windowFor(picture: Size, { hostScale, zoom }: Scaling): Size {
  return {
    width: Math.max(1, Math.round((picture.width * zoom) / hostScale)),
    height: Math.max(1, Math.round((picture.height * zoom) / hostScale)),
  };
}

/** The picture size, in guest pixels, that fills `window` at the user's zoom. The inverse of `windowFor`. */
export function pictureFor(window: Size, { hostScale, zoom }: Scaling): Size {
  return {
    width: Math.max(1, Math.round((window.width * hostScale) / zoom)),
    height: Math.max(1, Math.round((window.height * hostScale) / zoom)),
  };
}

/** Shrinks `size` into `bounds`, keeping its aspect ratio; a bound of 0 does not limit it. */
export function within(size: Size, bounds: Size): Size {
  const factor = Math.min(
    1,
    bounds.width > 0 ? bounds.width / size.width : 1,
    bounds.height > 0 ? bounds.height / size.height : 1,
  );
  return { width: Math.max(1, Math.floor(size.width * factor)), height: Math.max(1, Math.floor(size.height * factor)) };
}

/** Centres `picture` in `window`, as large as its aspect ratio allows. */
export function fit(picture: Size, window: Size, into: MutableRect): void {
  const factor = Math.min(window.width / picture.width, window.height / picture.height);
  // A window that was sized for the picture differs by a pixel of rounding; then the picture fills it.
  const width = Math.round(picture.width * factor);
  const height = Math.round(picture.height * factor);
  into.width = Math.abs(width - window.width) <= 1 ? window.width : Math.max(1, width);
  into.height = Math.abs(height - window.height) <= 1 ? window.height : Math.max(1, height);
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}

/** Centres `picture` in `window` unscaled, for compositors that cannot scale it; it may reach beyond the window. */
export function centre(picture: Size, window: Size, bufferScale: number, into: MutableRect): void {
  into.width = picture.width / bufferScale;
  into.height = picture.height / bufferScale;
  into.x = Math.floor((window.width - into.width) / 2);
  into.y = Math.floor((window.height - into.height) / 2);
}
