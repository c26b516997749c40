import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import type { FormatSet } from '../../src/core/framebuffer.ts';
import { MutableRect, type Rect, sameRect, type Size } from '../../src/core/geometry.ts';
import type { ScreenListener } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { drawOn } from '../../src/sys/lib/cairo.ts';
import {
  type WlOutput,
  type WlSurface,
  WpTearingControlV1PresentationHint,
  type WpViewport,
  XdgToplevelState,
  XdgToplevelWmCapabilities,
  type ZwpIdleInhibitorV1,
  ZxdgToplevelDecorationV1Mode,
} from './client/index.ts';
import { type Compositor, MAX_SCALE } from './compositor.ts';
import { BAR_HEIGHT, Decoration, type DecorationListener } from './decoration.ts';
import { DmabufFormats } from './dmabuf-formats.ts';
import { GRAB_SHORTCUT } from './seat/keyboard.ts';
import { ShmBuffer, ShmPools } from './shm.ts';
import { Surface } from './surface.ts';
import {
  centre,
  exactScale,
  fit,
  type HostScreen,
  MAX_SIDE,
  pictureFor,
  SCALE_UNITS,
  type Scaling,
  windowFor,
  within,
} from './window-size.ts';

const APP_ID = 'scanout-bridge';
const MIN_SIDE = 64;
/** A window that keeps its size this long is no longer being dragged. */
const SETTLED_AFTER_MS = 200;
/** A guest that has not changed its picture this long after it was told about a size will not. */
const ANSWERED_AFTER_MS = 1000;
/** The share of a screen that a window takes at most which has never had a size of its own. */
const RESTORED_SHARE = 0.75;
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
  /** Screen pixels per guest pixel. */
  readonly zoom: number;
  /** Allows the compositor to show frames before the vertical blank. */
  readonly tearing: boolean;
  /** In full screen, keeps the monitor from going dark. */
  readonly inhibitIdle: boolean;
  /** Shown while the guest shows nothing; empty: nothing. */
  readonly offText: string;
  /** The user wants the guest's picture on the clipboard. False if it cannot be had. */
  readonly copyPicture: () => boolean;
}

/** How the user has left a window. The window keeps it up to date; the next compositor's window starts with it. */
export interface WindowMemory {
  /** By which the compositor may give the first window the focus; null once that was asked for. */
  activationToken: string | null;
  isFullscreen: boolean;
  isMaximized: boolean;
  /** The size it has or had while it was neither; null: never. In logical pixels. */
  floatingSize: Size | null;
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
  /** The compositor draws it no more, as when it is minimised, or again. */
  suspended(isSuspended: boolean): void;
  /** The user has closed it. */
  closed(): void;
}

/**
 * A window: a black surface of the window's size, with the guest's picture on a subsurface above it.
 * So a picture of another shape is letterboxed in whatever size the compositor insists on. All input
 * goes to the black surface; `placement` says where the picture lies on it. Where the compositor draws no
 * title bars, the window has one of its own above the black surface; sizes here are without it.
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
  readonly #memory: WindowMemory;
  readonly #listener: WindowListener;
  readonly #stack = new DisposableStack();
  readonly #xdgSurface;
  readonly #toplevel;
  readonly #subsurface;
  readonly #backdrop: Backdrop;
  #decoration: Decoration | null = null;
  /** Height of the title bar in the newest commit. */
  #shownBar = 0;
  /** The compositor draws title bars, but may say that it does not. */
  #isDecoratedByHost: boolean;
  #offText: OffText | null = null;
  /** The guest shows nothing. */
  #isOff = false;
  #idleInhibitor: ZwpIdleInhibitorV1 | null = null;
  readonly #viewport: WpViewport | null;
  readonly #hostScale: HostScale;
  #settling: NodeJS.Timeout | null = null;
  /** Runs while a guest that was told about a size may still answer. */
  #answering: NodeJS.Timeout | null = null;
  /** The picture fills the window whatever its shape, until the guest has answered. */
  #isStretched = false;
  /** What the guest was told last. */
  #told: Size | null = null;
  /**
   * From the newest xdg_toplevel.configure, with the title bar, to be applied at the next xdg_surface.configure; 0
   * leaves the choice to the window.
   */
  #asked = { width: 0, height: 0 };
  /** The same without the title bar. */
  #wished = { width: 0, height: 0 };
  /** With the title bar. */
  #bounds = { width: 0, height: 0 };
  #isFloating = true;
  #isResizing = false;
  #isFullscreen = false;
  #isMaximized = false;
  #isSuspended = false;
  #isActive = false;
  #title = '';
  /** It had a size that the compositor left to it or to the user. */
  #hasFloated = false;
  /** A size that the compositor gave it before it had floated, which means nothing. */
  #ignored: Size | null = null;
  /** Sizes that it has left for its picture's, and that the compositor may still say, until it has seen that. */
  #left: Size[] = [];
  /** From xdg_toplevel.wm_capabilities; null: everything, before version 5. */
  #capabilities: ReadonlySet<number> | null = null;
  #serial: number | null = null;
  /** Kinds of events that are answered when all of them have been read. */
  readonly #due = new Set<string>();
  #isConfigured = false;
  #size: Size = { width: 0, height: 0 };
  readonly #source = new MutableRect();
  /** The host scale that the window was laid out for. */
  #scaled = 1;
  /** The place of the picture or the size of the window has changed since the last commit. */
  #isMoved = true;
  /** The title names the grab shortcut. */
  #showsShortcut = false;
  #isDisposed = false;

  /** `canvas` is the size of the guest's picture, or a guess while there is none. */
  constructor(
    compositor: Compositor,
    canvas: Size,
    options: WindowOptions,
    memory: WindowMemory,
    listener: WindowListener,
  ) {
    this.#compositor = compositor;
    this.#isDecoratedByHost = compositor.decoration !== null;
    this.#options = options;
    this.#memory = memory;
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
        // Before the first picture has its place, that is 0x0.
        out.x = ((x - placement.x) * canvas.width) / Math.max(1, placement.width);
        out.y = ((y - placement.y) * canvas.height) / Math.max(1, placement.height);
      },
      grabChanged: (isGrabbed) => this.#showShortcut(isGrabbed),
      toggleFullscreen: () => this.#toggleFullscreen(),
      copyPicture: this.#options.copyPicture,
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
    this.#isMoved = true;
    // The window has the size that the guest was told, or another one by now.
    if (this.#isResizing || this.#settling) return;
    this.#endStretch();
    if (!this.#isFloating || (this.#told?.width === width && this.#told.height === height)) return;
    this.#told = null;
    if (this.#isConfigured) this.#left.push(this.#size);
    this.#size = this.#memory.floatingSize = this.#natural();
    if (this.#isCut) this.#settled();
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

  /** Whether the guest shows nothing, from the next commit on. */
  setOff(isOff: boolean): void {
    if (isOff === this.#isOff) return;
    this.#isOff = isOff;
    this.#isMoved = true;
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
    if (this.#answering) clearTimeout(this.#answering);
    this.#decoration?.[Symbol.dispose]();
    this.#offText?.[Symbol.dispose]();
    this.#idleInhibitor?.[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
  }

  #showShortcut(isGrabbed: boolean): void {
    this.#showsShortcut = true;
    this.#setTitle(`${this.#options.title} — ${GRAB_SHORTCUT} to ${isGrabbed ? 'release' : 'grab'}`);
  }

  /** Does nothing once the connection is lost, which is when input is detached and grabs end too. */
  #setTitle(title: string): void {
    if (this.#toplevel.isDestroyed) return;
    this.#title = title;
    this.#toplevel.setTitle(title);
    if (!this.#isConfigured || this.#isDisposed) return;
    this.#decorate();
    this.surface.commit();
  }

  get #scaling(): Scaling {
    return { hostScale: this.#scaled, zoom: this.#options.zoom, screen: this.#hostScale.screen };
  }

  #can(capability: number): boolean {
    return this.#capabilities?.has(capability) ?? true;
  }

  #toggleFullscreen(): boolean {
    if (!this.#can(XdgToplevelWmCapabilities.fullscreen)) return false;
    if (this.#isFullscreen) this.#toplevel.unsetFullscreen();
    else this.#toplevel.setFullscreen(null);
    return true;
  }

  #describe(): void {
    const { title, tearing } = this.#options;
    const { decoration, dmabuf, icons, tearing: tearingControl } = this.#compositor;
    this.#setTitle(title);
    this.#toplevel.setAppId(APP_ID);
    this.#toplevel.setMinSize(MIN_SIDE, MIN_SIDE + (decoration ? 0 : BAR_HEIGHT));
    if (icons) {
      using icon = icons.createIcon();
      icon.setName(APP_ID);
      icons.setIcon(this.#toplevel, icon);
    }
    if (this.#memory.isMaximized) this.#toplevel.setMaximized();
    if (this.#memory.isFullscreen) this.#toplevel.setFullscreen(null);
    if (decoration) {
      const wanted = this.#stack.use(decoration.getToplevelDecoration(this.#toplevel));
      wanted.listener = {
        configure: (mode) => (this.#isDecoratedByHost = mode !== ZxdgToplevelDecorationV1Mode.client_side),
      };
      wanted.setMode(ZxdgToplevelDecorationV1Mode.server_side);
    }
    if (tearing && tearingControl)
      this.#stack
        .use(tearingControl.getTearingControl(this.picture.wl))
        .setPresentationHint(WpTearingControlV1PresentationHint.async);
    if (dmabuf && dmabuf.version >= 4) {
      const formats = new DmabufFormats(() =>
        this.#soon('formats', () => this.#listener.formatsChanged(formats.tranches)),
      );
      formats.watch(this.#stack.use(dmabuf.getSurfaceFeedback(this.picture.wl)));
    }
    using nowhere = this.#compositor.surfaces.createRegion();
    this.picture.wl.setInputRegion(nowhere);
  }

  #listen(): void {
    this.#toplevel.listener = {
      configure: (width, height, states) => this.#wish(width, height, states),
      configureBounds: (width, height) => (this.#bounds = { width, height }),
      wmCapabilities: (capabilities) => (this.#capabilities = new Set(words(capabilities))),
      close: () => this.#listener.closed(),
    };
    this.#xdgSurface.listener = { configure: (serial) => this.#configureSoon(serial) };
  }

  #wish(width: number, height: number, states: Uint8Array): void {
    this.#asked = { width: Math.min(Math.max(0, width), MAX_SIDE), height: Math.min(Math.max(0, height), MAX_SIDE) };
    const set = new Set(words(states));
    this.#isFloating = ![...set].some((state) => FIXED_STATES.has(state));
    this.#isResizing = set.has(XdgToplevelState.resizing);
    this.#isFullscreen = set.has(XdgToplevelState.fullscreen);
    this.#isMaximized = set.has(XdgToplevelState.maximized);
    this.#isSuspended = set.has(XdgToplevelState.suspended);
    this.#isActive = set.has(XdgToplevelState.activated);
  }

  #configureSoon(serial: number): void {
    this.#serial = serial;
    this.#soon('configure', () => this.#configure());
  }

  /** Answers all events of a kind that arrive together once, however many there are. */
  #soon(kind: string, answer: () => void): void {
    if (this.#due.has(kind)) return;
    this.#due.add(kind);
    queueMicrotask(() => {
      this.#due.delete(kind);
      if (this.#isDisposed || this.#xdgSurface.isDestroyed) return;
      try {
        answer();
      } catch (error) {
        this.#compositor.failed(error);
      }
    });
  }

  #configure(): void {
    if (this.#serial === null) return;
    this.#xdgSurface.ackConfigure(this.#serial);
    this.#serial = null;
    const isFirst = !this.#isConfigured;
    this.#isConfigured = true;
    const before = this.#size;
    const { width, height } = this.#asked;
    this.#wished = { width, height: height === 0 ? 0 : Math.max(1, height - this.#barHeight) };
    this.#size = this.#configuredSize();
    const memory = this.#memory;
    memory.isFullscreen = this.#isFullscreen;
    // A full-screen window may be maximised underneath, which no state says.
    if (!this.#isFullscreen) memory.isMaximized = this.#isMaximized;
    if (this.#isFloating) memory.floatingSize = this.#size;
    const isResized = this.#size.width !== before.width || this.#size.height !== before.height;
    if (isResized || this.#barHeight !== this.#shownBar) this.#isMoved = true;
    if (isResized && this.#isResizing && this.#viewport) this.#isStretched = true;
    if (isFirst && (this.#wished.width > 0 || this.#isCut)) this.#settled();
    else if (!isFirst && (isResized || this.#settling)) this.#settle();
    this.#inhibitIdle();
    if (isFirst) this.#listener.configured();
    // This may end a frame, after which the guest may show nothing more and the window close.
    this.#listener.suspended(this.#isSuspended);
    if (this.#isDisposed) return;
    if (this.#isMoved) {
      this.commitPicture();
    } else {
      this.#decorate();
      this.surface.commit();
    }
    if (isFirst) this.#activate();
  }

  /** Asks for the focus, once the surface is a window. */
  #activate(): void {
    const token = this.#memory.activationToken;
    this.#memory.activationToken = null;
    if (token !== null) this.#compositor.activation?.activate(token, this.surface);
  }

  #inhibitIdle(): void {
    const isWanted = this.#options.inhibitIdle && this.#isFullscreen;
    if (isWanted) {
      this.#idleInhibitor ??= this.#compositor.idleInhibit?.createInhibitor(this.surface) ?? null;
      return;
    }
    this.#idleInhibitor?.[Symbol.dispose]();
    this.#idleInhibitor = null;
  }

  /** What the newest configure comes to. */
  #configuredSize(): Size {
    const wished = this.#wished;
    const memory = this.#memory;
    if (!this.#isFloating) {
      // What to return to, from before the guest follows this size.
      const size = { width: wished.width || this.#natural().width, height: wished.height || this.#natural().height };
      const share = { width: size.width * RESTORED_SHARE, height: size.height * RESTORED_SHARE };
      memory.floatingSize ??= within(this.#natural(), share);
      return size;
    }
    const own = memory.floatingSize ?? this.#natural();
    // Compositors that have never seen the window floating give it the size of the screen, or the smallest there is.
    if (!this.#hasFloated && this.#size.width > 0) this.#ignored = wished;
    this.#hasFloated = true;
    if (wished.width === this.#ignored?.width && wished.height === this.#ignored.height) return own;
    this.#ignored = null;
    if (this.#left.some(({ width, height }) => width === wished.width && height === wished.height)) return own;
    return { width: wished.width || own.width, height: wished.height || own.height };
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
    const told = (this.#told = pictureFor(this.#size, this.#scaling));
    this.#listener.resized(told);
    if (!this.#isStretched) return;
    if (this.#answering) clearTimeout(this.#answering);
    this.#answering = setTimeout(() => {
      this.#endStretch();
      this.commitPicture();
    }, ANSWERED_AFTER_MS);
  }

  #endStretch(): void {
    if (this.#answering) clearTimeout(this.#answering);
    this.#answering = null;
    if (!this.#isStretched) return;
    this.#isStretched = false;
    this.#isMoved = true;
  }

  #monitorChanged(): void {
    this.#listener.refreshChanged(this.#hostScale.refreshMhz);
    if (this.#hostScale.value === this.#scaled) return;
    this.#scaled = this.#hostScale.value;
    if (!this.#isConfigured) return;
    if (this.#isFloating) this.#size = this.#memory.floatingSize = this.#natural();
    if (!this.#isFloating || this.#isCut) this.#settle();
    this.#isMoved = true;
    this.commitPicture();
  }

  /** The size at which the window shows the picture unscaled, within the bounds of the compositor. */
  #natural(): Size {
    const { width, height } = this.canvas;
    if (this.#viewport) return within(windowFor(this.canvas, this.#scaling), this.#room);
    return { width: width / this.#bufferScale, height: height / this.#bufferScale };
  }

  /** It floats, and the bounds of the compositor leave it no room for the picture unscaled. */
  get #isCut(): boolean {
    if (!this.#isFloating || !this.#viewport) return false;
    const wanted = windowFor(this.canvas, this.#scaling);
    return this.#size.width < wanted.width || this.#size.height < wanted.height;
  }

  /** The bounds of the compositor without the title bar. */
  get #room(): Size {
    const { width, height } = this.#bounds;
    return { width, height: height === 0 ? 0 : Math.max(1, height - this.#barHeight) };
  }

  /** Of the title bar that this window draws itself. */
  get #barHeight(): number {
    return this.#isDecoratedByHost || this.#isFullscreen ? 0 : BAR_HEIGHT;
  }

  /** For compositors without viewports, which scale by whole numbers that divide the picture's size. */
  get #bufferScale(): number {
    const scale = this.#compositor.surfaces.version >= 3 ? this.#scaled : 1;
    return this.canvas.width % scale === 0 && this.canvas.height % scale === 0 ? scale : 1;
  }

  #place(): void {
    if (this.#viewport) {
      if (this.#isStretched) this.placement.set(0, 0, this.#size.width, this.#size.height);
      else fit(this.canvas, this.#size, this.placement);
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
    const bar = (this.#shownBar = this.#barHeight);
    this.#decorate();
    this.#placeOffText();
    this.#xdgSurface.setWindowGeometry(0, -bar, width, height + bar);
    this.#backdrop.commit(width, height);
    if (this.#left.length > 0) void this.#forgetLeft();
  }

  /** When the compositor has seen the size of this commit. */
  async #forgetLeft(): Promise<void> {
    const left = this.#left.slice();
    try {
      await this.#compositor.display.roundtrip();
    } catch {
      // The window ends with the connection.
    }
    this.#left = this.#left.filter((size) => !left.includes(size));
  }

  /** Brings the title bar up to date, for the next commit. */
  #decorate(): void {
    if (this.#barHeight === 0 || this.#size.width === 0) {
      this.#decoration?.hide();
      return;
    }
    try {
      this.#decoration ??= new Decoration(this.#compositor, this.surface, this.#decorationListener());
      this.#decoration.show({
        ...this.#size,
        scale: this.#scaled,
        title: this.#title,
        isActive: this.#isActive,
        isMaximized: this.#isMaximized,
        canMinimize: this.#can(XdgToplevelWmCapabilities.minimize),
        canMaximize: this.#can(XdgToplevelWmCapabilities.maximize),
      });
    } catch (error) {
      // There is no memory or descriptor for the bar.
      if (!(error instanceof SysError || error instanceof RangeError)) throw error;
      this.#compositor.failed(error);
    }
  }

  /** For the next commit. */
  #placeOffText(): void {
    if (!this.#isOff || this.#options.offText === '') {
      this.#offText?.[Symbol.dispose]();
      this.#offText = null;
      return;
    }
    try {
      this.#offText ??= new OffText(this.#compositor, this.surface, this.#options.offText);
      this.#offText.place(this.#size, this.#scaled);
    } catch (error) {
      // There is no memory or descriptor for it.
      if (!(error instanceof SysError || error instanceof RangeError)) throw error;
      this.#compositor.failed(error);
    }
  }

  #decorationListener(): DecorationListener {
    const toplevel = this.#toplevel;
    return {
      close: () => this.#listener.closed(),
      minimize: () => toplevel.setMinimized(),
      toggleMaximized: () => (this.#isMaximized ? toplevel.unsetMaximized() : toplevel.setMaximized()),
      move: (seat, serial) => toplevel.move(seat, serial),
      resize: (seat, serial, edge) => toplevel.resize(seat, serial, edge),
      showMenu: (seat, serial, x, y) => {
        if (this.#can(XdgToplevelWmCapabilities.window_menu)) toplevel.showWindowMenu(seat, serial, x, y);
      },
      changed: () => this.surface.commit(),
    };
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
      // The buffer of a window without viewports may be too large for wl_shm.
      if (!(error instanceof SysError || error instanceof RangeError)) throw error;
      this.surface.compositor.failed(error);
      return;
    }
    // wlroots leaves on the screen what a subsurface has shown that has no buffer any longer.
    this.surface.wl.damage(0, 0, width, height);
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

const TEXT_HEIGHT = 24;
const TEXT_SIZE = 13;
const TEXT_COLOUR = 0x9a9a9a;
/** What a compositor can make this process draw, in pixels. */
const MAX_TEXT_WIDTH = 4096;
const MAX_TEXT_SCALE = 8;

/** One line of text in the middle of a window, drawn when the window's size or scale changes. */
class OffText implements Disposable {
  readonly #surface: Surface;
  readonly #subsurface;
  readonly #viewport: WpViewport | null;
  readonly #pools = new ShmPools();
  readonly #text: string;
  #buffer: ShmBuffer | null = null;
  #drawn = '';

  constructor(compositor: Compositor, parent: WlSurface, text: string) {
    this.#text = text;
    this.#surface = new Surface(compositor, { isOpaque: true });
    this.#subsurface = compositor.subsurfaces.getSubsurface(this.#surface.wl, parent);
    this.#viewport = compositor.viewporter?.getViewport(this.#surface.wl) ?? null;
    using nowhere = compositor.surfaces.createRegion();
    this.#surface.wl.setInputRegion(nowhere);
  }

  /** In a window of this size, from its next commit on. Throws SysError, RangeError as ShmBuffer.create. */
  place(window: Size, hostScale: number): void {
    const most = Math.min(hostScale, MAX_TEXT_SCALE);
    const scale = this.#viewport ? most : 1;
    const width = Math.max(1, Math.min(window.width, Math.floor(MAX_TEXT_WIDTH / scale)));
    const wanted = `${window.width}x${window.height} ${scale}`;
    if (wanted === this.#drawn) return;
    this.#drawn = wanted;
    const pixels = {
      width: Math.max(1, Math.round(width * scale)),
      height: Math.max(1, Math.round(TEXT_HEIGHT * scale)),
    };
    const before = this.#buffer;
    const buffer = (this.#buffer = ShmBuffer.create(this.#pools, pixels.width, pixels.height, DRM_FORMAT.XRGB8888));
    before?.[Symbol.dispose]();
    drawOn({ ...pixels, pixels: buffer.pixels, stride: buffer.stride }, (canvas) =>
      canvas.text(this.#text, 0, 0, pixels.width, pixels.height, TEXT_SIZE * scale, TEXT_COLOUR),
    );
    this.#viewport?.setDestination(width, TEXT_HEIGHT);
    this.#subsurface.setPosition(Math.floor((window.width - width) / 2), Math.floor((window.height - TEXT_HEIGHT) / 2));
    this.#surface.attach(buffer, null, null);
    this.#surface.commit();
  }

  [Symbol.dispose](): void {
    this.#viewport?.[Symbol.dispose]();
    this.#subsurface[Symbol.dispose]();
    this.#surface[Symbol.dispose]();
    this.#buffer?.[Symbol.dispose]();
  }
}

/** The 32-bit words of a wl_array. */
function words(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length >> 2 }, (_, index) => view.getUint32(4 * index, true));
}

/** Scale and refresh rate of the monitors a window is on, from whichever protocol the compositor has for that. */
class HostScale implements Disposable {
  readonly #compositor: Compositor;
  readonly #entered = new Set<WlOutput>();
  readonly #stack = new DisposableStack();
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
        this.#preferred = Math.min(Math.max(1, factor), MAX_SCALE);
        onChange();
      },
    };
    if (compositor.fractionalScale) {
      const fractional = this.#stack.use(compositor.fractionalScale.getFractionalScale(surface));
      fractional.listener = {
        preferredScale: (scale) => {
          this.#fractional = Math.min(Math.max(1, scale) / SCALE_UNITS, MAX_SCALE);
          onChange();
        },
      };
    }
    this.#stack.defer(
      compositor.monitors.onChange(() => {
        // No event says that the window has left a monitor that is gone.
        for (const output of this.#entered) if (!compositor.monitors.get(output)) this.#entered.delete(output);
        onChange();
      }),
    );
  }

  /** Screen pixels per logical pixel: the largest among the monitors the window is on. */
  get value(): number {
    if (this.#fractional > 0) return exactScale(this.#fractional, false, this.screen);
    // Only with viewports can a window have another scale than a whole one.
    return this.#compositor.viewporter ? exactScale(this.#whole, true, this.screen) : this.#whole;
  }

  /** The monitor that the window is on, or the first; null if the compositor does not tell its size. */
  get screen(): HostScreen | null {
    const { monitors } = this.#compositor;
    for (const output of this.#entered) {
      const monitor = monitors.get(output);
      if (monitor) return monitor.screen;
    }
    return monitors.first?.screen ?? null;
  }

  get #whole(): number {
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
    this.#stack[Symbol.dispose]();
  }
}
