import { type Fourcc, formatName } from '../../protocols/drm-fourcc.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { Bag } from '../../src/core/bag.ts';
import { Damage } from '../../src/core/damage.ts';
import type { FormatSet, Framebuffer } from '../../src/core/framebuffer.ts';
import { MutableRect, type Size } from '../../src/core/geometry.ts';
import { type Log, logOnce, type LogOnce } from '../../src/core/log.ts';
import { type Monitor, virtualMonitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  type DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type Presentation,
  PresentedFlags,
  type ScreenListener,
  type Shadow,
} from '../../src/core/output.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import type { Compositor } from './compositor.ts';
import { DmabufBuffer } from './dmabuf-buffer.ts';
import { DmabufImports } from './dmabuf-formats.ts';
import { FramePacer } from './frame-pacer.ts';
import { GuestCursor } from './guest-cursor.ts';
import { ShmBuffer, ShmPools } from './shm.ts';
import { type SurfaceBuffer, usableBuffer } from './surface.ts';
import { Window, type WindowListener, type WindowMemory, type WindowOptions } from './window.ts';

const MAX_CURSOR: Size = { width: 256, height: 256 };
const DEFAULT_SIZE: Size = { width: 1280, height: 800 };

export interface WaylandOutputOptions extends WindowOptions {
  readonly scanout: number;
  /** The first window opens full screen; the next ones as the user has left it. */
  readonly fullscreen: boolean;
  /** As in WindowMemory. */
  readonly activationToken: string | null;
  /** The window is open only while it has something to show. */
  readonly isOptional: boolean;
  readonly log: Log;
  /** The user has closed the window, and the output's listener has been notified. */
  readonly onClosed: () => void;
}

/** How the owner of an output tells it about compositors. */
export interface CompositorListener {
  /** A compositor is there, the first or the next. */
  connected(compositor: Compositor): void;
  /** It is gone, and so are the window and everything else that was made on it. */
  disconnected(): void;
}

/** Version of wl_surface with set_buffer_transform. */
const BUFFER_TRANSFORM_SINCE = 2;

/**
 * A window of a compositor. It outlives the compositor: without one, frames end by a timer, and
 * the newest of them is shown by the next compositor.
 */
export class WaylandOutput implements Output {
  readonly name: string;
  readonly readsPages = false;
  readonly maxCursor = MAX_CURSOR;
  readonly #options: WaylandOutputOptions;
  readonly #logOnce: LogOnce;
  readonly #imports = new DmabufImports((framebuffer) => this.#importFailed(framebuffer));
  readonly #pools = new ShmPools();
  readonly #pacer = new FramePacer({
    shown: (presentation) => this.#frameShown(presentation),
    woken: () => this.#commit(null),
  });
  readonly #cursor = new GuestCursor();
  #listener: ScreenListener | null = null;
  #compositor: Compositor | null = null;
  #window: Window | null = null;
  readonly #memory: WindowMemory;
  #monitor: Monitor;
  #shadowFormats: readonly Fourcc[] = [];
  #isClosed = false;

  /** What the window shows, or will as soon as it can if `#isDue`. */
  #picture: SurfaceBuffer | null = null;
  #isDue = false;
  /** The same while this output locks it: from `present` until its commit, and as long as it is kept. */
  #locked: SurfaceBuffer | null = null;
  /** Its listener has gone and left it, until the next one presents. */
  #isKept = false;
  readonly #source = new MutableRect();
  readonly #canvas = { width: DEFAULT_SIZE.width, height: DEFAULT_SIZE.height };
  readonly #damage = new Damage();
  /** The picture cannot be committed before its fence has signalled. */
  readonly #unfinished = new FenceWait(() => this.#commit(null));
  #isPresenting = false;
  /** Unlocked by `present`: its listener is told at the end of the frame. */
  readonly #unused = new Bag<SurfaceBuffer>();
  readonly #onUnlocked = (buffer: SurfaceBuffer): void => {
    if (this.#isPresenting) this.#unused.add(buffer);
    else this.#listener?.released(buffer);
  };

  private constructor(compositor: Compositor, options: WaylandOutputOptions) {
    this.name = `wayland:${options.scanout}`;
    this.#options = options;
    const { activationToken, fullscreen: isFullscreen } = options;
    this.#memory = { activationToken, isFullscreen, isMaximized: false, floatingSize: null };
    this.#logOnce = logOnce(options.log);
    this.#pacer.refreshMhz = compositor.monitors.first?.refreshMhz ?? 0;
    this.#monitor = virtualMonitor(this.name, DEFAULT_SIZE.width, DEFAULT_SIZE.height, this.#pacer.refreshMhz);
  }

  /** The output and how to tell it what comes after `compositor`, which is connected already. */
  static create(
    compositor: Compositor,
    options: WaylandOutputOptions,
  ): { output: WaylandOutput; listener: CompositorListener } {
    const output = new WaylandOutput(compositor, options);
    output.#connected(compositor);
    const listener = {
      connected: (next: Compositor) => output.#connected(next),
      disconnected: () => output.#disconnected(),
    };
    return { output, listener };
  }

  get monitor(): Monitor {
    return this.#monitor;
  }

  get imports(): FormatSet {
    return this.#imports.formats;
  }

  /**
   * Fences go in but none come back (`Frame.release`): a compositor makes the fence of a release
   * point when it is done with the buffer, and a sync_file would be needed before that.
   */
  get takesFences(): boolean {
    return this.#window?.picture.takesFences ?? false;
  }

  get shadowFormats(): readonly Fourcc[] {
    return this.#shadowFormats;
  }

  /**
   * Its window is open: a compositor is connected, the user has not closed it, and an optional
   * window has a picture.
   */
  get isOpen(): boolean {
    return this.#window !== null;
  }

  /** The compositor draws the window no more, as when it is minimised. */
  get mirrors(): boolean {
    return (this.#compositor?.surfaces.version ?? 0) >= BUFFER_TRANSFORM_SINCE;
  }

  get isHidden(): boolean {
    return this.#pacer.isAsleep;
  }

  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#isClosed) throw new Error(`${this.name}: its window was closed`);
    if (this.#listener) throw new Error(`${this.name} is taken: detach its listener first`);
    this.#listener = listener;
    this.#attachInput();
    let isAttached = true;
    return {
      [Symbol.dispose]: () => {
        if (isAttached) this.#detach(keepLast);
        isAttached = false;
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    return DmabufBuffer.import(this.name, this.#imports, framebuffer, this.#onUnlocked);
  }

  /** Throws SysError ENOMEM, ENOSPC, EMFILE; RangeError if it is larger than wl_shm can describe. */
  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return ShmBuffer.create(this.#pools, width, height, format, this.#onUnlocked);
  }

  present(frame: Frame): void {
    if (this.#isClosed) return;
    if (!this.#listener) throw new Error(`${this.name}: present while nothing is attached`);
    if (this.#pacer.isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#isPresenting = true;
    try {
      this.#pacer.begin();
      this.#isKept = false;
      this.#cursor.show(frame);
      const picture = usableBuffer(frame.primary.handle);
      if (picture === this.#picture && frame.damage.isEmpty && !this.#isDue) this.#presentSame();
      else this.#presentPicture(frame, picture);
    } finally {
      this.#isPresenting = false;
    }
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#listener = null;
    this.#disconnected();
    this.#pacer[Symbol.dispose]();
    this.#unfinished[Symbol.dispose]();
    this.#cursor[Symbol.dispose]();
    this.#lock(null);
  }

  #connected(compositor: Compositor): void {
    this.#compositor = compositor;
    this.#shadowFormats = compositor.shadowFormats;
    this.#imports.reset(compositor.dmabufFormats);
    this.#isDue = true;
    this.#openOrClose();
    this.#listener?.importsChanged();
  }

  #disconnected(): void {
    this.#compositor = null;
    this.#closeWindow();
  }

  #detach(keepLast: boolean): void {
    this.#listener = null;
    this.#window?.detachInput();
    this.#cursor.reset();
    this.#pacer.abandon();
    for (let buffer = this.#unused.pop(); buffer;) buffer = this.#unused.pop();
    if (keepLast) {
      this.#isKept = true;
      this.#lock(this.#picture);
      return;
    }
    this.#isKept = false;
    this.#unfinished.stop();
    this.#lock(null);
    this.#picture = null;
    this.#isDue = true;
    if (this.#options.isOptional) this.#openOrClose();
    this.#commit(null);
  }

  /** Nothing to commit: the frame ends at the next refresh. */
  #presentSame(): void {
    this.#lock(null);
    this.#pacer.timed(0);
  }

  #presentPicture(frame: Frame, picture: SurfaceBuffer | null): void {
    // A fence comes once with a picture that may be presented again before it has signalled.
    if (frame.acquire || picture !== this.#picture) this.#unfinished.stop();
    this.#lock(picture);
    this.#picture = picture;
    this.#source.copy(frame.primary.src);
    if (picture) {
      this.#canvas.width = frame.canvas.width;
      this.#canvas.height = frame.canvas.height;
    }
    if (!this.#isDue) this.#damage.clear();
    this.#damage.addAll(frame.damage);
    this.#isDue = true;
    if (this.#options.isOptional) this.#openOrClose();
    this.#commit(frame.acquire);
  }

  /** Locks this picture, whose memory must be there, instead of the one before; null: none. */
  #lock(picture: SurfaceBuffer | null): void {
    const before = this.#locked;
    this.#locked = picture?.isGone ? null : picture;
    this.#locked?.lock();
    before?.unlock();
  }

  /**
   * Shows the picture if everything for it is there; otherwise what is missing calls it again.
   * `acquire` stays the caller's.
   */
  #commit(acquire: BorrowedFd | null): void {
    const compositor = this.#compositor;
    const window = this.#window;
    const picture = this.#picture;
    if (!this.#isDue) return;
    if (!compositor || !window || picture?.isGone) {
      if (this.#pacer.isInFlight) this.#pacer.timed(PresentedFlags.HIDDEN);
      return;
    }
    if (picture && this.#pacer.isAsleep) {
      // It stays due until the window is visible again.
      if (this.#pacer.isInFlight) this.#pacer.timed(PresentedFlags.HIDDEN);
      return;
    }
    if (!window.isConfigured || this.#unfinished.isWaiting || !window.picture.attach(picture, this.#damage, acquire)) {
      if (acquire && !this.#waitFor(acquire)) this.#commit(null);
      else if (this.#pacer.isInFlight) this.#pacer.wait();
      return;
    }
    this.#isDue = false;
    // The surface locks it now. One that is kept is to be shown by the next compositor too, released or not.
    if (!this.#isKept) this.#lock(null);
    if (picture) {
      window.setCanvas(this.#canvas.width, this.#canvas.height);
      window.setSource(this.#source);
      if (this.#pacer.isInFlight) this.#pacer.commit(compositor, window.picture.wl);
    } else if (this.#pacer.isInFlight) {
      this.#pacer.timed(0);
    }
    window.setOff(picture === null);
    window.commitPicture();
  }

  /**
   * Commits when `fence` has signalled. False if that is impossible, as without a free descriptor: the
   * picture is then committed as it is, because a frame that never ends would stop the guest.
   */
  #waitFor(fence: BorrowedFd): boolean {
    try {
      this.#unfinished.start(fence);
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      const message = `${this.name}: showing pictures without waiting for their fences: ${error.message}`;
      this.#logOnce('warn', message, 'fence');
      return false;
    }
  }

  #frameShown(presentation: Presentation): void {
    const listener = this.#listener;
    const isHidden = (presentation.flags & PresentedFlags.HIDDEN) !== 0;
    // What is not visible cannot tear, and a guest must not wait for a compositor that does not
    // draw, or does not answer.
    if (isHidden && this.#isDue) this.#window?.picture.hiddenWhileWaiting();
    else if (isHidden) this.#window?.picture.hidden();
    // Each call may detach the listener.
    while (listener && listener === this.#listener) {
      const buffer = this.#unused.pop();
      if (!buffer) break;
      if (!buffer.isHeld) listener.released(buffer);
    }
    if (listener === this.#listener) listener?.presented(presentation);
  }

  #openOrClose(): void {
    const isWanted = !this.#isClosed && (!this.#options.isOptional || this.#picture !== null);
    if (!isWanted) this.#closeWindow();
    if (!isWanted || !this.#compositor || this.#window) return;
    this.#window = new Window(this.#compositor, this.#canvas, this.#options, this.#memory, this.#windowListener);
    this.#attachInput();
  }

  #attachInput(): void {
    if (!this.#compositor || !this.#window || !this.#listener) return;
    this.#window.attachInput(this.#listener);
    this.#cursor.attach(this.#compositor, this.#window);
  }

  #closeWindow(): void {
    const window = this.#window;
    window?.detachInput();
    this.#cursor.detach();
    this.#window = null;
    this.#isDue = true;
    this.#pacer.reset();
    window?.[Symbol.dispose]();
  }

  readonly #windowListener: WindowListener = {
    configured: () => this.#commit(null),
    bufferReady: () => this.#commit(null),
    resized: ({ width, height }) => {
      if (width === this.#monitor.width && height === this.#monitor.height) return;
      this.#monitor = virtualMonitor(this.name, width, height, this.#pacer.refreshMhz);
      this.#listener?.resized(this.#monitor);
    },
    suspended: (isSuspended) => this.#pacer.suspend(isSuspended),
    refreshChanged: (refreshMhz) => (this.#pacer.refreshMhz = refreshMhz),
    placed: () => this.#cursor.placed(),
    formatsChanged: (tranches) => {
      if (this.#imports.offer(tranches)) this.#listener?.importsChanged();
    },
    closed: () => {
      this.#isClosed = true;
      this.#disconnected();
      // Nothing may follow `closed`, not even the end of the frame in flight.
      this.#pacer.abandon();
      const listener = this.#listener;
      this.#listener = null;
      listener?.closed('its window was closed', true);
      this.#options.onClosed();
    },
  };

  #importFailed({ format, width, height, planes }: Framebuffer): void {
    const what = `${width}x${height} ${formatName(format)} with rows of ${planes[0]?.stride} bytes`;
    this.#logOnce('info', `${this.name}: the compositor failed to import ${what}: copying instead`, 'import failed');
    // The buffer that the frame in flight waits for will not come.
    if (this.#isDue && this.#pacer.isInFlight) this.#pacer.timed(PresentedFlags.HIDDEN);
    this.#listener?.importsChanged();
  }
}
