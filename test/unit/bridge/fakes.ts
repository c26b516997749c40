import { vi } from 'vitest';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../src/core/damage.ts';
import { FormatSet, type Framebuffer, newFramebufferId } from '../../../src/core/framebuffer.ts';
import { type Monitor, virtualMonitor } from '../../../src/core/monitor.ts';
import {
  type AttachOptions,
  DmabufImportRefused,
  type Frame,
  type Handle,
  type Output,
  type RefusalCode,
  type ScreenListener,
  type Shadow,
} from '../../../src/core/output.ts';
import type { Picture } from '../../../src/core/picture.ts';
import { type Flush, type ScanoutId, type Source, type SourceSink } from '../../../src/core/source.ts';
import type { BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { createMemfd, F_SEAL_SHRINK } from '../../../src/sys/memfd.ts';
import { PageRuns } from '../../../src/sys/page-runs.ts';

const PAGE = 4096;

/** A picture in memfd pages that lie in reverse order, as a fragmented guest would have them. */
export class GuestPicture implements Disposable {
  readonly framebuffer: Framebuffer;
  readonly pixels: Mapping;
  readonly #memfd;

  constructor(width: number, height: number, format: Fourcc = DRM_FORMAT.XRGB8888) {
    const stride = width * 4;
    const pages = Math.ceil((stride * height) / PAGE);
    this.#memfd = createMemfd('guest', pages * PAGE, F_SEAL_SHRINK);
    const memfd = this.#memfd;
    const ranges = Array.from({ length: pages }, (_, i) => ({ memfd, offset: (pages - 1 - i) * PAGE, length: PAGE }));
    this.pixels = Mapping.linear(
      ranges.map(({ memfd: fd, offset, length }) => ({ fd, offset, length })),
      'read-write',
    );
    this.framebuffer = {
      id: newFramebufferId(),
      width,
      height,
      format,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride }],
      backing: { kind: 'pages', isBlob: true, ranges: PageRuns.of(ranges), pixels: () => this.pixels },
    };
  }

  /** The same pixels described as a dma-buf. The descriptor is a memfd, which FakeOutput never opens. */
  get asDmabuf(): Framebuffer {
    return { ...this.framebuffer, backing: { kind: 'dmabuf', dmabuf: this.#memfd } };
  }

  /** `asDmabuf` with pixels that the CPU can read; a test that has it copied stands in for `readDmabuf`. */
  get asReadableDmabuf(): Framebuffer {
    return { ...this.framebuffer, backing: { kind: 'dmabuf', dmabuf: this.#memfd, pixels: () => this.pixels } };
  }

  fill(x: number, y: number, width: number, height: number, value: number): void {
    const { stride } = this.framebuffer.planes[0]!;
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++)
        this.pixels.view.setUint32(row * stride + column * 4, value, true);
    }
  }

  /** Rows of a rectangle of the picture, tightly packed. */
  read(x = 0, y = 0, width = this.framebuffer.width, height = this.framebuffer.height): Uint8Array {
    return cut(this.pixels.bytes, this.framebuffer.planes[0]!.stride, x, y, width, height);
  }

  /** Gives every pixel a colour unlike its neighbours'. */
  noise(seed = 1): void {
    let state = seed;
    for (let y = 0; y < this.framebuffer.height; y++) {
      for (let x = 0; x < this.framebuffer.width; x++)
        this.fill(x, y, 1, 1, (state = (Math.imul(state, 1103515245) + 12345) & 0xffffff));
    }
  }

  /** The picture as a screen shows it. */
  get rgb(): Picture {
    const { width, height } = this.framebuffer;
    const bytes = this.read();
    const data = new Uint8Array(bytes.length).fill(255);
    for (let at = 0; at < bytes.length; at += 4)
      for (let channel = 0; channel < 3; channel++) data[at + channel] = bytes[at + 2 - channel]!;
    return { width, height, data };
  }

  [Symbol.dispose](): void {
    this.pixels[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
  }
}

function cut(bytes: Uint8Array, stride: number, x: number, y: number, width: number, height: number): Uint8Array {
  const out = new Uint8Array(width * height * 4);
  for (let row = 0; row < height; row++)
    out.set(bytes.subarray((y + row) * stride + x * 4, (y + row) * stride + (x + width) * 4), row * width * 4);
  return out;
}

class FakeShadow implements Shadow {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly memory: Mapping;
  isHeld = false;
  isDisposed = false;
  #isWriting = false;

  constructor(width: number, height: number, format: Fourcc) {
    this.format = format;
    this.width = width;
    this.height = height;
    this.stride = width * 4 + 64;
    this.memory = Mapping.anonymous(this.stride * height);
  }

  get pixels(): Mapping {
    if (!this.#isWriting) throw new Error('written before beginWrite');
    return this.memory;
  }

  beginWrite(): void {
    if (this.#isWriting) throw new Error('begun twice');
    this.#isWriting = true;
  }

  endWrite(): void {
    if (!this.#isWriting) throw new Error('ended twice');
    this.#isWriting = false;
  }

  [Symbol.dispose](): void {
    this.isDisposed = true;
    this.memory[Symbol.dispose]();
  }
}

export class FakeHandle implements Handle {
  isHeld = false;
  isDisposed = false;

  [Symbol.dispose](): void {
    this.isDisposed = true;
  }
}

type FakeBuffer = FakeHandle | FakeShadow;

/** An output whose vertical blanks and answers to `import` the test controls. */
export class FakeOutput implements Output {
  readonly name: string;
  monitor: Monitor | null;
  readonly imports: FormatSet;
  readonly readsPages: boolean;
  takesFences = false;
  isHidden = false;
  readonly shadowFormats: readonly Fourcc[];
  readonly maxCursor = { width: 64, height: 64 };
  readonly presents: {
    handle: Handle | null;
    canvas: string;
    damage: number[][];
    cursor: Handle | null;
    acquire: BorrowedFd | null;
  }[] = [];
  /** Every handle ever made, and its framebuffer. */
  readonly imported: { readonly framebuffer: Framebuffer; readonly handle: FakeHandle }[] = [];
  /** Called after each `present` has returned. */
  onPresent: (() => void) | null = null;
  /** Makes the release fence of each frame that asks for one. */
  giveFence: (() => OwnedFd) | null = null;
  refuse: RefusalCode | null = null;
  importCount = 0;
  failShadows = false;
  #listener: ScreenListener | null = null;
  #shown: FakeBuffer | null = null;
  #pending: FakeBuffer | null = null;
  #cursor: FakeBuffer | null = null;
  #isInFlight = false;

  constructor(
    options: {
      name?: string;
      size?: readonly [width: number, height: number];
      readsPages?: boolean;
      imports?: FormatSet;
      shadowFormats?: readonly Fourcc[];
    } = {},
  ) {
    this.imports = options.imports ?? new FormatSet();
    this.name = options.name ?? 'fake';
    this.monitor = virtualMonitor('fake', ...(options.size ?? [64, 48]), 60_000);
    this.readsPages = options.readsPages ?? false;
    this.shadowFormats = options.shadowFormats ?? [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
  }

  attach(listener: ScreenListener, { keepLast = false }: AttachOptions = {}): Disposable {
    if (this.#listener) throw new Error(`${this.name} is taken`);
    this.#listener = listener;
    return {
      [Symbol.dispose]: () => {
        if (this.#listener !== listener) return;
        this.#listener = null;
        if (keepLast && this.#isInFlight) this.#turn();
        else if (!keepLast) this.#clear();
        this.#isInFlight = false;
      },
    };
  }

  get isAttached(): boolean {
    return this.#listener !== null;
  }

  /** What is on screen. */
  get shown(): Handle | null {
    return this.#shown;
  }

  /** The attached listener, for input. */
  get screen(): ScreenListener {
    return this.#listener!;
  }

  /** Handles not disposed yet. */
  get live(): FakeHandle[] {
    return this.imported.map(({ handle }) => handle).filter(({ isDisposed }) => !isDisposed);
  }

  import(framebuffer: Framebuffer): Handle | DmabufImportRefused {
    this.importCount++;
    if (this.refuse) return new DmabufImportRefused(this.refuse, 'told to refuse');
    const handle = new FakeHandle();
    this.imported.push({ framebuffer, handle });
    return handle;
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    if (this.failShadows) throw new Error('told to fail');
    return new FakeShadow(width, height, format);
  }

  present(frame: Frame): void {
    const { damage } = frame;
    if (!this.#listener) throw new Error(`${this.name}: present while nothing is attached`);
    if (this.#isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    for (const { handle } of [frame.primary, frame.cursor]) {
      if ((handle as FakeBuffer | null)?.isDisposed)
        throw new Error(`${this.name}: present of a handle that was disposed`);
    }
    this.#isInFlight = true;
    this.#pending = frame.primary.handle as FakeBuffer | null;
    if (this.#pending) this.#pending.isHeld = true;
    if (this.#cursor) this.#cursor.isHeld = false;
    this.#cursor = frame.cursor.handle as FakeBuffer | null;
    if (this.#cursor) this.#cursor.isHeld = true;
    this.presents.push({
      handle: frame.primary.handle,
      canvas: `${frame.canvas.width}x${frame.canvas.height}`,
      damage: Array.from({ length: damage.count }, (_, i) => [
        damage.x(i),
        damage.y(i),
        damage.width(i),
        damage.height(i),
      ]),
      cursor: frame.cursor.handle,
      acquire: frame.acquire,
    });
    if (this.giveFence) frame.release?.(this.giveFence());
    if (this.onPresent) queueMicrotask(this.onPresent);
  }

  /** The vertical blank at `timeMs`: the pending frame is on screen, and what it replaced is released unless `keepReplaced`. */
  vblank(options: { keepReplaced?: boolean; timeMs?: number } = {}): Handle | null {
    const replaced = this.#shown;
    this.#shown = this.#pending;
    this.#isInFlight = false;
    const isReplaced = replaced !== null && replaced !== this.#shown;
    if (isReplaced && !options.keepReplaced) this.release(replaced);
    this.#listener!.presented({ timeMs: options.timeMs ?? 0, refreshMhz: 60_000, sequence: 0, flags: 0 });
    return isReplaced ? replaced : null;
  }

  release(handle: Handle): void {
    (handle as FakeBuffer).isHeld = false;
    this.#listener!.released(handle);
  }

  /** Null unplugs the monitor. */
  plug(monitor: Monitor | null): void {
    this.monitor = monitor;
    this.#listener?.resized(monitor);
  }

  changeImports(): void {
    this.#listener!.importsChanged();
  }

  lose(): void {
    this.#listener!.closed('told to close');
  }

  /** The pixels of the last presented shadow, tightly packed. */
  picture(): Uint8Array {
    const shadow = this.presents.at(-1)!.handle as FakeShadow;
    return cut(shadow.memory.bytes, shadow.stride, 0, 0, shadow.width, shadow.height);
  }

  [Symbol.dispose](): void {
    this.#listener = null;
    this.#clear();
  }

  #turn(): void {
    if (this.#shown && this.#shown !== this.#pending) this.#shown.isHeld = false;
    this.#shown = this.#pending;
  }

  #clear(): void {
    for (const buffer of [this.#shown, this.#pending, this.#cursor]) if (buffer) buffer.isHeld = false;
    this.#shown = this.#pending = this.#cursor = null;
  }
}

const FIRST = 0;

/** A guest that the test controls. */
export class FakeSource implements Source {
  readonly scanouts = 2;
  budget = new MemoryBudget(Infinity);
  readonly monitors: (Monitor | null)[] = [];
  sink!: SourceSink;

  connect(sink: SourceSink): void {
    this.sink = sink;
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.monitors[id] = monitor;
  }

  show(framebuffer: Framebuffer): void {
    this.sink.scanout(FIRST, framebuffer, { x: 0, y: 0, width: framebuffer.width, height: framebuffer.height });
  }

  flush(
    x: number,
    y: number,
    width: number,
    height: number,
    isFenced = true,
    scanout = FIRST,
    isPaced = false,
  ): Flush & { done: ReturnType<typeof vi.fn> } {
    const damage = new Damage();
    damage.add(x, y, width, height);
    const flush = { isFenced, isPaced, done: vi.fn() };
    this.sink.flush(scanout, damage, flush);
    return flush;
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }
}
