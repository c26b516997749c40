import { DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { VHOST_USER_GPU_CURSOR_SIZE } from '../../protocols/vhost-user-gpu.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import { type Monitor, sameMonitor } from '../../src/core/monitor.ts';
import { type DmabufImportRefused, type Frame, type Handle, type Output, type OutputListener, PresentedFlags, type Shadow } from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { VblankClock, VblankTimer } from '../../src/core/vblank.ts';
import { DmabufHandle, FORMATS, PagesHandle, type Readable, readable, VmmShadow } from './handles.ts';
import { VmmCursor } from './cursor.ts';
import { DEFAULT_MONITOR } from './monitor.ts';
import { type DmabufMode, VmmPicture } from './picture.ts';
import type { VmmSocket } from './socket.ts';

const MAX_CURSOR: Size = { width: VHOST_USER_GPU_CURSOR_SIZE, height: VHOST_USER_GPU_CURSOR_SIZE };
const LINEAR = new FormatSet(FORMATS.map((format) => [format, DRM_FORMAT_MOD_LINEAR] as const));
const NONE = new FormatSet();

/**
 * One console of the VMM. A frame is shown when the kernel has taken all its bytes (a dma-buf: when
 * the VMM has answered), at the next beat of the monitor's refresh: the VMM tells of no vertical
 * blank. A VMM that stops reading is waited for, with one frame at most in memory.
 *
 * Made and told of the socket's events by VmmDisplay.
 */
export class VmmOutput implements Output {
  readonly name: string;
  readonly imports: FormatSet;
  readonly readsPages: boolean;
  readonly takesFences = false;
  readonly shadowFormats = FORMATS;
  readonly maxCursor = MAX_CURSOR;
  readonly #socket: VmmSocket;
  readonly #picture: VmmPicture;
  readonly #cursor: VmmCursor;
  readonly #timer = new VblankTimer(() => this.#beat());
  #listener: OutputListener | null = null;
  #monitor: Monitor;
  #isPlugged: boolean;
  #clock: VblankClock;
  #isInFlight = false;
  #isDue = false;
  /** `sentBytes` at which the frame in flight is out. */
  #endOfFrame = 0;
  /** Copied out of by the frame in flight, `released` when it is shown. */
  #readPrimary: Readable | null = null;
  #readCursor: Readable | null = null;
  #closedReason: string | null = null;
  #disposed = false;

  constructor(socket: VmmSocket, id: number, monitor: Monitor | null, dmabufMode: DmabufMode) {
    this.name = `vmm:${id}`;
    this.imports = dmabufMode === 'off' ? NONE : LINEAR;
    // Pages read here would keep the bridge from making dma-bufs of them.
    this.readsPages = dmabufMode === 'off';
    this.#socket = socket;
    this.#picture = new VmmPicture(socket, id, dmabufMode, () => this.#finish());
    this.#cursor = new VmmCursor(socket, id);
    this.#monitor = monitor ?? DEFAULT_MONITOR;
    this.#isPlugged = monitor !== null;
    this.#clock = new VblankClock(this.#monitor.refreshMhz);
  }

  get monitor(): Monitor | null {
    return this.#isPlugged ? this.#monitor : null;
  }

  /** A console that is unplugged or gone already is reported right after this call. */
  attach(listener: OutputListener): Disposable {
    if (this.#listener) throw new Error(`${this.name} is taken: detach its listener first`);
    this.#listener = listener;
    queueMicrotask(() => {
      if (this.#closedReason !== null) this.#listener?.closed(this.#closedReason);
      else if (!this.#isPlugged) this.#listener?.resized(null);
    });
    return {
      [Symbol.dispose]: () => {
        if (this.#listener === listener) this.#listener = null;
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing } = framebuffer;
    return backing.kind === 'pages' ? PagesHandle.import(framebuffer, backing) : DmabufHandle.import(framebuffer, backing.dmabuf);
  }

  /** Throws SysError ENOMEM; VmmDisplayError `size` beyond 32767 pixels a side or 128 MiB. */
  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return new VmmShadow(width, height, format);
  }

  present(frame: Frame): void {
    if (this.#disposed) throw new Error(`${this.name}: present after dispose`);
    if (this.#isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    // Whoever has not heard of it yet hears `closed` next.
    if (this.#socket.error) return;
    this.#isInFlight = true;
    this.#isDue = false;
    this.#picture.show(frame);
    this.#readPrimary = hold(readable(frame.primary.handle));
    this.#presentCursor(frame);
    this.#endOfFrame = this.#socket.acceptedBytes;
    this.#timer.set(this.#clock);
  }

  /** Turns the console off. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#cursor.hide();
    this.#picture.hide();
    this.#end();
  }

  /** The socket took bytes. */
  progressed(): void {
    this.#finish();
  }

  /** The VMM's wishes, asked again. */
  setMonitor(monitor: Monitor | null): void {
    const isSame = monitor ? this.#isPlugged && sameMonitor(monitor, this.#monitor) : !this.#isPlugged;
    if (isSame || this.#disposed) return;
    this.#isPlugged = monitor !== null;
    if (monitor) {
      this.#monitor = monitor;
      this.#clock = new VblankClock(monitor.refreshMhz);
    }
    this.#listener?.resized(monitor);
  }

  /** The socket is gone. */
  close(reason: string): void {
    if (this.#disposed) return;
    const listener = this.#listener;
    this.#closedReason = reason;
    this.#end();
    listener?.closed(reason);
  }

  #end(): void {
    this.#disposed = this.#closedReason === null;
    this.#timer[Symbol.dispose]();
    this.#isInFlight = false;
    this.#cursor[Symbol.dispose]();
  }

  #presentCursor(frame: Frame): void {
    const { handle, src, dst } = frame.cursor;
    this.#readCursor = hold(readable(handle));
    if (this.#readCursor) this.#cursor.show(this.#readCursor, src, dst.x, dst.y, frame.hotspotX, frame.hotspotY);
    else this.#cursor.hide();
  }

  #beat(): void {
    this.#isDue = true;
    this.#finish();
  }

  #finish(): void {
    if (!this.#isInFlight || !this.#isDue || this.#picture.awaitsReply || this.#socket.sentBytes < this.#endOfFrame) return;
    this.#isInFlight = false;
    const now = monotonicMs();
    const primary = this.#readPrimary;
    const cursor = this.#readCursor;
    const replaced = this.#picture.takeReplaced();
    this.#readPrimary = null;
    this.#readCursor = null;
    if (primary) primary.isHeld = false;
    if (cursor) cursor.isHeld = false;
    if (replaced) replaced.isHeld = false;
    // Each call may dispose us.
    if (primary) this.#listener?.released(primary);
    if (cursor) this.#listener?.released(cursor);
    if (replaced) this.#listener?.released(replaced);
    this.#listener?.presented(now, this.#monitor.refreshMhz, this.#clock.sequenceAt(now), this.#picture.isZeroCopy ? PresentedFlags.ZERO_COPY : 0);
  }
}

function hold(buffer: Readable | null): Readable | null {
  if (buffer) buffer.isHeld = true;
  return buffer;
}
