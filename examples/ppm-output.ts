/** An output of your own: every frame's damage becomes a PPM picture, named after its frame and its place on the screen. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type AttachOptions,
  Damage,
  DmabufImportRefused,
  DRM_FORMAT,
  FormatSet,
  type Fourcc,
  type Frame,
  type Handle,
  Mapping,
  type Output,
  PresentedFlags,
  type Rect,
  type ScreenListener,
  type Shadow,
  virtualMonitor,
} from 'scanout-bridge';

const REFRESH_MS = 1000 / 60;

/** Memory that the bridge copies the guest's damage into. */
class MemoryShadow implements Shadow {
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly stride: number;
  readonly pixels: Mapping;
  isDisposed = false;
  #isHeld = false;

  constructor(width: number, height: number, format: Fourcc) {
    this.width = width;
    this.height = height;
    this.format = format;
    this.stride = width * 4;
    this.pixels = Mapping.anonymous(this.stride * height);
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  hold(): void {
    this.#isHeld = true;
  }

  release(): void {
    this.#isHeld = false;
    if (this.isDisposed) this.pixels[Symbol.dispose]();
  }

  // Hardware may need the CPU's caches flushed here; memory does not.
  beginWrite(): void {}
  endWrite(): void {}

  /** A held buffer stays until the screen no longer reads it. */
  [Symbol.dispose](): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    if (!this.#isHeld) this.pixels[Symbol.dispose]();
  }
}

export class PpmOutput implements Output {
  readonly name = 'ppm';
  readonly monitor;
  /** Nothing is imported, so the bridge copies what changed into shadows. */
  readonly imports = new FormatSet();
  readonly readsPages = false;
  readonly takesFences = false;
  readonly shadowFormats = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
  readonly maxCursor = { width: 64, height: 64 };
  readonly #folder: string;
  #listener: ScreenListener | null = null;
  /** What `attach` returned. A listener may detach and attach again from inside a call. */
  #attachment: Disposable | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** On screen, and presented for the next refresh. Cursors are not drawn, so they are never held. */
  #shown: MemoryShadow | null = null;
  #next: MemoryShadow | null = null;
  /** A frame is the caller's and reused, so its damage is copied. */
  readonly #damage = new Damage();
  #frames = 0;

  constructor(folder: string, width: number, height: number) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.monitor = virtualMonitor('ppm', width, height, 60_000);
  }

  get frames(): number {
    return this.#frames;
  }

  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#listener) throw new Error('ppm: another listener is attached');
    this.#listener = listener;
    const attachment = {
      [Symbol.dispose]: () => {
        if (this.#attachment !== attachment) return;
        this.#listener = this.#attachment = null;
        this.#finish();
        if (!keepLast) this.#replace(null);
      },
    };
    this.#attachment = attachment;
    return attachment;
  }

  import(): Handle | DmabufImportRefused {
    return new DmabufImportRefused('format', 'ppm: imports nothing');
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    return new MemoryShadow(width, height, format);
  }

  present(frame: Frame): void {
    if (!this.#listener) throw new Error('ppm: present while nothing is attached');
    if (this.#timer) throw new Error('ppm: present while a frame is in flight');
    const shadow = frame.primary.handle as MemoryShadow | null;
    this.#next = shadow?.isDisposed === false ? shadow : null;
    this.#next?.hold();
    this.#damage.clear();
    this.#damage.addAll(frame.damage);
    // Never call the listener from here: completion comes later, from a timer.
    this.#timer = setTimeout(() => this.#vblank(), REFRESH_MS);
  }

  [Symbol.dispose](): void {
    this.#listener = this.#attachment = null;
    this.#finish();
    this.#replace(null);
  }

  #vblank(): void {
    const listener = this.#listener;
    const attachment = this.#attachment;
    const before = this.#finish();
    this.#frames++;
    if (this.#shown) this.#write(this.#shown);
    // The listener is told after the output's own state is right.
    if (before && !before.isHeld) listener?.released(before);
    if (attachment === this.#attachment) {
      const { refreshMhz } = this.monitor;
      listener?.presented({
        timeMs: performance.now(),
        refreshMhz,
        sequence: this.#frames,
        flags: PresentedFlags.VSYNC,
      });
    }
  }

  /** What is in flight is on screen now. Returns what it replaced. */
  #finish(): MemoryShadow | null {
    if (!this.#timer) return null;
    clearTimeout(this.#timer);
    this.#timer = null;
    const next = this.#next;
    this.#next = null;
    return this.#replace(next);
  }

  #replace(next: MemoryShadow | null): MemoryShadow | null {
    const before = this.#shown;
    this.#shown = next;
    if (before !== next) before?.release();
    return before;
  }

  #write(shadow: MemoryShadow): void {
    for (let i = 0; i < this.#damage.count; i++) {
      const rect = {
        x: this.#damage.x(i),
        y: this.#damage.y(i),
        width: this.#damage.width(i),
        height: this.#damage.height(i),
      };
      const name = `${String(this.#frames).padStart(5, '0')}-${i}-${rect.x}-${rect.y}.ppm`;
      writeFileSync(join(this.#folder, name), ppm(shadow, rect));
    }
  }
}

/** Binary PPM: a line of text, then R, G, B of each pixel. XRGB8888 is B, G, R, X in memory. */
function ppm(shadow: Shadow, { x, y, width, height }: Rect): Uint8Array {
  const { bytes } = shadow.pixels;
  const rgb = new Uint8Array(width * height * 3);
  let to = 0;
  for (let row = y; row < y + height; row++) {
    for (let column = x; column < x + width; column++) {
      const from = row * shadow.stride + column * 4;
      rgb[to++] = bytes[from + 2]!;
      rgb[to++] = bytes[from + 1]!;
      rgb[to++] = bytes[from]!;
    }
  }
  return Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), rgb]);
}
