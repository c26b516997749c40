import { type Fourcc, formatName } from '../../protocols/drm-fourcc.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { Bag } from '../../src/core/bag.ts';
import { Damage } from '../../src/core/damage.ts';
import type { FormatSet, Framebuffer } from '../../src/core/framebuffer.ts';
import { MutableRect, type Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import { type Monitor, virtualMonitor } from '../../src/core/monitor.ts';
import { type DmabufImportRefused, type Frame, type Handle, type Output, PresentedFlags, type ScreenListener, type Shadow } from '../../src/core/output.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { type SurfaceBuffer, usableBuffer } from './buffer.ts';
import type { Compositor } from './compositor.ts';
import { DmabufBuffer, type DmabufOwner } from './dmabuf-buffer.ts';
import type { FormatPair } from './dmabuf-formats.ts';
import { DmabufImports } from './dmabuf-imports.ts';
import { FramePacer } from './frame-pacer.ts';
import { GuestCursor } from './guest-cursor.ts';
import { HeldBuffers } from './held-buffers.ts';
import { ShmBuffer } from './shm-buffer.ts';
import { ShmPools } from './shm-pool.ts';
import { damageSurface } from './surface-damage.ts';
import { SurfaceSync } from './surface-sync.ts';
import { Window, type WindowOptions, type WindowOwner } from './window.ts';
import { WindowInput } from './window-input.ts';

const MAX_CURSOR: Size = { width: 256, height: 256 };
const DEFAULT_SIZE: Size = { width: 1280, height: 800 };

export interface WaylandOutputOptions extends WindowOptions {
  readonly scanout: number;
  /** Its window is open only while the guest shows something. */
  readonly isOptional: boolean;
  readonly log: Log;
  /** The user has closed the window; the output's listener has heard of it. */
  readonly onClosed: (output: WaylandOutput) => void;
}

/**
 * A window of a compositor. It outlives the compositor: without one, frames end by a timer, and
 * what was shown last is shown by the next one.
 */
export class WaylandOutput implements Output, DmabufOwner, WindowOwner {
  readonly name: string;
  readonly readsPages = false;
  readonly maxCursor = MAX_CURSOR;
  readonly dmabufs = new DmabufImports();
  readonly #options: WaylandOutputOptions;
  readonly #pacer = new FramePacer((timeMs, refreshMhz, sequence, flags) => this.#frameShown(timeMs, refreshMhz, sequence, flags));
  #listener: ScreenListener | null = null;
  #compositor: Compositor | null = null;
  #window: Window | null = null;
  #input: WindowInput | null = null;
  /** Of the window's picture, where the compositor has explicit synchronisation. */
  #sync: SurfaceSync | null = null;
  #monitor: Monitor;
  #shadowFormats: readonly Fourcc[] = [];
  readonly #pools = new ShmPools();

  /** The newest frame, committed unless `#isDue`. */
  #picture: SurfaceBuffer | null = null;
  readonly #source = new MutableRect();
  readonly #canvas = { width: DEFAULT_SIZE.width, height: DEFAULT_SIZE.height };
  readonly #damage = new Damage();
  #isDue = false;
  /** It cannot be committed before its fence has signalled. */
  readonly #unfinished = new FenceWait(() => this.#commit(null));
  readonly #held = new HeldBuffers((buffer) => this.#cameBack(buffer));
  /** The compositor will not read them: told at the end of the frame in flight. */
  readonly #unused = new Bag<SurfaceBuffer>();
  readonly #cursor = new GuestCursor((buffer) => this.#cameBack(buffer));
  #isClosed = false;

  constructor(compositor: Compositor, options: WaylandOutputOptions) {
    this.name = `wayland:${options.scanout}`;
    this.#options = options;
    this.#pacer.refreshMhz = compositor.monitors.first?.refreshMhz ?? 0;
    this.#monitor = virtualMonitor(this.name, DEFAULT_SIZE.width, DEFAULT_SIZE.height, this.#pacer.refreshMhz);
    this.connected(compositor);
  }

  get monitor(): Monitor {
    return this.#monitor;
  }

  get imports(): FormatSet {
    return this.dmabufs.formats;
  }

  /**
   * Not so with fences to give back: the compositor makes that of a release point when it is done
   * with the buffer, and a sync_file needs one before.
   */
  get takesFences(): boolean {
    return this.#sync?.isOn ?? false;
  }

  get shadowFormats(): readonly Fourcc[] {
    return this.#shadowFormats;
  }

  /** Null while there is none. */
  get window(): Window | null {
    return this.#window;
  }

  attach(listener: ScreenListener): Disposable {
    if (this.#listener) throw new Error(`${this.name} is taken: detach its listener first`);
    this.#listener = listener;
    this.#attachInput();
    return {
      [Symbol.dispose]: () => {
        if (this.#listener === listener) this.#listener = null;
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    return DmabufBuffer.import(this, framebuffer);
  }

  /** Throws SysError ENOMEM, ENOSPC, EMFILE; RangeError for what no compositor takes. */
  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return ShmBuffer.create(this, this.#pools, width, height, format);
  }

  present(frame: Frame): void {
    if (this.#isClosed) return;
    if (this.#pacer.isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#pacer.begin();
    this.#cursor.show(frame);
    const picture = usableBuffer(frame.primary.handle);
    if (picture === this.#picture && frame.damage.isEmpty && !this.#isDue) {
      this.#pacer.timed(0);
      return;
    }
    // A fence comes once with a picture that may be presented again before it has signalled.
    if (frame.acquire || picture !== this.#picture) this.#unfinished.stop();
    this.#setPicture(picture);
    this.#source.copy(frame.primary.src);
    if (picture) Object.assign(this.#canvas, frame.canvas);
    if (!this.#isDue) this.#damage.clear();
    this.#damage.addAll(frame.damage);
    this.#isDue = true;
    if (this.#options.isOptional) this.#openOrClose();
    this.#commit(frame.acquire);
  }

  /** A compositor is there, the first or the next. */
  connected(compositor: Compositor): void {
    this.#compositor = compositor;
    this.#shadowFormats = compositor.shadowFormats;
    this.dmabufs.reset(compositor.dmabufFormats);
    this.#isDue = true;
    this.#openOrClose();
    this.#listener?.importsChanged();
  }

  /** The compositor is gone, or the window is. */
  disconnected(): void {
    this.#compositor = null;
    this.#closeWindow();
  }

  holds(buffer: SurfaceBuffer): boolean {
    return buffer === this.#picture || this.#unused.has(buffer) || this.#cursor.holds(buffer);
  }

  bufferReleased(buffer: SurfaceBuffer): void {
    this.#held.released(buffer);
    if (!this.#cursor.released(buffer)) this.#listener?.released(buffer);
  }

  bufferReady(buffer: SurfaceBuffer): void {
    if (buffer === this.#picture) this.#commit(null);
    this.#cursor.ready(buffer);
  }

  importFailed(name: FormatPair): void {
    this.dmabufs.refuse(name);
    this.#options.log('info', `${this.name}: the compositor cannot import ${formatName(name[0])} after all`);
    this.#listener?.importsChanged();
    // Whatever waited for it will not come.
    if (this.#isDue && this.#pacer.isInFlight) this.#pacer.timed(PresentedFlags.HIDDEN);
  }

  windowConfigured(): void {
    this.#commit(null);
  }

  windowResized({ width, height }: Size): void {
    if (width === this.#monitor.width && height === this.#monitor.height) return;
    this.#monitor = virtualMonitor(this.name, width, height, this.#pacer.refreshMhz);
    this.#listener?.resized(this.#monitor);
  }

  windowMonitorChanged(refreshMhz: number): void {
    this.#pacer.refreshMhz = refreshMhz;
  }

  windowPlaced(): void {
    this.#cursor.placed();
  }

  windowFormatsChanged(tranches: readonly FormatSet[]): void {
    if (this.dmabufs.offer(tranches)) this.#listener?.importsChanged();
  }

  windowClosed(): void {
    this.#isClosed = true;
    this.disconnected();
    this.#listener?.closed('its window was closed');
    this.#options.onClosed(this);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#listener = null;
    this.disconnected();
    this.#pacer[Symbol.dispose]();
    this.#unfinished[Symbol.dispose]();
    this.#held[Symbol.dispose]();
    this.#cursor[Symbol.dispose]();
  }

  #openOrClose(): void {
    const isWanted = !this.#isClosed && (!this.#options.isOptional || this.#picture !== null);
    if (!isWanted) this.#closeWindow();
    if (!isWanted || !this.#compositor || this.#window) return;
    this.#window = new Window(this.#compositor, this.#canvas, this.#options, this);
    this.#sync = this.#compositor.sync && new SurfaceSync(this.#compositor.sync, this.#window.picture);
    this.#attachInput();
  }

  #attachInput(): void {
    if (!this.#compositor || !this.#window || !this.#listener) return;
    this.#input = new WindowInput(this.#compositor.seats, this.#window, this.#options.title, this.#listener);
    this.#cursor.attach(this.#compositor, this.#window);
  }

  #closeWindow(): void {
    this.#cursor.detach();
    this.#input?.[Symbol.dispose]();
    this.#input = null;
    this.#sync?.[Symbol.dispose]();
    this.#sync = null;
    this.#window?.[Symbol.dispose]();
    this.#window = null;
    this.#isDue = true;
    this.#pacer.reset();
    this.#held.takeBackAll();
  }

  #setPicture(picture: SurfaceBuffer | null): void {
    const before = this.#picture;
    if (picture === before) return;
    this.#picture = picture;
    if (before && this.#isDue && !before.isBusy) this.#unused.add(before);
  }

  /** Shows the newest frame, if everything for it is there; else whatever is missing calls again. `acquire` stays the caller's. */
  #commit(acquire: BorrowedFd | null): void {
    const compositor = this.#compositor;
    const window = this.#window;
    const picture = this.#picture;
    if (!this.#isDue) return;
    if (!compositor || !window || (picture?.isDisposed && !picture.isBusy)) {
      if (this.#pacer.isInFlight) this.#pacer.timed(PresentedFlags.HIDDEN);
      return;
    }
    const wlBuffer = window.isConfigured ? (picture?.wlBuffer(compositor, true) ?? null) : null;
    const isThere = window.isConfigured && (!picture || wlBuffer !== null) && !this.#unfinished.isWaiting;
    const hasPoint = isThere && (this.#sync?.attach(picture, acquire) ?? false);
    if (!isThere || (acquire && !hasPoint)) {
      if (acquire) this.#unfinished.start(acquire);
      this.#pacer.wait();
      return;
    }
    this.#isDue = false;
    window.picture.attach(wlBuffer, 0, 0);
    if (picture) {
      window.setCanvas(this.#canvas.width, this.#canvas.height);
      window.setSource(this.#source);
      // A surface without a picture has seen nothing yet.
      damageSurface(window.picture, this.#held.shown ? this.#damage : null);
      if (this.#pacer.isInFlight) this.#pacer.commit(compositor, window.picture);
    } else if (this.#pacer.isInFlight) {
      this.#pacer.timed(0);
    }
    this.#held.committed(picture, hasPoint);
    window.commitPicture();
  }

  #frameShown(timeMs: number, refreshMhz: number, sequence: number, flags: number): void {
    // What nobody sees cannot be torn, and a guest must not wait for a compositor that does not look, or answer.
    if (flags & PresentedFlags.HIDDEN && this.#isDue) this.#held.takeBackAll();
    else if (flags & PresentedFlags.HIDDEN) this.#held.hidden();
    for (let buffer = this.#unused.pop(); buffer; buffer = this.#unused.pop()) this.#listener?.released(buffer);
    this.#listener?.presented(timeMs, refreshMhz, sequence, flags);
  }

  /** Whoever presents is told afterwards. */
  #cameBack(buffer: SurfaceBuffer): void {
    if (this.#pacer.isInFlight) this.#unused.add(buffer);
    else this.#listener?.released(buffer);
  }
}
