import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import type { Damage } from '../../src/core/damage.ts';
import { UsageError } from '../../src/core/errors.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import { MAX_REFRESH_MHZ, type Monitor, virtualMonitor } from '../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  MutablePresentation,
  type Output,
  type OutputListener,
  PresentedFlags,
  type Shadow,
} from '../../src/core/output.ts';
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { HeadlessBuffer } from './buffer.ts';
import { compose, copyChanges, Layer, Scene, type ShownFrame } from './scene.ts';
import { BlankPhase, VblankClock, VblankTimer } from '../../src/core/vblank.ts';

const FORMATS: readonly Fourcc[] = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
const MAX_SIDE = 16384;
const MAX_CURSOR: Size = { width: 256, height: 256 };
const DEFAULT_REFRESH_MHZ = 60_000;

export interface HeadlessOptions {
  /** The mode offered to the guest, in pixels, 1 to 16384. */
  readonly width: number;
  readonly height: number;
  /** Default 60000. */
  readonly refreshMhz?: number;
  /** Default `headless`. */
  readonly name?: string;
}

export interface CaptureOptions {
  /** Default true. */
  readonly cursor?: boolean;
  /** Within the screen, in pixels. Default: all of it. */
  readonly region?: Rect;
  /** Where the picture's bytes go: as many as it has, aligned to its pixels. Default: new memory. */
  readonly target?: Uint8Array;
}

/** What was on screen when it was held, for a caller that reads it in pieces while the guest goes on. */
export interface HeldScreen extends Size, Disposable {
  /** Its pixels are in memory of the guest, which may draw there meanwhile: read them at once. */
  readonly isShared: boolean;
  /** As that of the output. */
  capture(options?: CaptureOptions): Picture;
}

/**
 * A virtual monitor that behaves like a real one: a frame waits for the next vertical blank, and
 * buffers are released when they have left the screen. It shows a picture of any size unscaled, so
 * `capture` returns the guest's picture pixel for pixel. Between frames nothing runs.
 */
export class HeadlessOutput implements Output {
  readonly name: string;
  readonly imports = new FormatSet(FORMATS.map((format) => [format, DRM_FORMAT_MOD_LINEAR] as const));
  readonly readsPages = false;
  readonly takesFences = false;
  readonly shadowFormats = FORMATS;
  readonly maxCursor = MAX_CURSOR;
  readonly #phase = new BlankPhase();
  readonly #clock: VblankClock;
  readonly #presentation = new MutablePresentation();
  readonly #frameListeners = new Set<(frame: ShownFrame) => void>();
  readonly #notifyFrame = (listener: (frame: ShownFrame) => void): void => listener(this.#shown);
  readonly #blankListeners = new Set<() => void>();
  #settling: (() => void)[] = [];
  readonly #timer = new VblankTimer(() => this.#vblank());
  #monitor: Monitor;
  #attachment: Attachment | null = null;
  #shown = new Scene<HeadlessBuffer>();
  #waiting = new Scene<HeadlessBuffer>();
  #isWaiting = false;
  /** The vertical blank the waiting frame is for. */
  #dueSequence = 0;
  #disposed = false;

  private constructor(name: string, monitor: Monitor) {
    this.name = name;
    this.#monitor = monitor;
    this.#clock = new VblankClock(monitor.refreshMhz, this.#phase.value);
  }

  /** Throws UsageError for a mode out of range. */
  static open(options: HeadlessOptions): HeadlessOutput {
    const { width, height, refreshMhz = DEFAULT_REFRESH_MHZ, name = 'headless' } = options;
    checkSize(width, height);
    if (!isWithin(refreshMhz, MAX_REFRESH_MHZ)) {
      throw new UsageError(
        `headless: a refresh of ${refreshMhz / 1000} Hz is not possible; it is above 0 and at most ${MAX_REFRESH_MHZ / 1000}`,
      );
    }
    return new HeadlessOutput(name, virtualMonitor(name, width, height, refreshMhz));
  }

  get monitor(): Monitor {
    return this.#monitor;
  }

  /** Offers the guest another mode with the same refresh. Not for calls from inside the output's own. UsageError as `open`. */
  resize(width: number, height: number): void {
    checkSize(width, height);
    const { name, refreshMhz } = this.#monitor;
    this.#monitor = virtualMonitor(name, width, height, refreshMhz);
    this.#attachment?.listener.resized(this.#monitor);
  }

  attach(listener: OutputListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#disposed) throw new Error(`${this.name}: attach after dispose`);
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
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf')
      return new DmabufImportRefused('format', 'headless: imports dma-bufs, not guest pages');
    if (!FORMATS.includes(format))
      return new DmabufImportRefused('format', 'headless: imports XRGB8888 and ARGB8888 only');
    if (modifier !== DRM_FORMAT_MOD_LINEAR)
      return new DmabufImportRefused('modifier', 'headless: imports linear buffers only');
    return HeadlessBuffer.import(framebuffer, backing.dmabuf);
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    if (!FORMATS.includes(format)) throw new TypeError('headless: shadows are XRGB8888 or ARGB8888');
    return HeadlessBuffer.shadow(width, height, format);
  }

  nextBlank(nowMs: number): number {
    return this.#clock.timeOf(this.#clock.sequenceAt(nowMs) + 1);
  }

  present(frame: Frame): void {
    if (!this.#attachment)
      throw new Error(`${this.name}: present ${this.#disposed ? 'after dispose' : 'while nothing is attached'}`);
    if (this.#isWaiting) throw new Error(`${this.name}: present while a frame is in flight`);
    const primary = usable(frame.primary.handle);
    const cursor = usable(frame.cursor.handle);
    primary?.acquire();
    cursor?.acquire();
    this.#isWaiting = true;
    this.#waiting.set(frame, primary, cursor, this.#shown);
    this.#dueSequence = this.#timer.set(this.#clock);
  }

  /** @internal What is on screen, until the next frame comes. */
  get shown(): Readonly<Scene> {
    return this.#shown;
  }

  /** Of what is on screen, in pixels; null while the screen is dark. */
  get pictureSize(): Size | null {
    const { isDark, width, height } = this.#shown;
    return isDark ? null : { width, height };
  }

  /**
   * What is on screen now, as a picture that the caller owns; null while the screen is dark. Throws SysError if a dma-buf
   * cannot be read.
   */
  capture(options: CaptureOptions = {}): Picture | null {
    return this.#shown.isDark ? null : captureOf(this.#shown, options);
  }

  /**
   * Keeps what is on screen now until the caller disposes it, which has to be soon: its buffers are not released before,
   * so a guest may wait for them. Null while the screen is dark.
   */
  hold(): HeldScreen | null {
    if (this.#shown.isDark) return null;
    const { width, height } = this.#shown;
    const primary = Object.assign(new Layer<HeadlessBuffer>(), this.#shown.primary);
    const cursor = Object.assign(new Layer<HeadlessBuffer>(), this.#shown.cursor);
    const buffers = new Set([primary.buffer, cursor.buffer].filter((buffer) => buffer !== null));
    const attachment = this.#attachment;
    for (const buffer of buffers) buffer.acquire();
    return {
      width,
      height,
      isShared: primary.buffer?.isImport === true || cursor.buffer?.isImport === true,
      capture: (options = {}) => captureOf({ width, height, primary, cursor }, options),
      [Symbol.dispose]: () => {
        for (const buffer of buffers) {
          buffers.delete(buffer);
          buffer.release();
          if (!buffer.isHeld && attachment === this.#attachment) attachment?.listener.released(buffer);
        }
      },
    };
  }

  /**
   * Copies `region` of what is on screen, without the cursor, to `target`, XRGB pixels in rows of `stride` pixels, and adds
   * to `changed` where that differs from what was there. The highest byte of a pixel means nothing. SysError as `capture`.
   */
  copyChanges(target: Uint32Array, stride: number, region: Rect, changed: Damage): void {
    copyChanges(target, stride, this.#shown, region, changed);
  }

  /** Calls `listener` after each frame that comes on screen, until the returned function is called. */
  onFrame(listener: (frame: ShownFrame) => void): () => void {
    // A function of its own, so that one listener registered twice is stopped once.
    const registered = (frame: ShownFrame): void => listener(frame);
    this.#frameListeners.add(registered);
    return () => this.#frameListeners.delete(registered);
  }

  /** Calls `listener` when the screen is about to turn dark: `capture` still returns the last picture. */
  onBlank(listener: () => void): () => void {
    const registered = (): void => listener();
    this.#blankListeners.add(registered);
    return () => this.#blankListeners.delete(registered);
  }

  /** Resolves when the newest frame is on screen, or the output is disposed. */
  settled(): Promise<void> {
    return this.#isWaiting ? new Promise((resolve) => this.#settling.push(resolve)) : Promise.resolve();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#attachment = null;
    this.#timer[Symbol.dispose]();
    this.#phase[Symbol.dispose]();
    this.#isWaiting = false;
    release(this.#waiting);
    release(this.#shown);
    this.#frameListeners.clear();
    this.#blankListeners.clear();
    this.#notifySettled();
  }

  /** A waiting frame comes on screen now, because its listener is not there at the next blank. */
  #detach(keepLast: boolean): void {
    this.#attachment = null;
    if (!keepLast) {
      // Not darkened twice if the waiting frame is dark already.
      if (!this.#shown.isDark) this.#blankListeners.forEach(call);
      release(this.#waiting);
      release(this.#shown);
    } else if (this.#isWaiting) {
      this.#turn();
      this.#frameListeners.forEach(this.#notifyFrame);
    }
    this.#isWaiting = false;
    this.#notifySettled();
  }

  #vblank(): void {
    // A timer outlives the detaching of its frame's listener.
    if (!this.#isWaiting) return;
    const attachment = this.#attachment;
    const primary = this.#shown.primary.buffer;
    const cursor = this.#shown.cursor.buffer;
    this.#turn();
    const shown = this.#shown;
    const flags = PresentedFlags.VSYNC | (shown.primary.buffer?.isImport ? PresentedFlags.ZERO_COPY : 0);
    // Each call may detach the listener or dispose the output.
    if (primary && !primary.isHeld) attachment?.listener.released(primary);
    if (cursor && cursor !== primary && !cursor.isHeld && attachment === this.#attachment)
      attachment?.listener.released(cursor);
    if (attachment === this.#attachment)
      attachment?.listener.presented(
        this.#presentation.set(shown.timeMs, this.monitor.refreshMhz, shown.sequence, flags),
      );
    this.#frameListeners.forEach(this.#notifyFrame);
    if (this.#settling.length > 0) this.#notifySettled();
  }

  /** Puts the waiting frame on screen. */
  #turn(): void {
    if (!this.#shown.isDark && this.#waiting.isDark) this.#blankListeners.forEach(call);
    const gone = this.#shown;
    release(gone);
    this.#shown = this.#waiting;
    this.#waiting = gone;
    this.#isWaiting = false;
    const sequence = Math.max(this.#dueSequence, this.#clock.sequenceAt(monotonicMs()));
    this.#shown.sequence = sequence;
    this.#shown.timeMs = this.#clock.timeOf(sequence);
  }

  #notifySettled(): void {
    if (this.#isWaiting) return;
    const settling = this.#settling;
    this.#settling = [];
    settling.forEach(call);
  }
}

function captureOf(
  scene: Size & { readonly primary: Layer; readonly cursor: Layer },
  { cursor = true, region = { x: 0, y: 0, width: scene.width, height: scene.height }, target }: CaptureOptions,
): Picture {
  return compose(scene, cursor, region, target);
}

/** One attachment of a listener; a new object each time, so that an old one is recognized. */
interface Attachment {
  readonly listener: OutputListener;
}

/** Takes the buffers out of the scene. */
function release(scene: Scene<HeadlessBuffer>): void {
  scene.primary.buffer?.release();
  scene.cursor.buffer?.release();
  scene.primary.buffer = null;
  scene.cursor.buffer = null;
}

function call(listener: () => void): void {
  listener();
}

function checkSize(width: number, height: number): void {
  if (isWithin(width, MAX_SIDE) && isWithin(height, MAX_SIDE)) return;
  throw new UsageError(`headless: ${width}x${height} is not a screen size; each side is 1 to ${MAX_SIDE} pixels`);
}

function isWithin(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= max;
}

function usable(handle: Handle | null): HeadlessBuffer | null {
  if (handle === null) return null;
  if (!(handle instanceof HeadlessBuffer)) throw new TypeError('headless: present of a handle of another output');
  return handle.isDisposed ? null : handle;
}
