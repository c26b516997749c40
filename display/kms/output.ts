import { DRM_FORMAT, type Fourcc, formatName, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { DRM_PLANE_TYPE_PRIMARY } from '../../protocols/drm-mode.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import { type Monitor, sameMonitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  PresentedFlags,
  type ScreenListener,
  type Shadow,
} from '../../src/core/output.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { pixmanFormat } from '../../src/sys/lib/pixman.ts';
import { isBusy, isForbidden, isGone, isRefused, MUST_WAIT } from './atomic.ts';
import { KmsBuffer, opaqueFor, type ShadowMemory } from './buffer.ts';
import { composedFormat } from './composer.ts';
import { CrtcPlanes } from './crtc-planes.ts';
import type { FlipListener, KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import { FlipTimers, HeldBuffers, NewestFrame, VblankCount } from './frames.ts';
import { type Connector, describeMode, type Mode, monitorOf, type Pipe, type Plane } from './resources.ts';

/** A serial that no event carries: commits of other programs report 0. */
const NO_EVENT = -1;

export interface KmsOutputOptions {
  readonly connector: Connector;
  /** All planes of the card. */
  readonly planes: readonly Plane[];
  /** The card's memory for shadows. It stays the caller's and outlives the output. */
  readonly shadows: ShadowMemory;
  /** 0xRRGGBB, shown while the guest shows nothing. */
  readonly background: number;
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
export class KmsOutput implements Output {
  readonly name: string;
  readonly imports: FormatSet;
  readonly readsPages = false;
  readonly shadowFormats: readonly Fourcc[];
  /** The CPU draws cursors that are too large for the hardware. */
  readonly maxCursor: Size = { width: 256, height: 256 };
  readonly #device: KmsDevice;
  readonly #primaryFormats: FormatSet;
  readonly #shadows: ShadowMemory;
  readonly #background: number;
  readonly #log: Log;
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
  readonly #newest = new NewestFrame(() => this.#onFinished());
  readonly #buffers = new HeldBuffers((handle) => this.#attachment?.listener.released(handle));
  /** Serial of the event that ends the frame in flight; NO_EVENT: it is not committed, and a tick ends it. */
  #awaited = NO_EVENT;
  /** The frame in flight waits for a fence, so that the driver cannot be blamed. */
  #isFenced = false;
  readonly #vblanks = new VblankCount();
  #hasGivenUp = false;
  #isDisposed = false;
  readonly #flips: FlipListener = {
    flipped: (timeMs, sequence, serial) => this.#flipped(timeMs, sequence, serial),
    deviceLost: (reason) => this.#deviceLost(reason),
  };
  readonly #timers = new FlipTimers(
    () => this.#onTick(),
    () => this.#onTimeout(),
  );

  /** Off. The device stays the caller's. */
  constructor(device: KmsDevice, { connector, planes, shadows, background, log }: KmsOutputOptions) {
    const formats = outputFormats(
      planes.filter(({ possibleCrtcs }) => (possibleCrtcs & connector.possibleCrtcs) !== 0),
    );
    this.#device = device;
    this.#primaryFormats = formats.primary;
    this.#shadows = shadows;
    this.#background = background;
    this.#log = log;
    this.name = `kms:${device.name}:${connector.name}`;
    this.imports = device.canImport ? formats.imports : new FormatSet();
    this.shadowFormats = formats.shadows;
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

  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#isDisposed) throw new Error(`${this.name}: attach after dispose`);
    if (this.#attachment) throw new Error(`${this.name} is taken: detach its listener first`);
    const attachment = { listener };
    this.#attachment = attachment;
    this.#announcedMonitor = this.#monitor;
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
    return this.#shadows.create(width, height, format, this.#log);
  }

  present(frame: Frame): void {
    if (!this.#attachment)
      throw new Error(`${this.name}: present ${this.#isDisposed ? 'after dispose' : 'while nothing is attached'}`);
    if (this.#owed) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#owed = this.#attachment;
    const isCrtcTaken = this.#takeBackUncommitted();
    this.#buffers.queue(frame.primary.handle, frame.cursor.handle, true);
    this.#newest.copy(frame);
    if (isCrtcTaken) {
      this.#newest.postpone(frame.damage, frame.acquire);
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
    if (frame.acquire && (result === MUST_WAIT || isBusy(result))) this.#newest.postpone(frame.damage, frame.acquire);
    else this.#follow(result);
    if (!frame.release) return;
    const fence = this.#planes.takeFence();
    if (fence) frame.release(fence);
  }

  /**
   * Shows the newest frame on `connector` as it is plugged in now, in the first mode that the driver accepts, in one
   * commit of everything; on an enabled screen too. Not while paused. KmsError `mode-missing`, `modeset-refused`,
   * `no-buffer`; nothing is changed then.
   */
  enable(connector: Connector, pipe: Pipe, modes: readonly Mode[]): void {
    let refused = 0;
    for (const mode of modes) {
      const planes = CrtcPlanes.open(this.#device, {
        pipe,
        mode,
        shadows: this.#shadows,
        background: this.#background,
        log: this.#log,
      });
      const result = planes.enable(this.#newest, this.#buffers.picture, this.#buffers.cursor);
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
    if (!this.#planes) return;
    if (this.#isOurs) this.#planes.disable();
    this.#leaveCrtc();
    this.#monitor = null;
    this.#awaitTick();
  }

  /** Makes no ioctl that needs mastership from now on. */
  pause(): void {
    this.#isPaused = true;
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
    this.#attachment = null;
    this.#owed = null;
    this.disable();
    this.#newest[Symbol.dispose]();
    this.#timers[Symbol.dispose]();
    this.#buffers[Symbol.dispose]();
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
    this.#attachment = null;
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

  #commitNewest(): void {
    this.#isFenced = false;
    const result = this.#planes!.commit(this.#newest, this.#buffers.picture, this.#buffers.cursor);
    this.#newest.settle();
    this.#follow(result);
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
    if (result === 0) {
      // A mode was set with the newest frame while its fence had not signalled: that frame is still to come.
      if (this.#newest.isUnfinished) return;
      this.#awaited = this.#planes!.serial;
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

  #flipped(timeMs: number, sequence: number, serial: number): void {
    // Otherwise it ends a frame that was given up, or a mode that was set without a frame.
    if (!this.#buffers.isInFlight || serial !== this.#awaited) return;
    this.#vblanks.counted(sequence);
    const zeroCopy = this.#planes?.isZeroCopy ? PresentedFlags.ZERO_COPY : 0;
    this.#complete(timeMs, PresentedFlags.VSYNC | PresentedFlags.HW_CLOCK | PresentedFlags.HW_COMPLETION | zeroCopy);
  }

  #deviceLost(reason: string): void {
    this.#attachment?.listener.closed(reason);
  }

  #onTick(): void {
    if (this.#isLost) this.#deviceLost('the card is gone');
    else if (!this.#buffers.isInFlight || this.#awaited !== NO_EVENT || this.#newest.isUnfinished) return;
    else if (this.#planes && this.#isOurs && this.#mayRetry) this.#follow(this.#planes.retry());
    else this.#completeHidden();
  }

  #onTimeout(): void {
    if (this.#isBarred && this.#planes && !this.#isPaused) {
      this.#sendNewest();
      this.#follow(this.#planes.enable(this.#newest, this.#buffers.picture, this.#buffers.cursor));
    } else if (this.#buffers.isInFlight && (this.#awaited !== NO_EVENT || this.#newest.isUnfinished)) {
      this.#giveUp();
    }
  }

  #giveUp(): void {
    const complaint = this.#isFenced
      ? 'the fence of a picture does not signal'
      : 'the driver did not say that a frame is on screen';
    if (!this.#hasGivenUp) this.#log('warn', `${this.name}: ${complaint}; continuing without it (see the kernel log)`);
    this.#hasGivenUp = true;
    this.#awaited = NO_EVENT;
    // Setting the mode would block until the fence has signalled. Flips are refused until then, and work
    // again afterwards.
    if (!this.#isFenced) this.#planes?.invalidate();
    this.#completeHidden();
  }

  /** The frame in flight ends without having been on screen. */
  #completeHidden(): void {
    this.#vblanks.uncounted();
    this.#complete(monotonicMs(), PresentedFlags.HIDDEN);
  }

  #complete(timeMs: number, flags: number): void {
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
    if (owed && owed === this.#attachment)
      owed.listener.presented(timeMs, this.#monitor?.refreshMhz ?? 0, this.#vblanks.count, flags);
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

type Pair = readonly [Fourcc, Modifier];

function pairsOf({ formats }: Plane): Pair[] {
  return [...formats.formats()].flatMap((format) =>
    [...formats.modifiers(format)].map((modifier): Pair => [format, modifier]),
  );
}
