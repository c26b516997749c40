import { DRM_FORMAT, type Fourcc, formatName, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { DRM_PLANE_TYPE_PRIMARY } from '../../protocols/drm-mode.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import { MutableRect, type Size } from '../../src/core/geometry.ts';
import { type Log, logOnce, type LogOnce } from '../../src/core/log.ts';
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
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { SysError } from '../../src/sys/errors.ts';
import { pixmanFormat } from '../../src/sys/lib/pixman.ts';
import { isBusy, isForbidden, isGone, isRefused, MUST_WAIT } from './atomic.ts';
import { KmsBuffer, opaqueFor } from './buffer.ts';
import { composedFormat } from './composer.ts';
import { CrtcPlanes } from './crtc-planes.ts';
import type { Flip, FlipListener, KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import type { AttachmentWatcher, OperatedScreen, Point } from './input-router.ts';
import { place } from './layout.ts';
import { OwnPointer } from './own-pointer.ts';
import { FlipTimers, HeldBuffers, NewestFrame, VblankCount } from './frames.ts';
import { type Connector, describeMode, type Mode, monitorOf, type Pipe, type Plane } from './resources.ts';
import { Writeback } from './writeback.ts';

/** A serial that no event carries: commits of other programs report 0. */
const NO_EVENT = -1;
/** In place of a serial, while the picture on screen is written back. */
const WRITING = -2;

/** Setting a mode takes some monitors seconds. */
const MODESET_TIMEOUTS = 4;

/** For how long the next vertical blanks follow from one: the clock of a monitor is not quite what its mode says. */
const BLANK_KNOWN_MS = 1000;

/** More than the arrow of `OwnPointer` takes, and no size of cursors. */
const ARROW_ROOM = 31;

export const GONE = 'the card is gone';

/** Which cursor a screen shows: the guest's, where it has one; a pointer of the bridge's own where it has none; or none. */
export type CursorChoice = 'guest' | 'draw' | 'hide';

export interface KmsOutputOptions {
  readonly connector: Connector;
  /** All planes of the card. */
  readonly planes: readonly Plane[];
  /** All writeback connectors of the card. Default: none. */
  readonly writebacks?: readonly Connector[];
  /** 0xRRGGBB, shown while the guest shows nothing. */
  readonly background: number;
  /** Default: `guest`. */
  readonly cursor?: CursorChoice;
  readonly log: Log;
}

/** One attachment of a listener; a new object each time, so that an old one is recognized. */
interface Attachment {
  readonly listener: ScreenListener;
}

/**
 * One connector, driven directly by atomic modesetting. It is off until `enable` gives it a CRTC and a mode, and after
 * `disable`; frames end by a timer then, and the newest is kept and committed together with the mode. On an enabled
 * screen a frame is one commit that names framebuffers made before.
 *
 *     present -> commit -> in flight -> flip event -> on screen -> presented
 *
 * The kernel takes one commit at a time. What is to follow a commit in flight (the background after a detach, the first
 * frame of the next listener) waits for its flip event.
 */
export class KmsOutput implements Output, OperatedScreen {
  readonly name: string;
  readonly connectorName: string;
  readonly imports: FormatSet;
  readonly readsPages = false;
  readonly shadowFormats: readonly Fourcc[];
  /** The CPU draws cursors that are too large for the hardware. */
  readonly maxCursor: Size = { width: 256, height: 256 };
  readonly #device: KmsDevice;
  readonly #primaryFormats: FormatSet;
  readonly #background: number;
  readonly #hidesCursor: boolean;
  /** Those that its cursor planes take; empty if the driver does not say. */
  readonly #cursorSizes: readonly Size[];
  readonly #pointer: OwnPointer | null;
  readonly #log: Log;
  readonly #logOnce: LogOnce;
  #attachment: Attachment | null = null;
  /** Whose `presented` is due. */
  #owed: Attachment | null = null;
  #monitor: Monitor | null = null;
  #announcedMonitor: Monitor | null = null;
  #pipe: Pipe | null = null;
  #planes: CrtcPlanes | null = null;
  /** The seat gave the card to another program. */
  #isPaused = false;
  /** The kernel says that another program is master of the card. */
  #isBarred = false;
  #isLost = false;
  /** The attachment that was told so. */
  #closed: Attachment | null = null;
  readonly #newest = new NewestFrame(() => this.#onFinished());
  readonly #buffers = new HeldBuffers((handle) => this.#attachment?.listener.released(handle));
  /** Serial of the event that ends the frame in flight; NO_EVENT: it is not committed, and a tick ends it. */
  #awaited = NO_EVENT;
  /** The frame in flight waits for a fence, so that the driver cannot be blamed. */
  #isFenced = false;
  /** For how many timeouts the mode that was set last has not been on screen. */
  #modesetTimeouts = 0;
  readonly #vblanks = new VblankCount();
  readonly #presentation = new MutablePresentation();
  /** Of the last vertical blank that the hardware reported, CLOCK_MONOTONIC. */
  #blankMs = -Infinity;
  #watcher: AttachmentWatcher | null = null;
  readonly #writebacks: readonly Connector[];
  /** Of `readBack`. While it runs, it is what is in flight. */
  #writeback: Writeback | null = null;
  /** Where `toGuest` found the picture on screen. */
  readonly #placed = new MutableRect();
  #isPointerStale = false;
  #isDisposed = false;
  readonly #flips: FlipListener = {
    flipped: (flip) => this.#flipped(flip),
    deviceLost: (reason) => this.deviceLost(reason),
  };
  readonly #timers = new FlipTimers(
    () => this.#onTick(),
    () => this.#onTimeout(),
  );

  /** Off. The device stays the caller's. */
  constructor(device: KmsDevice, options: KmsOutputOptions) {
    const { connector, planes, writebacks = [], background, cursor = 'guest', log } = options;
    const onIt = planes.filter(({ possibleCrtcs }) => (possibleCrtcs & connector.possibleCrtcs) !== 0);
    const formats = outputFormats(onIt);
    this.#device = device;
    this.#primaryFormats = formats.primary;
    this.#writebacks = writebacks;
    this.#background = background;
    this.#hidesCursor = cursor === 'hide';
    this.#log = log;
    this.#logOnce = logOnce(log);
    this.name = `kms:${device.name}:${connector.name}`;
    this.connectorName = connector.name;
    this.imports = device.canImport ? formats.imports : new FormatSet();
    this.shadowFormats = formats.shadows;
    this.#cursorSizes = onIt.flatMap(({ sizeHints }) => sizeHints);
    const pointerSize = sizeFor(this.#cursorSizes, ARROW_ROOM, ARROW_ROOM) ?? device.cursorSize;
    this.#pointer = cursor === 'draw' ? this.#makePointer(pointerSize) : null;
  }

  /** Null while it is off. */
  get monitor(): Monitor | null {
    return this.#monitor;
  }

  get takesFences(): boolean {
    return this.#isOurs && this.#planes !== null && this.#planes.takesFences;
  }

  /** The share of the card that drives it; null while it is off. */
  get pipe(): Pipe | null {
    return this.#pipe;
  }

  get listener(): ScreenListener | null {
    return this.#attachment?.listener ?? null;
  }

  get picture(): Size {
    return this.#newest.canvas;
  }

  get guestScale(): number {
    this.#place();
    return this.#newest.canvas.width / this.#placed.width;
  }

  toGuest(x: number, y: number, out: Point): void {
    this.#place();
    const { width, height } = this.#monitor!;
    out.x = ((x * width - this.#placed.x) * this.#newest.canvas.width) / this.#placed.width;
    out.y = ((y * height - this.#placed.y) * this.#newest.canvas.height) / this.#placed.height;
  }

  watch(watcher: AttachmentWatcher | null): void {
    this.#watcher = watcher;
  }

  pointAt(x: number, y: number): void {
    if (!this.#pointer) return;
    this.#pointer.moveTo(x, y);
    this.#showPointer();
  }

  pointAway(): void {
    if (!this.#pointer) return;
    this.#pointer.leave();
    this.#showPointer();
  }

  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#isDisposed) throw new Error(`${this.name}: attach after dispose`);
    if (this.#attachment) throw new Error(`${this.name} is taken: detach its listener first`);
    const attachment = { listener };
    this.#attachment = attachment;
    this.#pointer?.forgetGuest();
    this.#announcedMonitor = this.#monitor;
    this.#watcher?.attached();
    return {
      [Symbol.dispose]: () => {
        if (this.#attachment === attachment) this.#detach(keepLast);
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf')
      return new DmabufImportRefused('format', `${this.name} imports dma-bufs, not guest pages`);
    if (!this.imports.has(format, modifier))
      return new DmabufImportRefused(
        'modifier',
        `${this.name}: no plane shows ${formatName(format)} with this modifier`,
      );
    return KmsBuffer.import(
      this.#device,
      framebuffer,
      backing.dmabuf,
      opaqueFor(format, this.#primaryFormats, modifier),
    );
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    const isCursor = format === DRM_FORMAT.ARGB8888;
    const padded = isCursor ? sizeFor(this.#cursorSizes, width, height) : null;
    return padded
      ? KmsBuffer.dumb(this.#device, padded.width, padded.height, format, true)
      : KmsBuffer.dumb(this.#device, width, height, format);
  }

  nextBlank(nowMs: number): number {
    if (!this.#monitor || !this.#isOurs || nowMs - this.#blankMs > BLANK_KNOWN_MS) return 0;
    const periodMs = 1e6 / this.#monitor.refreshMhz;
    return this.#blankMs + (Math.floor((nowMs - this.#blankMs) / periodMs) + 1) * periodMs;
  }

  present(given: Frame): void {
    if (!this.#attachment)
      throw new Error(`${this.name}: present ${this.#isDisposed ? 'after dispose' : 'while nothing is attached'}`);
    if (this.#owed) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#owed = this.#attachment;
    const isCrtcTaken = this.#takeBackUncommitted();
    const frame = this.#pointer?.over(given) ?? given;
    this.#isPointerStale = false;
    this.#buffers.queue(frame.primary.handle, this.#hidesCursor ? null : frame.cursor.handle, true);
    this.#newest.copy(frame);
    if (isCrtcTaken) {
      this.#postpone(frame);
      return;
    }
    this.#send();
    if (!this.#planes || !this.#isOurs) {
      this.#timers.startTick();
      return;
    }
    const result = this.#planes.commit(frame, this.#buffers.picture, this.#buffers.cursor);
    this.#isFenced = frame.acquire !== null;
    if (this.#isFenced) this.#timers.startTimeout();
    if (!frame.acquire || (result !== MUST_WAIT && !isBusy(result))) this.#follow(result);
    else if (!this.#postpone(frame)) this.#commitNewest();
    if (!frame.release) return;
    const fence = this.#planes.takeFence();
    if (fence) frame.release(fence);
  }

  /**
   * What is on screen, as the hardware writes it to memory at a vertical blank: for a frame in flight, after that one. The
   * next frame waits for it. The caller awaits it before the next call. KmsError `no-writeback`, `no-buffer`.
   */
  async readBack(): Promise<Picture> {
    if (!this.#pipe || !this.#monitor || !this.#isOurs)
      throw new KmsError('no-writeback', `${this.name} cannot be read back, because it is not shown now`);
    if (this.#writeback) throw new Error(`${this.name}: readBack before the previous one has ended`);
    using writeback = Writeback.open(this.#device, this.#pipe, this.#writebacks, this.#monitor);
    this.#writeback = writeback;
    try {
      if (!this.#buffers.isInFlight) this.#startWriting();
      await writeback.ended;
      return await writeback.picture();
    } finally {
      if (this.#writeback === writeback) this.#writeback = null;
    }
  }

  /**
   * Shows the newest frame on `connector` as it is plugged in now, in the first mode that the driver accepts, in one
   * commit of everything; on an enabled screen too. Not while paused. KmsError `mode-missing`, `modeset-refused`,
   * `no-buffer`; nothing is changed then.
   */
  enable(connector: Connector, pipe: Pipe, modes: readonly Mode[]): void {
    this.#failWriting('its mode is set');
    let refused = 0;
    for (const mode of modes) {
      const planes = CrtcPlanes.open(this.#device, {
        pipe,
        mode,
        background: this.#background,
        log: this.#log,
      });
      const result = this.#enableWithNewest(planes);
      if (!isRefused(result)) {
        this.#adopt(connector, pipe, mode, planes);
        this.#sendNewest();
        this.#follow(result);
        return;
      }
      refused = result;
      planes[Symbol.dispose]();
    }
    if (modes.length === 0) throw new KmsError('mode-missing', `${this.name}: its monitor offers no mode`);
    throw new KmsError(
      'modeset-refused',
      `${this.name}: the driver refuses ${modes.map(describeMode).join(', ')} (errno ${-refused}); ask for another mode with mode=WIDTHxHEIGHT`,
    );
  }

  /** Turns the CRTC off and gives it back. The newest frame is kept for the next `enable`. */
  disable(): void {
    this.sleep();
    this.#monitor = null;
  }

  /**
   * Turns the CRTC off and gives it back, as `disable` does, but for the listener the monitor stays: frames end by a
   * timer, and the newest is kept for the next `enable`.
   */
  sleep(): void {
    if (!this.#planes) return;
    this.#failWriting('it was turned off');
    if (this.#isOurs) this.#planes.disable();
    this.#leaveCrtc();
    this.#awaitTick();
  }

  /** The card is gone for good. Tells the listener, once. */
  deviceLost(reason: string): void {
    this.#isLost = true;
    this.#failWriting(reason);
    if (this.#attachment === this.#closed) return;
    this.#closed = this.#attachment;
    this.#closed?.listener.closed(reason);
  }

  /** Makes no ioctl that needs mastership from now on. */
  pause(): void {
    this.#isPaused = true;
    this.#failWriting('another program has the seat');
    this.#planes?.invalidate();
    this.#awaitTick();
  }

  /** The card is this program's again, in an unknown state. The caller calls `enable` or `disable` next. */
  resume(): void {
    this.#isPaused = false;
    this.#isBarred = false;
  }

  /** Tells the listener if the monitor changed since it was told last. */
  announce(): void {
    if (this.#monitor === this.#announcedMonitor) return;
    this.#announcedMonitor = this.#monitor;
    this.#attachment?.listener.resized(this.#monitor);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    const listener = this.listener;
    this.#attachment = null;
    if (listener) this.#watcher?.detached(listener);
    this.#watcher = null;
    this.#owed = null;
    this.disable();
    this.#newest[Symbol.dispose]();
    this.#timers[Symbol.dispose]();
    this.#buffers[Symbol.dispose]();
    this.#pointer?.[Symbol.dispose]();
  }

  #makePointer(size: Size): OwnPointer | null {
    try {
      return new OwnPointer(this.#device, size);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      this.#log('warn', `${this.name}: no pointer is drawn: ${error.message}`);
      return null;
    }
  }

  /**
   * Commits the newest frame again, with the pointer where it is now. While a frame is in flight, the next shows it: the
   * listener's, or this one when that has landed.
   */
  #showPointer(): void {
    const { picture, cursor, isInFlight } = this.#buffers;
    this.#isPointerStale = isInFlight;
    if (isInFlight || !picture || picture.isDisposed || this.#pointer!.isGuestDrawing) return;
    const frame = this.#pointer!.over(this.#newest);
    if (cursor === null && frame.cursor.handle === null) return;
    this.#buffers.queue(picture, frame.cursor.handle, true);
    this.#newest.copy(frame);
    this.#commitNext();
  }

  /** Nothing is in flight. */
  #startWriting(): void {
    const writeback = this.#writeback!;
    try {
      writeback.start(() => this.#endWriting(writeback));
    } catch (error) {
      this.#writeback = null;
      writeback.fail(error);
      return;
    }
    this.#buffers.repeat();
    this.#awaited = WRITING;
    this.#isFenced = false;
    this.#timers.setBusy(false);
    this.#timers.startTimeout();
  }

  /** It is written, or is not going to be. What is on screen is in flight until it has its monitor back. */
  #endWriting(writeback: Writeback): void {
    const result = writeback.stop();
    if (isBusy(result)) {
      this.#timers.startTimeout();
      return;
    }
    this.#vblanks.reset();
    if (result === 0) {
      this.#awaited = writeback.serial;
      this.#timers.startTimeout();
    } else {
      this.#planes!.invalidate();
      this.#follow(result);
    }
    if (writeback.isWritten) writeback.end();
    else this.#failWriting('the driver wrote nothing for a second');
  }

  #failWriting(reason: string): void {
    const writeback = this.#writeback;
    if (!writeback) return;
    this.#writeback = null;
    if (writeback.isRunning && this.#isOurs) writeback.stop();
    writeback.fail(new KmsError('no-writeback', `${this.name} cannot be read back: ${reason}`));
  }

  #place(): void {
    place(this.#newest.canvas, this.#monitor!, this.#placed);
  }

  get #isOurs(): boolean {
    return !this.#isPaused && !this.#isBarred;
  }

  /**
   * A frame that no listener waits for is tried until it succeeds, because a buffer must not be freed while
   * it is on screen.
   */
  get #mayRetry(): boolean {
    return this.#timers.mayRetry || (this.#timers.isBusy && !this.#owed);
  }

  /** The background follows what is in flight; with `keepLast` the newest frame stays. */
  #detach(keepLast: boolean): void {
    const { listener } = this.#attachment!;
    this.#attachment = null;
    this.#watcher?.detached(listener);
    this.#owed = null;
    this.#buffers.disown();
    if (keepLast) return;
    const isCrtcTaken = this.#takeBackUncommitted();
    if (this.#buffers.isBlank) return;
    this.#newest.settle();
    this.#buffers.queue(null, null, false);
    if (!isCrtcTaken) this.#commitNext();
  }

  /**
   * Drops the frame in flight if the kernel does not have it: it waits for a fence, for a busy CRTC, or for a tick
   * because the screen is off. True if the kernel has it, so that nothing can be committed before its event.
   */
  #takeBackUncommitted(): boolean {
    if (!this.#buffers.isInFlight) return false;
    if (this.#awaited !== NO_EVENT) return true;
    this.#newest.settle();
    this.#buffers.drop();
    return false;
  }

  /** The frame that waits is in flight now. */
  #send(): void {
    this.#buffers.send();
    this.#awaited = NO_EVENT;
    this.#timers.setBusy(false);
  }

  /** The frame that waits, if any, is in flight in place of the one whose event will not come. */
  #sendNewest(): void {
    if (!this.#buffers.hasNext) return;
    this.#buffers.land();
    this.#send();
    if (!this.#newest.isUnfinished) return;
    this.#isFenced = true;
    this.#timers.startTimeout();
  }

  /** Sends the frame that waits, once nothing is in flight. */
  #commitNext(): void {
    this.#send();
    if (!this.#planes || !this.#isOurs) {
      this.#timers.startTick();
    } else if (this.#newest.isUnfinished) {
      this.#isFenced = true;
      this.#timers.startTimeout();
    } else {
      this.#commitNewest();
    }
  }

  /** Remembers what the frame changes, to commit it later. False if there is no fence to wait for. */
  #postpone({ damage, acquire }: Frame): boolean {
    try {
      this.#newest.postpone(damage, acquire);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#logOnce(
        'warn',
        `${this.name}: pictures are shown before they are finished, because their fences cannot be waited for: ${error.message}`,
        'fence',
      );
    }
    return this.#newest.isUnfinished;
  }

  #commitNewest(): void {
    this.#isFenced = false;
    const result = this.#planes!.commit(this.#newest, this.#buffers.picture, this.#buffers.cursor);
    this.#newest.settle();
    this.#follow(result);
  }

  /** Sets the mode and the newest frame, or the background while the fence of that frame has not signalled. */
  #enableWithNewest(planes: CrtcPlanes): number {
    const { picture, cursor } = this.#buffers;
    return planes.enable(this.#newest, this.#newest.isUnfinished ? null : picture, cursor);
  }

  /** The fence of the newest frame has signalled. */
  #onFinished(): void {
    if (!this.#buffers.hasNext) this.#commitNewest();
  }

  /** `planes` is enabled, or will be when the card is this program's. Consumes it and disposes the one before. */
  #adopt(connector: Connector, pipe: Pipe, mode: Mode, planes: CrtcPlanes): void {
    this.#leaveCrtc();
    this.#pipe = pipe;
    this.#planes = planes;
    this.#device.listen(pipe.crtc.id, this.#flips);
    const monitor = monitorOf(connector, mode);
    if (this.#monitor && sameMonitor(this.#monitor, monitor)) return;
    this.#monitor = monitor;
    this.#timers.setRefresh(mode.refreshMhz);
    this.#log('info', `${this.name}: ${describeMode(mode)} on CRTC ${pipe.crtc.id}, driver ${this.#device.driver}`);
  }

  #leaveCrtc(): void {
    if (this.#pipe) this.#device.unlisten(this.#pipe.crtc.id);
    this.#planes?.[Symbol.dispose]();
    this.#pipe = null;
    this.#planes = null;
    this.#vblanks.reset();
    this.#blankMs = -Infinity;
  }

  /** No event will come: the frame in flight, if any, ends with the next tick. */
  #awaitTick(): void {
    this.#newest.settle();
    this.#awaited = NO_EVENT;
    this.#timers.startTick();
  }

  /**
   * What follows a commit: its event, another attempt, or the next tick, because a refused frame is no reason
   * to hold up the guest.
   */
  #follow(result: number): void {
    if (isForbidden(result)) this.#bar();
    else this.#isBarred = false;
    // A mode was set, or was to be set, while the fence of the newest frame had not signalled: that frame is still to come.
    if (this.#newest.isUnfinished && (result === 0 || isBusy(result))) return;
    if (result === 0) {
      this.#awaited = this.#planes!.serial;
      this.#modesetTimeouts = 0;
      this.#timers.startTimeout();
      return;
    }
    this.#isLost = isGone(result);
    this.#timers.setBusy(isBusy(result));
    this.#awaitTick();
  }

  /**
   * Another program became master of the card, and the seat did not say so: tries again once a second, unless
   * the seat says more.
   */
  #bar(): void {
    if (!this.#isBarred)
      this.#log(
        'warn',
        `${this.name}: another program is master of the card; the guest continues to run and is shown again when the card is free`,
      );
    this.#isBarred = true;
    this.#planes!.invalidate();
    this.#timers.startTimeout();
  }

  #flipped(flip: Flip): void {
    // Otherwise it ends a frame that was given up, or a mode that was set without a frame.
    if (!this.#buffers.isInFlight || flip.serial !== this.#awaited) return;
    this.#vblanks.counted(flip.sequence);
    this.#blankMs = flip.timeMs;
    this.#presentation.timeMs = flip.timeMs;
    const zeroCopy = this.#planes?.isZeroCopy ? PresentedFlags.ZERO_COPY : 0;
    this.#complete(PresentedFlags.VSYNC | PresentedFlags.HW_CLOCK | PresentedFlags.HW_COMPLETION | zeroCopy);
  }

  #onTick(): void {
    if (this.#isLost) this.deviceLost(GONE);
    else if (!this.#buffers.isInFlight || this.#awaited !== NO_EVENT || this.#newest.isUnfinished) return;
    else if (this.#planes && this.#isOurs && this.#timers.isBusy) this.#retry(this.#planes);
    else this.#completeHidden();
  }

  /** Tries before it looks at the clock: this program may have been held up itself. */
  #retry(planes: CrtcPlanes): void {
    const result = planes.retry();
    if (isBusy(result) && !this.#mayRetry) this.#completeHidden();
    else this.#follow(result);
  }

  #onTimeout(): void {
    if (this.#writeback?.isRunning) this.#endWriting(this.#writeback);
    else if (this.#isBarred && this.#planes && !this.#isPaused) {
      this.#sendNewest();
      this.#follow(this.#enableWithNewest(this.#planes));
    } else if (this.#isWaiting) {
      this.#giveUpUnlessDone();
    }
  }

  /** An event or a fence is due. */
  get #isWaiting(): boolean {
    return this.#buffers.isInFlight && (this.#awaited !== NO_EVENT || this.#newest.isUnfinished);
  }

  /** The driver is not to blame if this program was held up, and what it waits for has arrived meanwhile. */
  #giveUpUnlessDone(): void {
    const awaited = this.#awaited;
    this.#device.readEvents();
    this.#newest.check();
    // Otherwise another frame is in flight by now, or none.
    if (this.#isDisposed || this.#isLost || this.#awaited !== awaited || !this.#isWaiting) return;
    if (this.#awaited !== NO_EVENT && this.#planes?.isModeset && this.#modesetTimeouts++ < MODESET_TIMEOUTS)
      this.#timers.startTimeout();
    else this.#giveUp();
  }

  #giveUp(): void {
    const complaint = this.#isFenced
      ? 'the fence of a picture does not signal'
      : 'the driver did not say that a frame is on screen';
    this.#logOnce('warn', `${this.name}: ${complaint}; continuing without it (see the kernel log)`, 'given up');
    // The CRTC refuses flips until its last one has ended, and takes them again afterwards: nothing else helps.
    this.#awaited = NO_EVENT;
    this.#completeHidden();
  }

  /** The frame in flight ends without having been on screen. */
  #completeHidden(): void {
    this.#vblanks.uncounted();
    this.#presentation.timeMs = monotonicMs();
    this.#complete(PresentedFlags.HIDDEN);
  }

  /** The frame in flight has ended, at the time of `#presentation`. */
  #complete(flags: number): void {
    if (this.#buffers.hasNext) {
      this.#buffers.land();
      this.#commitNext();
      return;
    }
    const owed = this.#owed;
    this.#owed = null;
    this.#newest.settle();
    // Each call of a listener may detach it, or dispose this output.
    this.#buffers.land();
    if (this.#writeback && !this.#writeback.isRunning && !this.#writeback.isWritten) this.#startWriting();
    if (owed && owed === this.#attachment) {
      const presentation = this.#presentation;
      presentation.refreshMhz = this.#monitor?.refreshMhz ?? 0;
      presentation.sequence = this.#vblanks.count;
      presentation.flags = flags;
      owed.listener.presented(presentation);
    }
    if (this.#isPointerStale && this.#attachment && !this.#buffers.isInFlight) this.#showPointer();
  }
}

/** The pixels that an output accepts, whichever planes of its connector it gets. */
export interface OutputFormats {
  /** What some plane shows, as it is or without its alpha. */
  readonly imports: FormatSet;
  /** What primary planes show. */
  readonly primary: FormatSet;
  /**
   * What the CPU can draw, the screen's format first, and one with alpha for cursors, which are composed if
   * no plane takes them.
   */
  readonly shadows: readonly Fourcc[];
}

export function outputFormats(planes: readonly Plane[]): OutputFormats {
  const primaries = planes.filter(({ type }) => type === DRM_PLANE_TYPE_PRIMARY);
  const primary = new FormatSet(primaries.flatMap(pairsOf));
  const opaques = Object.values(DRM_FORMAT).flatMap((format): Pair[] => {
    const opaque = opaqueOf(format);
    return opaque === null || opaque === format
      ? []
      : [...primary.modifiers(opaque)].map((modifier) => [format, modifier]);
  });
  const drawn = [...primary.formats()].filter((format) => pixmanFormat(format) !== null);
  return {
    imports: new FormatSet([...planes.flatMap(pairsOf), ...opaques]),
    primary,
    shadows: [...new Set([...primaries.slice(0, 1).map(composedFormat), ...drawn, DRM_FORMAT.ARGB8888])],
  };
}

/** The smallest of `sizes` that holds a cursor; null if none does, or if it is one itself. */
export function sizeFor(sizes: readonly Size[], width: number, height: number): Size | null {
  const [best] = sizes
    .filter((size) => size.width >= width && size.height >= height)
    .toSorted((a, b) => a.width * a.height - b.width * b.height);
  return best && (best.width !== width || best.height !== height) ? best : null;
}

type Pair = readonly [Fourcc, Modifier];

function pairsOf({ formats }: Plane): Pair[] {
  return [...formats.formats()].flatMap((format) =>
    [...formats.modifiers(format)].map((modifier): Pair => [format, modifier]),
  );
}
