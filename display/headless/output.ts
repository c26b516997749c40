import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { UsageError } from '../../src/core/errors.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import { MAX_REFRESH_MHZ, type Monitor, virtualMonitor } from '../../src/core/monitor.ts';
import {
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type OutputListener,
  PresentedFlags,
  type Shadow,
} from '../../src/core/output.ts';
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { HeadlessBuffer } from './buffer.ts';
import { compose, Scene, type ShownFrame } from './scene.ts';
import { VblankClock, VblankTimer } from '../../src/core/vblank.ts';

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

/**
 * A monitor nobody looks at, with the manners of a real one: a frame waits for the next vertical
 * blank, buffers come back when they have left the screen. It takes any picture
 * size as it is, so what `capture` returns is the guest's picture pixel for pixel. Between frames
 * nothing runs.
 */
export class HeadlessOutput implements Output {
  readonly name: string;
  readonly monitor: Monitor;
  readonly imports = new FormatSet(FORMATS.map((format) => [format, DRM_FORMAT_MOD_LINEAR] as const));
  readonly readsPages = false;
  readonly takesFences = false;
  readonly shadowFormats = FORMATS;
  readonly maxCursor = MAX_CURSOR;
  readonly #clock: VblankClock;
  readonly #frameListeners = new Set<(frame: ShownFrame) => void>();
  readonly #tellFrame = (listener: (frame: ShownFrame) => void): void => listener(this.#shown);
  readonly #blankListeners = new Set<() => void>();
  #settling: (() => void)[] = [];
  readonly #timer = new VblankTimer(() => this.#vblank());
  #listener: OutputListener | null = null;
  #shown = new Scene();
  #waiting = new Scene();
  #isWaiting = false;
  /** The vertical blank the waiting frame is for. */
  #dueSequence = 0;
  #disposed = false;

  private constructor(name: string, monitor: Monitor) {
    this.name = name;
    this.monitor = monitor;
    this.#clock = new VblankClock(monitor.refreshMhz);
  }

  /** Throws UsageError for a mode out of range. */
  static open(options: HeadlessOptions): HeadlessOutput {
    const { width, height, refreshMhz = DEFAULT_REFRESH_MHZ, name = 'headless' } = options;
    if (!isWithin(width, MAX_SIDE) || !isWithin(height, MAX_SIDE)) {
      throw new UsageError(`headless: ${width}x${height} is not a screen size; each side is 1 to ${MAX_SIDE} pixels`);
    }
    if (!isWithin(refreshMhz, MAX_REFRESH_MHZ)) {
      throw new UsageError(`headless: a refresh of ${refreshMhz / 1000} Hz is not possible; it is above 0 and at most ${MAX_REFRESH_MHZ / 1000}`);
    }
    return new HeadlessOutput(name, virtualMonitor(name, width, height, refreshMhz));
  }

  listen(listener: OutputListener): void {
    this.#listener = listener;
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf') return new DmabufImportRefused('format', 'headless: imports dma-bufs, not guest pages');
    if (!FORMATS.includes(format)) return new DmabufImportRefused('format', 'headless: imports XRGB8888 and ARGB8888 only');
    if (modifier !== DRM_FORMAT_MOD_LINEAR) return new DmabufImportRefused('modifier', 'headless: imports linear buffers only');
    return HeadlessBuffer.import(framebuffer, backing.dmabuf);
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    if (!FORMATS.includes(format)) throw new TypeError('headless: shadows are XRGB8888 or ARGB8888');
    return HeadlessBuffer.shadow(width, height, format);
  }

  present(frame: Frame): void {
    if (this.#disposed) throw new Error('headless: present after dispose');
    if (this.#isWaiting) throw new Error('headless: present while a frame is in flight');
    const primary = usable(frame.primary.handle);
    const cursor = usable(frame.cursor.handle);
    primary?.acquire();
    cursor?.acquire();
    this.#isWaiting = true;
    this.#waiting.set(frame, primary, cursor, this.#shown);
    this.#dueSequence = this.#timer.set(this.#clock);
  }

  /**
   * What is on screen now, as a picture of the caller's; null while nothing is. Of a `region`, which lies within the
   * screen, only that is captured. Throws SysError if a dma-buf cannot be read.
   */
  capture({ cursor = true, region }: { readonly cursor?: boolean; readonly region?: Rect } = {}): Picture | null {
    const shown = this.#shown;
    return shown.isDark ? null : compose(shown, cursor, region ?? { x: 0, y: 0, width: shown.width, height: shown.height });
  }

  /** Calls `listener` each time a frame has come on screen, until the function returned is called. */
  onFrame(listener: (frame: ShownFrame) => void): () => void {
    this.#frameListeners.add(listener);
    return () => this.#frameListeners.delete(listener);
  }

  /** The same for a screen about to go dark: `capture` still gives the picture it goes from. */
  onBlank(listener: () => void): () => void {
    this.#blankListeners.add(listener);
    return () => this.#blankListeners.delete(listener);
  }

  /** Resolves when what was presented is on screen and nothing followed it; at once on dispose. */
  settled(): Promise<void> {
    return this.#isWaiting ? new Promise((resolve) => this.#settling.push(resolve)) : Promise.resolve();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#timer[Symbol.dispose]();
    clear(this.#waiting);
    clear(this.#shown);
    this.#listener = null;
    this.#isWaiting = false;
    this.#frameListeners.clear();
    this.#blankListeners.clear();
    this.#tellSettled();
  }

  #vblank(): void {
    if (!this.#shown.isDark && this.#waiting.isDark) this.#blankListeners.forEach(call);
    const gone = this.#shown;
    const primary = gone.primary.buffer;
    const cursor = gone.cursor.buffer;
    clear(gone);
    this.#shown = this.#waiting;
    this.#waiting = gone;
    this.#isWaiting = false;
    const sequence = Math.max(this.#dueSequence, this.#clock.sequenceAt(monotonicMs()));
    this.#shown.sequence = sequence;
    this.#shown.timeMs = this.#clock.timeOf(sequence);
    const flags = PresentedFlags.VSYNC | (this.#shown.primary.buffer?.isImport ? PresentedFlags.ZERO_COPY : 0);
    // Each listener may dispose us.
    if (primary && !primary.isUsed) this.#listener?.released(primary);
    if (cursor && cursor !== primary && !cursor.isUsed) this.#listener?.released(cursor);
    this.#listener?.presented(this.#shown.timeMs, this.monitor.refreshMhz, sequence, flags);
    this.#frameListeners.forEach(this.#tellFrame);
    if (this.#settling.length > 0) this.#tellSettled();
  }

  #tellSettled(): void {
    if (this.#isWaiting) return;
    const settling = this.#settling;
    this.#settling = [];
    settling.forEach(call);
  }
}

/** Lets go of the buffers. */
function clear(scene: Scene): void {
  scene.primary.buffer?.release();
  scene.cursor.buffer?.release();
  scene.primary.buffer = null;
  scene.cursor.buffer = null;
}

function call(listener: () => void): void {
  listener();
}

function isWithin(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= max;
}

function usable(handle: Handle | null): HeadlessBuffer | null {
  if (handle === null) return null;
  if (!(handle instanceof HeadlessBuffer) || handle.isFreed) throw new TypeError('headless: present of a handle that is not its own or was disposed');
  return handle;
}
