import type { Memory, ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { VHOST_USER_GPU_CURSOR_SIZE } from '../../protocols/vhost-user-gpu.ts';
import { Damage } from '../../src/core/damage.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import { MutableRect, type Rect, type Size } from '../../src/core/geometry.ts';
import { type Monitor, sameMonitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  MutablePresentation,
  type Output,
  PresentedFlags,
  type ScreenListener,
  type Shadow,
} from '../../src/core/output.ts';
import { BlankPhase, VblankClock, VblankTimer } from '../../src/core/vblank.ts';
import { SysError } from '../../src/sys/errors.ts';
import { Pump } from '../../src/sys/pump.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { copyRect } from '../../src/sys/copy-rect.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { BYTES_PER_PIXEL, DmabufHandle, FORMATS, PagesHandle, type Readable, readable, VmmShadow } from './handles.ts';
import {
  cursorHide,
  cursorPos,
  cursorUpdate,
  dmabufScanout,
  dmabufScanoutOff,
  dmabufUpdate,
  scanout,
  update,
} from './messages.ts';
import { DEFAULT_MONITOR } from './monitor.ts';
import type { VmmSocket } from './socket.ts';

const MAX_CURSOR: Size = { width: VHOST_USER_GPU_CURSOR_SIZE, height: VHOST_USER_GPU_CURSOR_SIZE };
const LINEAR = new FormatSet(FORMATS.map((format) => [format, DRM_FORMAT_MOD_LINEAR] as const));
const NONE = new FormatSet();

/**
 * One console of the VMM. A frame is shown when the kernel has taken all its bytes (a dma-buf: when the VMM has
 * answered), at the next vertical blank of a clock with the monitor's refresh, because the VMM reports none. Pixels are
 * read when the socket has room for them, all consoles' together at most a band of 32 MiB, so a VMM that stops reading
 * costs no more than that.
 *
 * VmmDisplay makes it and forwards the socket's events to it.
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
  readonly #timer = new VblankTimer(() => this.#onBlank());
  readonly #sending = new Pump(() => this.#send(), { isOnFlipPath: true });
  #attachment: Attachment | null = null;
  /** Whose `presented` is due. */
  #owed: Attachment | null = null;
  #monitor: Monitor;
  #isPlugged: boolean;
  readonly #phase = new BlankPhase();
  #clock: VblankClock;
  /** Something was sent that the VMM has not shown yet. */
  readonly #presentation = new MutablePresentation();
  #isInFlight = false;
  /** The vertical blank after it has passed. */
  #isDue = false;
  /** `sentBytes` at which all of it is out. */
  #endOfFrame = 0;
  /** What the frame in flight was copied from; released when it is shown. */
  #readPrimary: Readable | null = null;
  #readCursor: Readable | null = null;
  #closedReason: string | null = null;
  #isDisposed = false;

  constructor(socket: VmmSocket, id: number, monitor: Monitor | null, dmabufMode: DmabufMode) {
    this.name = `vmm:${id}`;
    this.imports = dmabufMode === 'off' ? NONE : LINEAR;
    // An output that reads pages gets no dma-bufs from the bridge.
    this.readsPages = dmabufMode === 'off';
    this.#socket = socket;
    this.#picture = new VmmPicture(socket, id, dmabufMode, () => this.#sending.start());
    this.#cursor = new VmmCursor(socket, id);
    this.#monitor = monitor ?? DEFAULT_MONITOR;
    this.#isPlugged = monitor !== null;
    this.#clock = new VblankClock(this.#monitor.refreshMhz, this.#phase.value);
  }

  get monitor(): Monitor | null {
    return this.#isPlugged ? this.#monitor : null;
  }

  /** If the console is unplugged or closed already, the listener is told right after this call. */
  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#isDisposed) throw new Error(`${this.name}: attach after dispose`);
    if (this.#attachment) throw new Error(`${this.name} is taken: detach its listener first`);
    const attachment = { listener };
    this.#attachment = attachment;
    queueMicrotask(() => {
      if (this.#attachment !== attachment) return;
      if (this.#closedReason !== null) listener.closed(this.#closedReason);
      else if (!this.#isPlugged) listener.resized(null);
    });
    return {
      [Symbol.dispose]: () => {
        if (this.#attachment === attachment) this.#detach(keepLast);
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing } = framebuffer;
    if (backing.kind === 'pages') return PagesHandle.import(framebuffer, backing);
    if (backing.kind === 'dmabuf') return DmabufHandle.import(framebuffer, backing.dmabuf);
    return new DmabufImportRefused('contiguity', 'a memory file that must not be mapped');
  }

  /** Throws SysError ENOMEM; VmmDisplayError `size` beyond 32767 pixels a side or 128 MiB. */
  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return new VmmShadow(width, height, format);
  }

  present(frame: Frame): void {
    const attachment = this.#attachment;
    if (!attachment)
      throw new Error(`${this.name}: present ${this.#isDisposed ? 'after dispose' : 'while nothing is attached'}`);
    if (this.#owed) throw new Error(`${this.name}: present while a frame is in flight`);
    // The listener is about to be told `closed`.
    if (this.#socket.error) return;
    this.#owed = attachment;
    this.#picture.show(frame, attachment);
    this.#readPrimary = hold(readable(frame.primary.handle), attachment);
    this.#presentCursor(frame, attachment);
    this.#settle();
    this.#sending.start();
  }

  /** Turns the console off. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#attachment = null;
    this.#cursor.hide();
    this.#picture.hide();
    this.#end();
  }

  /** The socket took bytes. */
  progressed(): void {
    this.#sending.start();
  }

  /** The VMM's monitor, asked for again. */
  setMonitor(monitor: Monitor | null): void {
    const isSame = monitor ? this.#isPlugged && sameMonitor(monitor, this.#monitor) : !this.#isPlugged;
    if (isSame || this.#isDisposed) return;
    this.#isPlugged = monitor !== null;
    if (monitor) {
      this.#monitor = monitor;
      this.#clock = new VblankClock(monitor.refreshMhz, this.#phase.value);
    }
    this.#attachment?.listener.resized(monitor);
  }

  /** The socket is gone. */
  close(reason: string): void {
    if (this.#isDisposed) return;
    this.#closedReason = reason;
    this.#end();
    this.#attachment?.listener.closed(reason);
  }

  #end(): void {
    this.#timer[Symbol.dispose]();
    this.#phase[Symbol.dispose]();
    this.#sending[Symbol.dispose]();
    this.#isInFlight = false;
    this.#owed = null;
    this.#releaseRead();
    this.#picture.releaseAll();
    this.#cursor[Symbol.dispose]();
  }

  /** Turns the console off and hides its cursor behind what was sent before, or with `keepLast` leaves it as it is. */
  #detach(keepLast: boolean): void {
    this.#attachment = null;
    this.#owed = null;
    this.#picture.abandon();
    this.#releaseRead();
    if (keepLast || this.#isDisposed || this.#socket.error) return;
    this.#cursor.hide();
    this.#picture.hide();
    this.#settle();
  }

  /** Waits until what was sent is shown; `#finish` follows. */
  #settle(): void {
    const isTimerSet = this.#isInFlight && !this.#isDue;
    this.#isInFlight = true;
    this.#isDue = false;
    this.#endOfFrame = this.#socket.acceptedBytes;
    if (!isTimerSet) this.#timer.set(this.#clock);
  }

  #presentCursor({ cursor: { handle, src, dst }, hotspotX, hotspotY }: Frame, attachment: Attachment): void {
    this.#readCursor = hold(readable(handle), attachment);
    if (this.#readCursor) this.#cursor.show(this.#readCursor, src, dst.x, dst.y, hotspotX, hotspotY);
    else this.#cursor.hide();
  }

  #onBlank(): void {
    this.#isDue = true;
    this.#sending.start();
  }

  /** Sends a piece of the frame, or ends it if all is out. False: it goes on when something happens. */
  #send(): boolean {
    if (!this.#picture.sendMore()) return this.#finish();
    this.#endOfFrame = this.#socket.acceptedBytes;
    return true;
  }

  /** False if the frame in flight has not ended. */
  #finish(): boolean {
    if (!this.#isInFlight || !this.#isDue || this.#picture.isUnsent || this.#picture.awaitsReply) return false;
    if (this.#socket.sentBytes < this.#endOfFrame) return false;
    this.#isInFlight = false;
    const now = monotonicMs();
    const owed = this.#owed;
    const primary = this.#readPrimary;
    const cursor = this.#readCursor;
    this.#owed = null;
    this.#releaseRead();
    const replaced = this.#picture.releaseReplaced(this.#attachment);
    // Each call may detach the listener, or dispose this output.
    if (primary && owed && owed === this.#attachment) owed.listener.released(primary);
    if (cursor && cursor !== primary && owed && owed === this.#attachment) owed.listener.released(cursor);
    if (replaced && owed && owed === this.#attachment) owed.listener.released(replaced);
    if (owed && owed === this.#attachment) {
      const flags =
        (this.#picture.isZeroCopy ? PresentedFlags.ZERO_COPY : 0) | (this.#isPlugged ? 0 : PresentedFlags.HIDDEN);
      const sequence = this.#clock.sequenceAt(now);
      owed.listener.presented(this.#presentation.set(now, this.#monitor.refreshMhz, sequence, flags));
    }
    return true;
  }

  #releaseRead(): void {
    if (this.#readPrimary) this.#readPrimary.holder = null;
    if (this.#readCursor) this.#readCursor.holder = null;
    this.#readPrimary = null;
    this.#readCursor = null;
  }
}

/** One attachment of a listener; a new object each time, so that an old one is recognized. */
interface Attachment {
  readonly listener: ScreenListener;
}

function hold(buffer: Readable | null, holder: Attachment): Readable | null {
  if (buffer) buffer.holder = holder;
  return buffer;
}

/** How dma-bufs are passed to the VMM: not at all, as DMABUF_SCANOUT, or as DMABUF_SCANOUT2 with the modifier. */
export type DmabufMode = 'off' | 'plain' | 'modifier';

/** The primary plane of one console: pixels that are sent, or a dma-buf that is passed. */
export class VmmPicture {
  readonly #socket: VmmSocket;
  readonly #id: number;
  readonly #dmabufMode: DmabufMode;
  readonly #onReply: () => void;
  readonly #damage = new Damage();
  /** The part of the buffer that was shown last. */
  readonly #bounds = new MutableRect();
  /** 0x0 while the console is off. */
  #width = 0;
  #height = 0;
  /** Null while pixels are shown. */
  #dmabuf: DmabufHandle | null = null;
  /** Replaced by what was sent since the last `releaseReplaced`. */
  readonly #replaced: DmabufHandle[] = [];
  /** Updates that the VMM has not answered. */
  #unanswered = 0;
  /** Whose pixels must be sent still: from row `#row` of rectangle `#next` of `#damage` on. */
  #unsent: Readable | null = null;
  #next = 0;
  #row = 0;

  constructor(socket: VmmSocket, id: number, dmabufMode: DmabufMode, onReply: () => void) {
    this.#socket = socket;
    this.#id = id;
    this.#dmabufMode = dmabufMode;
    this.#onReply = onReply;
  }

  /** The VMM has not said yet that it showed the dma-buf; `onReply` is called when it does. */
  get awaitsReply(): boolean {
    return this.#unanswered > 0;
  }

  get isZeroCopy(): boolean {
    return this.#dmabuf !== null;
  }

  /** Pixels of the frame are not sent yet. */
  get isUnsent(): boolean {
    return this.#unsent !== null;
  }

  /** Sends a band of the frame's pixels. False if all are sent, or the socket has no room. */
  sendMore(): boolean {
    const picture = this.#unsent;
    const area = this.#damage;
    if (!picture) return false;
    const pixels = this.#next === area.count ? null : pixelsOf(picture);
    if (!pixels) {
      this.#unsent = null;
      return false;
    }
    const rowBytes = area.width(this.#next) * BYTES_PER_PIXEL;
    const left = area.height(this.#next) - this.#row;
    const rows = Math.min(left, Math.floor(this.#socket.room(left * rowBytes) / rowBytes));
    if (rows === 0) return false;
    const x = area.x(this.#next);
    const y = area.y(this.#next) + this.#row;
    const header = update(this.#id, x - this.#bounds.x, y - this.#bounds.y, area.width(this.#next), rows);
    const offset = picture.offset + y * picture.stride + x * BYTES_PER_PIXEL;
    this.#socket.sendRows(header, pixels, offset, picture.stride, rowBytes, rows);
    this.#row += rows;
    if (rows === left) {
      this.#next++;
      this.#row = 0;
    }
    return true;
  }

  /** What is not sent yet is not sent any more. */
  abandon(): void {
    this.#unsent = null;
  }

  /**
   * The dma-bufs that were replaced are no longer held. Returns the one that `holder` presented, if any: its
   * frames are shown one by one.
   */
  releaseReplaced(holder: object | null): DmabufHandle | null {
    let own: DmabufHandle | null = null;
    for (let handle = this.#replaced.pop(); handle; handle = this.#replaced.pop()) {
      // It is shown again.
      if (handle === this.#dmabuf) continue;
      if (handle.holder === holder) own = handle;
      handle.holder = null;
    }
    return own;
  }

  /** Nothing is held any more, because nothing is shown. */
  releaseAll(): void {
    if (this.#dmabuf) this.#replaced.push(this.#dmabuf);
    this.#dmabuf = null;
    this.releaseReplaced(null);
  }

  /** A handle that was disposed counts as none. */
  show(frame: Frame, holder: object): void {
    const { handle, src } = frame.primary;
    const dmabuf = handle instanceof DmabufHandle && !handle.isDisposed ? handle : null;
    const pixels = readable(handle);
    const picture = dmabuf?.framebuffer ?? pixels;
    const width = picture ? Math.min(frame.canvas.width, src.width, picture.width - src.x) : 0;
    const height = picture ? Math.min(frame.canvas.height, src.height, picture.height - src.y) : 0;
    if (!picture || width <= 0 || height <= 0) {
      this.hide();
      return;
    }
    const isNew = width !== this.#width || height !== this.#height;
    if (pixels) {
      this.#showPixels(pixels, isNew, src, width, height, frame.damage);
    } else if (dmabuf) {
      dmabuf.holder = holder;
      this.#showDmabuf(dmabuf, isNew, src, width, height, frame.damage);
    }
  }

  hide(): void {
    this.#unsent = null;
    if (this.#width === 0) return;
    if (this.#dmabuf) this.#withdrawDmabuf(this.#dmabuf);
    this.#width = 0;
    this.#height = 0;
    this.#socket.send(scanout(this.#id, 0, 0));
  }

  #showPixels(picture: Readable, isNewSize: boolean, src: Rect, width: number, height: number, damage: Damage): void {
    const isNew = isNewSize || this.#dmabuf !== null;
    if (this.#dmabuf) this.#withdrawDmabuf(this.#dmabuf);
    // QEMU makes a surface for every SCANOUT and shows it at the UPDATE that must follow.
    if (isNew) this.#socket.send(scanout(this.#id, width, height));
    this.#width = width;
    this.#height = height;
    this.#clip(damage, isNew, src, width, height);
    this.#unsent = picture;
    this.#next = 0;
    this.#row = 0;
  }

  #showDmabuf(
    handle: DmabufHandle,
    isNewSize: boolean,
    src: Rect,
    width: number,
    height: number,
    damage: Damage,
  ): void {
    const isNew = isNewSize || handle !== this.#dmabuf || src.x !== this.#bounds.x || src.y !== this.#bounds.y;
    if (isNew) {
      const { framebuffer } = handle;
      const message = dmabufScanout(
        {
          scanout_id: this.#id,
          x: src.x,
          y: src.y,
          width,
          height,
          fd_width: framebuffer.width,
          fd_height: framebuffer.height,
          fd_stride: framebuffer.planes[0]!.stride,
          fd_flags: 0,
          fd_drm_fourcc: framebuffer.format,
        },
        this.#dmabufMode === 'modifier' ? framebuffer.modifier : null,
      );
      this.#socket.send(message, handle.fd);
    }
    if (this.#dmabuf && this.#dmabuf !== handle) this.#replaced.push(this.#dmabuf);
    this.#dmabuf = handle;
    this.#width = width;
    this.#height = height;
    const area = this.#clip(damage, isNew, src, width, height);
    if (area.isEmpty) return;
    let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
    for (let i = 0; i < area.count; i++) {
      left = Math.min(left, area.x(i));
      top = Math.min(top, area.y(i));
      right = Math.max(right, area.x(i) + area.width(i));
      bottom = Math.max(bottom, area.y(i) + area.height(i));
    }
    this.#unanswered++;
    this.#socket.request(dmabufUpdate(this.#id, left - src.x, top - src.y, right - left, bottom - top), () => {
      this.#unanswered--;
      this.#onReply();
    });
  }

  /** The part of `src` to send, in the buffer's pixels; one rectangle if that is not more bytes. */
  #clip(damage: Damage, isWhole: boolean, src: Rect, width: number, height: number): Damage {
    const area = this.#damage;
    const bounds = this.#bounds;
    bounds.set(src.x, src.y, width, height);
    area.clear();
    if (!isWhole) {
      area.addAll(damage);
      area.clip(bounds);
      if (area.area < width * height) return area;
      area.clear();
    }
    area.addRect(bounds);
    return area;
  }

  #withdrawDmabuf(handle: DmabufHandle): void {
    this.#socket.send(dmabufScanoutOff(this.#id));
    this.#replaced.push(handle);
    this.#dmabuf = null;
  }
}

/** Null if they are gone, as the memory of a guest that has ended. */
function pixelsOf(picture: Readable): Memory | ScatteredMemory | null {
  try {
    return picture.isDisposed ? null : picture.pixels;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return null;
  }
}

const SIDE = VHOST_USER_GPU_CURSOR_SIZE;
const STRIDE = SIDE * BYTES_PER_PIXEL;
const OPAQUE = 0xff00_0000;

/** The cursor of one console. Its image is sent only when its pixels or hotspot changed. */
export class VmmCursor implements Disposable {
  readonly #socket: VmmSocket;
  readonly #id: number;
  readonly #next = Mapping.anonymous(STRIDE * SIDE);
  readonly #sent = new Uint8Array(STRIDE * SIDE);
  #hasImage = false;
  #isShown = false;
  #x = 0;
  #y = 0;
  #hotX = 0;
  #hotY = 0;

  /** SysError ENOMEM. */
  constructor(socket: VmmSocket, id: number) {
    this.#socket = socket;
    this.#id = id;
  }

  /** Shows `src` of the picture at `x`, `y` of the scanout. The hotspot is inside the image. */
  show(picture: Readable, src: Rect, x: number, y: number, hotX: number, hotY: number): void {
    this.#read(picture, src);
    const next = this.#next.bytes;
    const isNew =
      !this.#hasImage || hotX !== this.#hotX || hotY !== this.#hotY || Buffer.compare(next, this.#sent) !== 0;
    const isMoved = !this.#isShown || x !== this.#x || y !== this.#y;
    this.#x = x;
    this.#y = y;
    this.#hotX = hotX;
    this.#hotY = hotY;
    this.#isShown = true;
    if (isNew) {
      this.#hasImage = true;
      this.#sent.set(next);
      this.#socket.send(cursorUpdate(this.#id, x, y, hotX, hotY, next));
    } else if (isMoved) {
      this.#socket.send(cursorPos(this.#id, x, y));
    }
  }

  hide(): void {
    if (!this.#isShown) return;
    this.#isShown = false;
    this.#socket.send(cursorHide(this.#id, this.#x, this.#y));
  }

  [Symbol.dispose](): void {
    this.#next[Symbol.dispose]();
  }

  #read(picture: Readable, src: Rect): void {
    const width = Math.min(src.width, SIDE, picture.width - src.x);
    const height = Math.min(src.height, SIDE, picture.height - src.y);
    const { bytes, view } = this.#next;
    if (width < SIDE || height < SIDE) bytes.fill(0);
    const offset = picture.offset + src.y * picture.stride + src.x * BYTES_PER_PIXEL;
    copyRect(this.#next, 0, STRIDE, picture.pixels, offset, picture.stride, width * BYTES_PER_PIXEL, height);
    if (picture.format !== DRM_FORMAT.XRGB8888) return;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = y * STRIDE + x * BYTES_PER_PIXEL;
        view.setUint32(at, view.getUint32(at, true) | OPAQUE, true);
      }
    }
  }
}
