import { DRM_FORMAT, formatName, type Fourcc, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { DRM_PLANE_TYPE_PRIMARY } from '../../protocols/drm-mode.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import { type Monitor, sameMonitor } from '../../src/core/monitor.ts';
import {
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type OutputListener,
  PresentedFlags,
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
import { FlipTimers, NewestFrame, ShownBuffers, VblankCount } from './frames.ts';
import { type Connector, describeMode, type Mode, monitorOf, type Pipe, type Plane } from './resources.ts';

/** No event says this: others' say 0. */
const NO_EVENT = -1;

export interface KmsOutputOptions {
  readonly connector: Connector;
  /** All of the card. */
  readonly planes: readonly Plane[];
  /** The card's memory for shadows. It stays the caller's and outlives the output. */
  readonly shadows: ShadowMemory;
  /** 0xRRGGBB, shown while the guest shows nothing. */
  readonly background: number;
  readonly log: Log;
}

/**
 * One connector, driven directly (atomic modesetting). Dark until `enable` gives it a CRTC and a mode, and after `disable`:
 * frames end by a timer then, and the newest is kept and lit with the mode, in one commit. A frame on a lit screen is
 * one commit that names framebuffers made before.
 */
export class KmsOutput implements Output {
  readonly name: string;
  readonly imports: FormatSet;
  readonly readsPages = false;
  readonly shadowFormats: readonly Fourcc[];
  /** Those larger than the hardware's are drawn by the CPU. */
  readonly maxCursor: Size = { width: 256, height: 256 };
  readonly #device: KmsDevice;
  readonly #primaryFormats: FormatSet;
  readonly #shadows: ShadowMemory;
  readonly #background: number;
  readonly #log: Log;
  #listener: OutputListener | null = null;
  #monitor: Monitor | null = null;
  #toldMonitor: Monitor | null = null;
  #pipe: Pipe | null = null;
  #planes: CrtcPlanes | null = null;
  /** The seat says the card is somebody else's; or the kernel does. */
  #isPaused = false;
  #isBarred = false;
  #isLost = false;
  readonly #newest = new NewestFrame(() => {
    this.#isFenced = false;
    this.#follow(this.#planes!.commit(this.#newest, this.#buffers.picture, this.#buffers.cursor));
  });
  readonly #buffers = new ShownBuffers((handle) => this.#listener?.released(handle));
  /** Serial of the event that ends the waiting frame; without one the beat does. */
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
  readonly #timers = new FlipTimers(() => this.#onTick(), () => this.#onTimeout());

  /** Dark. The device stays the caller's. */
  constructor(device: KmsDevice, { connector, planes, shadows, background, log }: KmsOutputOptions) {
    const formats = outputFormats(planes.filter(({ possibleCrtcs }) => (possibleCrtcs & connector.possibleCrtcs) !== 0));
    this.#device = device;
    this.#primaryFormats = formats.primary;
    this.#shadows = shadows;
    this.#background = background;
    this.#log = log;
    this.name = `kms:${device.name}:${connector.name}`;
    this.imports = device.canImport ? formats.imports : new FormatSet();
    this.shadowFormats = formats.shadows;
  }

  /** Null while dark. */
  get monitor(): Monitor | null {
    return this.#monitor;
  }

  get takesFences(): boolean {
    return this.#isOurs && this.#planes !== null && this.#planes.takesFences;
  }

  get pipe(): Pipe | null {
    return this.#pipe;
  }

  attach(listener: OutputListener): Disposable {
    if (this.#listener) throw new Error(`${this.name} is taken: detach its listener first`);
    this.#listener = listener;
    this.#toldMonitor = this.#monitor;
    return {
      [Symbol.dispose]: () => {
        if (this.#listener === listener) this.#listener = null;
      },
    };
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf') return new DmabufImportRefused('format', `${this.name} imports dma-bufs, not guest pages`);
    if (!this.imports.has(format, modifier)) return new DmabufImportRefused('modifier', `${this.name}: no plane shows ${formatName(format)} with this modifier`);
    return KmsBuffer.import(this.#device, framebuffer, backing.dmabuf, opaqueFor(format, this.#primaryFormats, modifier));
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return this.#shadows.create(width, height, format, this.#log);
  }

  present(frame: Frame): void {
    if (this.#isDisposed) throw new Error(`${this.name}: present after dispose`);
    if (this.#buffers.isWaiting) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#buffers.wait(frame.primary.handle, frame.cursor.handle);
    this.#newest.copy(frame);
    this.#awaited = NO_EVENT;
    this.#timers.setBusy(false);
    if (!this.#planes || !this.#isOurs) {
      this.#timers.startTick();
      return;
    }
    const result = this.#planes.commit(frame, this.#buffers.picture, this.#buffers.cursor);
    this.#isFenced = frame.acquire !== null;
    if (this.#isFenced) this.#timers.startTimeout();
    if (frame.acquire && (result === MUST_WAIT || isBusy(result))) this.#newest.finish(frame.acquire, frame.damage);
    else this.#follow(result);
    if (!frame.release) return;
    const fence = this.#planes.takeFence();
    if (fence) frame.release(fence);
  }

  /**
   * Shows the newest picture on `connector` as it is plugged in now, in the first mode the driver accepts, in one commit
   * of everything; on a lit screen too. KmsError `mode-missing`, `modeset-refused`, `no-buffer`: nothing is changed then. Not while paused.
   */
  enable(connector: Connector, pipe: Pipe, modes: readonly Mode[]): void {
    let refused = 0;
    for (const mode of modes) {
      const planes = CrtcPlanes.open(this.#device, { pipe, mode, shadows: this.#shadows, background: this.#background, log: this.#log });
      const result = planes.enable(this.#newest, this.#buffers.picture, this.#buffers.cursor);
      if (!isRefused(result)) {
        this.#adopt(connector, pipe, mode, planes);
        this.#follow(result);
        return;
      }
      refused = result;
      planes[Symbol.dispose]();
    }
    if (modes.length === 0) throw new KmsError('mode-missing', `${this.name}: its monitor offers no mode`);
    throw new KmsError('modeset-refused', `${this.name}: the driver refuses ${modes.map(describeMode).join(', ')} (errno ${-refused}); ask for another mode with mode=WIDTHxHEIGHT`);
  }

  /** Turns the CRTC off and gives it back. The newest picture is kept for the next `enable`. */
  disable(): void {
    if (!this.#planes) return;
    if (this.#isOurs) this.#planes.disable();
    this.#leaveCrtc();
    this.#monitor = null;
    this.#awaitNothing();
  }

  /** No ioctl that needs mastership from now on. */
  pause(): void {
    this.#isPaused = true;
    this.#planes?.invalidate();
    this.#awaitNothing();
  }

  /** The card is ours again, in whatever state; `enable` or `disable` follows. */
  resume(): void {
    this.#isPaused = false;
    this.#isBarred = false;
  }

  /** Tells the listener if the monitor is another since it was told last. */
  announce(): void {
    if (this.#monitor === this.#toldMonitor) return;
    this.#toldMonitor = this.#monitor;
    this.#listener?.resized(this.#monitor);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#listener = null;
    this.disable();
    this.#newest[Symbol.dispose]();
    this.#timers[Symbol.dispose]();
    this.#buffers[Symbol.dispose]();
  }

  get #isOurs(): boolean {
    return !this.#isPaused && !this.#isBarred;
  }

  /** `planes` is lit, or will be when the card is ours. Consumes it; what was before it goes. */
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
    this.#vblanks.forget();
  }

  /** The waiting frame, if any, ends by the beat. */
  #awaitNothing(): void {
    this.#newest.giveUp();
    this.#awaited = NO_EVENT;
    this.#timers.startTick();
  }

  #flipped(timeMs: number, sequence: number, serial: number): void {
    // Else that of a frame given up, or of a mode set without a frame.
    if (!this.#buffers.isWaiting || serial !== this.#awaited) return;
    this.#vblanks.seen(sequence);
    const zeroCopy = this.#planes?.isZeroCopy ? PresentedFlags.ZERO_COPY : 0;
    this.#complete(timeMs, PresentedFlags.VSYNC | PresentedFlags.HW_CLOCK | PresentedFlags.HW_COMPLETION | zeroCopy);
  }

  #deviceLost(reason: string): void {
    this.#listener?.closed(reason);
  }

  /** What becomes of a commit: an event, another attempt, or nothing, which is no reason to hold up the guest. */
  #follow(result: number): void {
    if (isForbidden(result)) this.#bar();
    else this.#isBarred = false;
    if (result === 0) {
      // What a mode was set with meanwhile is not finished either.
      if (this.#newest.isUnfinished) return;
      this.#awaited = this.#planes!.serial;
      this.#timers.startTimeout();
      return;
    }
    this.#isLost = isGone(result);
    this.#timers.setBusy(isBusy(result));
    this.#awaitNothing();
  }

  /** Mastership went without a word from the seat: asked for again once a second, unless the seat says more. */
  #bar(): void {
    if (!this.#isBarred) this.#log('warn', `${this.name}: somebody else is master of the card; the guest runs on, its picture comes back with the card`);
    this.#isBarred = true;
    this.#planes!.invalidate();
    this.#timers.startTimeout();
  }

  #onTick(): void {
    if (this.#isLost) this.#deviceLost('the card is gone');
    else if (!this.#buffers.isWaiting || this.#awaited !== NO_EVENT || this.#newest.isUnfinished) return;
    else if (this.#planes && this.#isOurs && this.#timers.mayRetry) this.#follow(this.#planes.retry());
    else this.#hide();
  }

  #onTimeout(): void {
    if (this.#isBarred && this.#planes && !this.#isPaused) this.#follow(this.#planes.enable(this.#newest, this.#buffers.picture, this.#buffers.cursor));
    else if (this.#buffers.isWaiting && (this.#awaited !== NO_EVENT || this.#newest.isUnfinished)) this.#giveUp();
  }

  #giveUp(): void {
    const complaint = this.#isFenced ? 'the fence of a picture does not signal' : 'the driver did not say that a frame is on screen';
    if (!this.#hasGivenUp) this.#log('warn', `${this.name}: ${complaint}; going on without (see the kernel log)`);
    this.#hasGivenUp = true;
    this.#awaited = NO_EVENT;
    // To set the mode would block until the driver has the fence; flips are refused, and work again after it.
    if (!this.#isFenced) this.#planes?.invalidate();
    this.#hide();
  }

  /** The waiting frame ends unseen. */
  #hide(): void {
    this.#vblanks.unseen();
    this.#complete(monotonicMs(), PresentedFlags.HIDDEN);
  }

  #complete(timeMs: number, flags: number): void {
    this.#newest.giveUp();
    // Each listener may dispose us.
    this.#buffers.turn();
    this.#listener?.presented(timeMs, this.#monitor?.refreshMhz ?? 0, this.#vblanks.count, flags);
  }
}

/** What of pixels an output takes, whichever of the planes that can reach its connector it will get. */
export interface OutputFormats {
  /** Whatever some plane shows as it is, or without its alpha. */
  readonly imports: FormatSet;
  /** What primary planes show. */
  readonly primary: FormatSet;
  /** What the CPU can draw, the screen's own format first; with alpha for cursors, which are composed where no plane takes them. */
  readonly shadows: readonly Fourcc[];
}

export function outputFormats(planes: readonly Plane[]): OutputFormats {
  const primaries = planes.filter(({ type }) => type === DRM_PLANE_TYPE_PRIMARY);
  const primary = new FormatSet(primaries.flatMap(pairsOf));
  const opaques = Object.values(DRM_FORMAT).flatMap((format): Pair[] => {
    const opaque = opaqueOf(format);
    return opaque === null || opaque === format ? [] : [...primary.modifiers(opaque)].map((modifier) => [format, modifier]);
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
  return [...formats.formats()].flatMap((format) => [...formats.modifiers(format)].map((modifier): Pair => [format, modifier]));
}
