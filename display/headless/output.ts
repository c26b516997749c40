import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { UsageError } from '../../src/core/errors.ts';
import { FormatSet } from '../../src/core/format-set.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
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
import { compose } from './compose.ts';
import { Scene } from './scene.ts';
import { VblankClock } from './vblank-clock.ts';

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
 * blank, the newest wins, buffers come back when they have left the screen. It takes any picture
 * size as it is, so what `capture` returns is the guest's picture pixel for pixel. Between frames
 * nothing runs.
 */
export class HeadlessOutput implements Output {
  readonly name: string;
  readonly monitor: Monitor;
  readonly imports = new FormatSet(FORMATS.map((format) => [format, DRM_FORMAT_MOD_LINEAR] as const));
  readonly readsPages = false;
  readonly shadowFormats = FORMATS;
  readonly maxCursor = MAX_CURSOR;
  readonly #clock: VblankClock;
  readonly #frameListeners = new Set<() => void>();
  readonly #tick = (): void => this.#vblank();
  #listener: OutputListener | null = null;
  #shown = new Scene();
  #waiting = new Scene();
  /** Whether `#shown` and `#waiting` hold a frame. */
  #hasShown = false;
  #hasWaiting = false;
  #serial = 0;
  #timer: NodeJS.Timeout | null = null;
  #timerSequence = 0;
  /** Buffers whose last frame went, up to `#retiringCount`; the array is kept at its longest. */
  readonly #retiring: (HeadlessBuffer | null)[] = [];
  #retiringCount = 0;
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

  present(frame: Frame): number {
    if (this.#disposed) throw new Error('headless: present after dispose');
    const primary = usable(frame.primary.handle);
    const cursor = usable(frame.cursor.handle);
    primary?.acquire();
    cursor?.acquire();
    if (this.#hasWaiting) this.#retire(this.#waiting);
    else this.#arm();
    this.#hasWaiting = true;
    this.#waiting.width = frame.canvas.width;
    this.#waiting.height = frame.canvas.height;
    this.#waiting.primary.set(frame.primary, primary);
    this.#waiting.cursor.set(frame.cursor, cursor);
    return ++this.#serial;
  }

  /** What is on screen now, as a picture of the caller's; null while nothing is. Throws SysError if a dma-buf cannot be read. */
  capture(options: { readonly cursor: boolean } = { cursor: true }): Picture | null {
    return this.#hasShown && this.#shown.primary.buffer ? compose(this.#shown, options.cursor) : null;
  }

  /** Calls `listener` each time a frame has come on screen, until the function returned is called. */
  onFrame(listener: () => void): () => void {
    this.#frameListeners.add(listener);
    return () => this.#frameListeners.delete(listener);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#hasWaiting) this.#retire(this.#waiting);
    if (this.#hasShown) this.#retire(this.#shown);
    this.#hasWaiting = false;
    this.#hasShown = false;
    this.#retiring.length = 0;
    this.#retiringCount = 0;
    this.#frameListeners.clear();
  }

  #arm(): void {
    const now = monotonicMs();
    this.#timerSequence = this.#clock.sequenceAt(now) + 1;
    this.#timer = setTimeout(this.#tick, Math.ceil(this.#clock.timeOf(this.#timerSequence) - now));
  }

  #vblank(): void {
    const now = monotonicMs();
    const early = this.#clock.timeOf(this.#timerSequence) - now;
    if (early > 0) {
      // Timers count whole milliseconds from a truncated clock.
      this.#timer = setTimeout(this.#tick, Math.ceil(early));
      return;
    }
    this.#timer = null;
    const gone = this.#shown;
    if (this.#hasShown) this.#retire(gone);
    this.#shown = this.#waiting;
    this.#waiting = gone;
    this.#hasShown = true;
    this.#hasWaiting = false;
    this.#tell(Math.max(this.#timerSequence, this.#clock.sequenceAt(now)));
  }

  #tell(sequence: number): void {
    const flags = PresentedFlags.VSYNC | (this.#shown.primary.buffer?.isImport ? PresentedFlags.ZERO_COPY : 0);
    const told = this.#retiringCount;
    this.#listener?.presented(this.#serial, this.#clock.timeOf(sequence), this.monitor.refreshMhz, sequence, flags);
    this.#frameListeners.forEach(call);
    for (let i = 0; i < told && !this.#disposed; i++) {
      const buffer = this.#retiring[i]!;
      buffer.retiring = false;
      // A listener may have presented it anew; its release comes when it leaves again.
      if (!buffer.isUsed) this.#listener?.released(buffer);
    }
    if (this.#disposed) return;
    // What listeners retired meanwhile waits for the vertical blank they armed.
    this.#retiring.copyWithin(0, told, this.#retiringCount);
    this.#retiringCount -= told;
    this.#retiring.fill(null, this.#retiringCount, this.#retiringCount + told);
  }

  #retire(scene: Scene): void {
    this.#retireBuffer(scene.primary.buffer);
    this.#retireBuffer(scene.cursor.buffer);
    scene.primary.buffer = null;
    scene.cursor.buffer = null;
  }

  #retireBuffer(buffer: HeadlessBuffer | null): void {
    if (!buffer) return;
    buffer.release();
    if (buffer.isUsed || buffer.retiring) return;
    buffer.retiring = true;
    this.#retiring[this.#retiringCount++] = buffer;
  }
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
