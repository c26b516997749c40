import type { FormatSet } from '../../src/core/framebuffer.ts';
import { MutableRect, type Rect, sameRect, type Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Backdrop } from './backdrop.ts';
import { type WlSurface, WpTearingControlV1PresentationHint, type WpViewport, XdgToplevelState, ZxdgToplevelDecorationV1Mode } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { DmabufFormats } from './dmabuf-formats.ts';
import { HostScale } from './host-scale.ts';
import { centre, fit, pictureFor, type Scaling, windowFor, within } from './placement.ts';

const APP_ID = 'scanout-bridge';
const MIN_SIDE = 64;
/** A drag has settled when the window had its size this long. */
const SETTLED_AFTER_MS = 200;
/** In these the size is the compositor's decision. */
const FIXED_STATES: ReadonlySet<number> = new Set([
  ...[XdgToplevelState.maximized, XdgToplevelState.fullscreen],
  ...[XdgToplevelState.tiled_left, XdgToplevelState.tiled_right, XdgToplevelState.tiled_top, XdgToplevelState.tiled_bottom],
]);

export interface WindowOptions {
  readonly title: string;
  readonly fullscreen: boolean;
  /** Screen pixels per guest pixel. */
  readonly zoom: number;
  /** Frames may be shown before the vertical blank. */
  readonly tearing: boolean;
}

export interface WindowOwner {
  /** It can show pictures, from the first call on; what it shows must be committed anew. */
  windowConfigured(): void;
  /** The user made it this large, in guest pixels; a guest that can be told should follow. */
  windowResized(picture: Size): void;
  windowMonitorChanged(refreshMhz: number): void;
  /** `placement` is what it is now. */
  windowPlaced(): void;
  windowFormatsChanged(tranches: readonly FormatSet[]): void;
  /** The user has closed it. */
  windowClosed(): void;
}

/**
 * A window: a black surface of its size, and the guest's picture on a surface above, so that
 * a picture of another shape lies in the middle of whatever size the compositor insists on. All
 * input goes to the black one; `placement` says where on it the picture is. Without a decoration
 * protocol it has no frame: compositors move and close such windows by key and by task list.
 */
export class Window implements Disposable {
  readonly surface: WlSurface;
  readonly picture: WlSurface;
  /** Where the picture lies on `surface`, in the compositor's logical pixels. */
  readonly placement = new MutableRect();
  /** Size of the guest's picture. */
  readonly canvas: { width: number; height: number };
  readonly #compositor: Compositor;
  readonly #options: WindowOptions;
  readonly #owner: WindowOwner;
  readonly #stack = new DisposableStack();
  readonly #xdgSurface;
  readonly #toplevel;
  readonly #subsurface;
  readonly #backdrop: Backdrop;
  readonly #viewport: WpViewport | null;
  readonly #hostScale: HostScale;
  #settling: NodeJS.Timeout | null = null;
  /** What the compositor wishes, 0 is our choice; told by the next xdg_surface.configure. */
  #wished = { width: 0, height: 0 };
  #bounds = { width: 0, height: 0 };
  #isFloating = true;
  #isResizing = false;
  #serial: number | null = null;
  #isConfigured = false;
  #size: Size = { width: 0, height: 0 };
  /** To return to from full screen. */
  #floatingSize: Size | null = null;
  readonly #source = new MutableRect();
  /** The host scale the window was laid out for. */
  #scaled = 1;
  /** The picture lies elsewhere, or the window has another size, than was committed last. */
  #isMoved = true;
  #isDisposed = false;

  /** `canvas` is the guest's picture, or what it is likely to be. */
  constructor(compositor: Compositor, canvas: Size, options: WindowOptions, owner: WindowOwner) {
    this.#compositor = compositor;
    this.#options = options;
    this.#owner = owner;
    this.canvas = { ...canvas };
    const stack = this.#stack;
    this.surface = stack.use(compositor.surfaces.createSurface());
    this.picture = stack.use(compositor.surfaces.createSurface());
    this.#subsurface = stack.use(compositor.subsurfaces.getSubsurface(this.picture, this.surface));
    this.#subsurface.setDesync();
    this.#backdrop = stack.use(new Backdrop(compositor, this.surface));
    this.#viewport = compositor.viewporter && stack.use(compositor.viewporter.getViewport(this.picture));
    this.#xdgSurface = stack.use(compositor.shell.getXdgSurface(this.surface));
    this.#toplevel = stack.use(this.#xdgSurface.getToplevel());
    this.#hostScale = stack.use(new HostScale(compositor, this.surface, () => this.#monitorChanged()));
    this.#scaled = this.#hostScale.value;
    this.#describe();
    this.#listen();
    this.surface.commit();
  }

  /** The compositor has said how large it is: it may show something. */
  get isConfigured(): boolean {
    return this.#isConfigured;
  }

  setTitle(title: string): void {
    // A seat lets go of it even when the connection is gone.
    if (!this.#toplevel.isDestroyed) this.#toplevel.setTitle(title);
  }

  /** The guest's picture has this size from the next commit on. */
  setCanvas(width: number, height: number): void {
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.#isFloating) this.#size = this.#floatingSize = this.#natural();
    this.#isMoved = true;
  }

  /** The part of the attached buffer that is the picture. Only where there are viewports. */
  setSource(source: Rect): void {
    if (sameRect(source, this.#source)) return;
    this.#source.copy(source);
    this.#viewport?.setSource(source.x, source.y, source.width, source.height);
  }

  /** Commits the picture surface, and with it the window, if the picture lies elsewhere on it than before. */
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
    if (decoration) this.#stack.use(decoration.getToplevelDecoration(this.#toplevel)).setMode(ZxdgToplevelDecorationV1Mode.server_side);
    if (tearing && tearingControl) this.#stack.use(tearingControl.getTearingControl(this.picture)).setPresentationHint(WpTearingControlV1PresentationHint.async);
    if (dmabuf && dmabuf.version >= 4) {
      const formats = new DmabufFormats(() => this.#owner.windowFormatsChanged(formats.tranches));
      formats.watch(this.#stack.use(dmabuf.getSurfaceFeedback(this.picture)));
    }
    using nowhere = this.#compositor.surfaces.createRegion();
    this.picture.setInputRegion(nowhere);
  }

  #listen(): void {
    this.#toplevel.listener = {
      configure: (width, height, states) => this.#wish(width, height, states),
      configureBounds: (width, height) => (this.#bounds = { width, height }),
      close: () => this.#owner.windowClosed(),
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

  /** Once for all that came together: a storm of them costs one answer. */
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
    if (isFirst) this.#owner.windowConfigured();
    if (this.#isMoved) this.commitPicture();
    else this.surface.commit();
  }

  /** Tells the owner once the size stays. */
  #settle(): void {
    if (this.#settling) clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = null;
      // The end of the drag is told, by a configure without that state.
      if (this.#isResizing) this.#settle();
      else this.#settled();
    }, SETTLED_AFTER_MS);
  }

  #settled(): void {
    this.#owner.windowResized(pictureFor(this.#size, this.#scaling));
  }

  #monitorChanged(): void {
    this.#owner.windowMonitorChanged(this.#hostScale.refreshMhz);
    if (this.#hostScale.value === this.#scaled) return;
    this.#scaled = this.#hostScale.value;
    if (!this.#isConfigured) return;
    if (this.#isFloating) this.#size = this.#floatingSize = this.#natural();
    else this.#settle();
    this.#isMoved = true;
    this.commitPicture();
  }

  /** The window that shows the picture as it is, if it may. */
  #natural(): Size {
    const { width, height } = this.canvas;
    if (this.#viewport) return within(windowFor(this.canvas, this.#scaling), this.#bounds);
    return { width: width / this.#bufferScale, height: height / this.#bufferScale };
  }

  /** Without viewports the picture can be shown at whole scales only, if its size allows. */
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
      if (this.picture.version >= 3) this.picture.setBufferScale(this.#bufferScale);
    }
    this.#subsurface.setPosition(this.placement.x, this.placement.y);
    this.#owner.windowPlaced();
  }

  #commitBackdrop(): void {
    const { width, height } = this.#size;
    this.#xdgSurface.setWindowGeometry(0, 0, width, height);
    this.#backdrop.commit(width, height);
  }
}
