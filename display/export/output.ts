import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import {
  EXPORT_EVENT,
  EXPORT_FRAME_ACQUIRE,
  EXPORT_FRAME_NEW_CURSOR,
  export_frame,
  export_layer,
} from '../../protocols/export.ts';
import { Damage } from '../../src/core/damage.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  MutablePresentation,
  type Output,
  type OutputListener,
  type PlaneState,
  PresentedFlags,
  type Shadow,
} from '../../src/core/output.ts';
import { BlankPhase, VblankClock, VblankTimer } from '../../src/core/vblank.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { SysError } from '../../src/sys/errors.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { FenceWait } from '../../src/sys/fence-wait.ts';
import { DmabufBuffer, type ExportBuffer, ShadowBuffer } from './buffers.ts';
import type { Consumer, Consumers, Loan, Stream } from './consumers.ts';
import { message, writeDamage } from './messages.ts';

/** Those of virtio-gpu: consumers get the guest's pixels as they are. */
const SHADOW_FORMATS: readonly Fourcc[] = [
  ...[DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888, DRM_FORMAT.XBGR8888, DRM_FORMAT.ABGR8888],
  ...[DRM_FORMAT.RGBX8888, DRM_FORMAT.RGBA8888, DRM_FORMAT.BGRX8888, DRM_FORMAT.BGRA8888],
];
const MAX_CURSOR: Size = { width: 512, height: 512 };
/** How many frames a consumer may have of one scanout: one that it reads, and the newest. */
const MAX_LOANS = 2;

/** Whether a consumer can use a dma-buf is its own business. */
class EveryFormat extends FormatSet {
  override get isEmpty(): boolean {
    return false;
  }

  override has(): boolean {
    return true;
  }
}

/** What a consumer has not been told of the newest frame, because it has MAX_LOANS already. */
class Backlog {
  readonly damage = new Damage();
  isCursorNew = true;
  isBehind = true;
}

/**
 * One scanout, for other processes. Each consumer is sent each frame, or the newest when it has released one; a buffer
 * that was replaced is held until all of them have released it, or their time is up.
 */
export class ExportOutput implements Output, Stream {
  readonly name: string;
  readonly monitor: Monitor;
  readonly imports = new EveryFormat();
  readonly readsPages = false;
  readonly takesFences = true;
  readonly shadowFormats = SHADOW_FORMATS;
  readonly maxCursor = MAX_CURSOR;
  readonly #consumers: Consumers;
  readonly #phase = new BlankPhase();
  readonly #clock: VblankClock;
  readonly #presentation = new MutablePresentation();
  readonly #timer = new VblankTimer(() => this.#vblank());
  readonly #backlogs = new Map<Consumer, Backlog>();
  readonly #message = message(EXPORT_EVENT.FRAME, new Uint8Array(export_frame.size));
  readonly #view = new DataView(this.#message.buffer);
  #serial = 0;
  #attachment: Attachment | null = null;
  /** On screen, and, while a frame is in flight, what it replaces. */
  #primary: ExportBuffer | null = null;
  #cursor: ExportBuffer | null = null;
  #oldPrimary: ExportBuffer | null = null;
  #oldCursor: ExportBuffer | null = null;
  #isInFlight = false;
  #isDue = false;
  #dueSequence = 0;
  /** Of the newest frame, until it has signalled. */
  #acquire: OwnedFd | null = null;
  readonly #unfinished = new FenceWait(() => {
    this.#dropFence();
    this.#complete();
  });
  #isDisposed = false;

  constructor(name: string, scanout: number, monitor: Monitor, consumers: Consumers) {
    this.name = name;
    this.monitor = monitor;
    this.#consumers = consumers;
    this.#clock = new VblankClock(monitor.refreshMhz, this.#phase.value);
    export_frame.field.scanout.set(this.#view, 0, scanout);
  }

  attach(listener: OutputListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#isDisposed) throw new Error(`${this.name}: attach after dispose`);
    if (this.#attachment) throw new Error(`${this.name} is taken: detach its listener first`);
    const attachment = { listener };
    this.#attachment = attachment;
    return {
      [Symbol.dispose]: () => {
        if (this.#attachment === attachment) this.#detach(keepLast);
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing } = framebuffer;
    if (backing.kind !== 'dmabuf')
      return new DmabufImportRefused('format', 'export: exports dma-bufs, not guest pages');
    return DmabufBuffer.import(this.#consumers.exports, framebuffer, backing.dmabuf);
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    if (!SHADOW_FORMATS.includes(format)) throw new TypeError('export: shadows have the formats of virtio-gpu');
    return ShadowBuffer.create(this.#consumers.exports, width, height, format);
  }

  present(frame: Frame): void {
    const attachment = this.#attachment;
    if (!attachment)
      throw new Error(`${this.name}: present ${this.#isDisposed ? 'after dispose' : 'while nothing is attached'}`);
    if (this.#isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    const primary = usable(frame.primary.handle);
    const cursor = usable(frame.cursor.handle);
    if (primary) primary.holder = attachment;
    if (cursor) cursor.holder = attachment;
    const { width, height } = frame.canvas;
    const view = this.#view;
    export_frame.field.width.set(view, 0, primary ? width : 0);
    export_frame.field.height.set(view, 0, primary ? height : 0);
    this.#writeLayer(export_frame.offset.primary, primary, frame.primary);
    this.#writeLayer(export_frame.offset.cursor, cursor, frame.cursor);
    export_frame.field.hotspot_x.set(view, 0, frame.hotspotX);
    export_frame.field.hotspot_y.set(view, 0, frame.hotspotY);
    this.#isInFlight = true;
    this.#isDue = false;
    this.#dropFence();
    if (frame.acquire) this.#waitFor(frame.acquire);
    this.#show(primary, cursor, frame.damage, frame.isCursorNew);
    this.#dueSequence = this.#timer.set(this.#clock);
  }

  joined(consumer: Consumer): void {
    const backlog = new Backlog();
    this.#backlogs.set(consumer, backlog);
    if (this.#serial === 0) return;
    backlog.damage.addRect(this.#wholePrimary());
    this.#offer(consumer, backlog);
  }

  left(consumer: Consumer): void {
    this.#backlogs.delete(consumer);
  }

  returned({ primary, cursor }: Loan): void {
    // Only this output lends its buffers.
    this.#notifyReleased(primary as ExportBuffer | null);
    if (cursor !== primary) this.#notifyReleased(cursor as ExportBuffer | null);
  }

  released(consumer: Consumer): void {
    const backlog = this.#backlogs.get(consumer);
    if (backlog?.isBehind && this.#serial > 0) this.#offer(consumer, backlog);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#attachment = null;
    this.#timer[Symbol.dispose]();
    this.#phase[Symbol.dispose]();
    this.#isInFlight = false;
    this.#releaseOld();
    this.#primary?.release();
    this.#cursor?.release();
    this.#primary = null;
    this.#cursor = null;
    this.#unfinished[Symbol.dispose]();
    this.#acquire?.[Symbol.dispose]();
    this.#acquire = null;
    this.#backlogs.clear();
  }

  #detach(keepLast: boolean): void {
    this.#attachment = null;
    this.#isInFlight = false;
    this.#releaseOld();
    if (keepLast || (!this.#primary && !this.#cursor)) return;
    this.#dropFence();
    this.#view.setUint32(export_frame.offset.width, 0, true);
    this.#view.setUint32(export_frame.offset.height, 0, true);
    this.#clearLayer(export_frame.offset.primary);
    this.#clearLayer(export_frame.offset.cursor);
    this.#show(null, null, NO_DAMAGE, true);
    this.#releaseOld();
  }

  /** The message, but for what is different for each consumer, describes the frame already. */
  #show(primary: ExportBuffer | null, cursor: ExportBuffer | null, damage: Damage, isCursorNew: boolean): void {
    this.#oldPrimary = this.#primary;
    this.#oldCursor = this.#cursor;
    this.#primary = primary;
    this.#cursor = cursor;
    primary?.acquire();
    cursor?.acquire();
    this.#serial = this.#consumers.nextSerial();
    export_frame.field.serial.set(this.#view, 0, this.#serial);
    const consumers = this.#consumers;
    consumers.recall(this);
    for (let i = 0; i < consumers.count; i++) {
      const consumer = consumers.at(i);
      const backlog = this.#backlogs.get(consumer);
      if (!backlog) continue;
      backlog.damage.addAll(damage);
      // Another picture size has other coordinates.
      if (primary && backlog.isBehind) backlog.damage.clip(this.#wholePrimary());
      backlog.isCursorNew ||= isCursorNew;
      this.#offer(consumer, backlog);
    }
  }

  #offer(consumer: Consumer, backlog: Backlog): void {
    backlog.isBehind = consumer.held(this) >= MAX_LOANS;
    if (backlog.isBehind) return;
    const flags = (this.#acquire ? EXPORT_FRAME_ACQUIRE : 0) | (backlog.isCursorNew ? EXPORT_FRAME_NEW_CURSOR : 0);
    export_frame.field.flags.set(this.#view, 0, flags);
    writeDamage(this.#view, backlog.damage);
    backlog.damage.clear();
    backlog.isCursorNew = false;
    consumer.lend(this, this.#message, this.#serial, this.#primary, this.#cursor, this.#acquire);
  }

  #wholePrimary(): Rect {
    const view = this.#view;
    const at = export_frame.offset.primary;
    const width = export_layer.field.width.get(view, at);
    return { x: 0, y: 0, width, height: export_layer.field.height.get(view, at) };
  }

  #writeLayer(at: number, buffer: ExportBuffer | null, { src, dst }: PlaneState): void {
    if (!buffer) {
      this.#clearLayer(at);
      return;
    }
    this.#message.set(buffer.layer, at);
    writeRect(this.#view, at + export_layer.offset.src, src);
    writeRect(this.#view, at + export_layer.offset.dst, dst);
  }

  #clearLayer(at: number): void {
    this.#message.fill(0, at, at + export_layer.size);
  }

  /** Without descriptors for it the picture is shown at once, perhaps unfinished. */
  #waitFor(fence: BorrowedFd): void {
    try {
      this.#acquire = dupFd(fence);
      this.#unfinished.start(fence);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#dropFence();
    }
  }

  #dropFence(): void {
    this.#unfinished.stop();
    this.#acquire?.[Symbol.dispose]();
    this.#acquire = null;
  }

  #vblank(): void {
    // A timer outlives the detaching of its frame's listener.
    if (!this.#isInFlight) return;
    this.#isDue = true;
    this.#complete();
  }

  /** The frame in flight is on screen, unless its pixels may not be read yet. */
  #complete(): void {
    const attachment = this.#attachment;
    if (!this.#isInFlight || !this.#isDue || this.#unfinished.isWaiting || !attachment) return;
    this.#isInFlight = false;
    const primary = this.#oldPrimary;
    const cursor = this.#oldCursor;
    this.#releaseOld();
    const sequence = Math.max(this.#dueSequence, this.#clock.sequenceAt(monotonicMs()));
    const flags = PresentedFlags.VSYNC | (this.#primary?.isZeroCopy ? PresentedFlags.ZERO_COPY : 0);
    // Each call may detach the listener or dispose the output.
    this.#notifyReleased(primary);
    if (cursor !== primary) this.#notifyReleased(cursor);
    if (attachment === this.#attachment)
      attachment.listener.presented(
        this.#presentation.set(this.#clock.timeOf(sequence), this.monitor.refreshMhz, sequence, flags),
      );
  }

  #releaseOld(): void {
    this.#oldPrimary?.release();
    this.#oldCursor?.release();
    this.#oldPrimary = null;
    this.#oldCursor = null;
  }

  /** The listener that presented it is told, if it is still there, and only once. */
  #notifyReleased(buffer: ExportBuffer | null): void {
    const attachment = this.#attachment;
    if (!buffer || buffer.isHeld || !attachment || buffer.holder !== attachment) return;
    buffer.holder = null;
    attachment.listener.released(buffer);
  }
}

/** One attachment of a listener; a new object each time, so that an old one is recognized. */
interface Attachment {
  readonly listener: OutputListener;
}

const NO_DAMAGE = new Damage();

function writeRect(view: DataView, at: number, { x, y, width, height }: Rect): void {
  view.setInt32(at, x, true);
  view.setInt32(at + 4, y, true);
  view.setUint32(at + 8, width, true);
  view.setUint32(at + 12, height, true);
}

function usable(handle: Handle | null): ExportBuffer | null {
  if (handle === null) return null;
  if (!(handle instanceof DmabufBuffer || handle instanceof ShadowBuffer))
    throw new TypeError('export: present of a handle of another output');
  return handle.isDisposed ? null : handle;
}
