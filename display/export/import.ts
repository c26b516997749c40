/** `scanout-bridge/import`: a guest's pictures in another process, by the protocol of docs/export.md. */
import {
  EXPORT_ERROR,
  EXPORT_EVENT,
  EXPORT_FRAME_ACQUIRE,
  EXPORT_FRAME_NEW_CURSOR,
  EXPORT_ID_SIZE,
  EXPORT_KIND,
  EXPORT_MAX_DAMAGE,
  EXPORT_NO_SCANOUT,
  EXPORT_RELEASE_FENCE,
  EXPORT_REQUEST,
  EXPORT_VERSION,
  export_error,
  export_exported,
  export_frame,
  export_gone,
  export_hello,
  export_import,
  export_imported,
  export_layer,
  export_rect,
  export_release,
  export_revoked,
} from '../../protocols/export.ts';
import { DMA_BUF_SYNC_READ } from '../../protocols/dma-buf.ts';
import {
  DRM_FORMAT,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  formatInfo,
  formatName,
  type Modifier,
} from '../../protocols/drm-fourcc.ts';
import { formatBufferId } from '../../src/core/buffer-id.ts';
import type { MemoryPlane, PixelLayout } from '../../src/core/framebuffer.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { dmabufSize, waitReadable, withCpuAccess } from '../../src/sys/dma-buf.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { isSyncFile } from '../../src/sys/fence-wait.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { F_SEAL_SHRINK, getSeals } from '../../src/sys/memfd.ts';
import { Poll } from '../../src/sys/poll.ts';
import { Pump } from '../../src/sys/pump.ts';
import { connectUnix, UnixConnection } from '../../src/sys/socket.ts';
import { BGRA, type ByteOrder, compose, Layer, type LayerBuffer } from '../headless/scene.ts';
import { ExportError } from './errors.ts';
import { message, MessageReader } from './messages.ts';

export { ExportError };

/** A bridge greets at once. */
const HELLO_MS = 5000;
/** A device draws a picture in less, or something is wrong. */
const MAX_WAIT_MS = 50;
const MAX_FDS = 64;
/** Frames that are not released: more than a bridge sends of all the monitors a guest can have, two of each. */
const MAX_FRAMES = 64;
/** Buffers of guest programs: as many as a guest can have. */
const MAX_EXPORTED = 4096;
/** Layers of the last frames, whose like are not read again: those of a few monitors, two or three each. */
const MAX_RECENT = 16;
/** Of a frame, as for PNG files. */
const MAX_PIXELS = 2 ** 27;

/** Without HELLO, by which another version is told. */
const SIZES: ReadonlyMap<number, number> = new Map([
  [EXPORT_EVENT.FRAME, export_frame.size],
  [EXPORT_EVENT.EXPORTED, export_exported.size],
  [EXPORT_EVENT.GONE, export_gone.size],
  [EXPORT_EVENT.REVOKED, export_revoked.size],
  [EXPORT_EVENT.IMPORTED, export_imported.size],
  [EXPORT_EVENT.ERROR, export_error.size],
]);

const NO_ID = new Uint8Array(EXPORT_ID_SIZE);

const RGBA: ByteOrder = { red: 0, green: 1, blue: 2, alpha: 3 };
const ARGB: ByteOrder = { red: 1, green: 2, blue: 3, alpha: 0 };
const ABGR: ByteOrder = { red: 3, green: 2, blue: 1, alpha: 0 };

/** The formats that `ExportedFrame.picture` reads. */
const ORDERS: ReadonlyMap<Fourcc, ByteOrder> = new Map([
  [DRM_FORMAT.XRGB8888, BGRA],
  [DRM_FORMAT.ARGB8888, BGRA],
  [DRM_FORMAT.XBGR8888, RGBA],
  [DRM_FORMAT.ABGR8888, RGBA],
  [DRM_FORMAT.RGBX8888, ABGR],
  [DRM_FORMAT.RGBA8888, ABGR],
  [DRM_FORMAT.BGRX8888, ARGB],
  [DRM_FORMAT.BGRA8888, ARGB],
]);

/** A buffer of the guest, or a copy of it, in this process. The display owns it and its descriptor. */
export class ImportedBuffer {
  /** 16 bytes, and as UUIDs are written. */
  readonly id: Uint8Array;
  readonly uuid: string;
  /** `dmabuf`: the guest's own pages. `memfd`: a copy, which can be mapped for reading only. */
  readonly kind: 'dmabuf' | 'memfd';
  readonly byteLength: number;
  /** Called once, when the bridge has said that the buffer is gone; `fd` closes after it, when no frame has it. */
  onGone: (() => void) | null = null;
  readonly #fd: OwnedFd;
  #mapping: Mapping | null = null;
  /** How many frames have it, and whether it can be imported no longer: then the last of them closes it. */
  #users = 0;
  #isGone = false;

  /** @internal Consumes `fd`. ExportError `protocol` for a descriptor of another kind. */
  constructor(id: Uint8Array, kind: number, byteLength: number, fd: OwnedFd) {
    this.id = id;
    this.uuid = formatBufferId(id);
    this.kind = kind === EXPORT_KIND.DMABUF ? 'dmabuf' : 'memfd';
    this.#fd = fd;
    try {
      // Memory that shrinks while it is read would kill this process.
      if (this.kind === 'memfd' && (getSeals(fd) & F_SEAL_SHRINK) === 0)
        throw new ExportError('protocol', 'the bridge sent memory that is not sealed');
      this.byteLength = byteLength > 0 ? byteLength : dmabufSize(fd);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Open until the bridge has said that the buffer is gone, and no frame has it: `dup` it to keep it. */
  get fd(): BorrowedFd {
    return this.#fd;
  }

  /**
   * Calls `look` with all of its bytes, which it may read during the call. SysError EBUSY if a device still draws into
   * it, ENOTTY, EINVAL or ENOMEM if it cannot be mapped.
   */
  read<T>(look: (memory: Uint8Array) => T): T {
    if (this.kind === 'memfd') return look(this.#map().bytes);
    if (!waitReadable(this.#fd, MAX_WAIT_MS))
      throw new SysError('poll', 'EBUSY', 'a device still writes to the dma-buf');
    // Fails for anything but a dma-buf, which any other file could be truncated under the mapping.
    return withCpuAccess(this.#fd, DMA_BUF_SYNC_READ, () => look(this.#map().bytes));
  }

  /** @internal */
  get isOpen(): boolean {
    return !this.#fd.closed;
  }

  /** @internal A frame has it. */
  acquire(): void {
    this.#users++;
  }

  /** @internal Undoes one `acquire`. */
  release(): void {
    this.#users--;
    if (this.#isGone && this.#users === 0) this.#close();
  }

  /** @internal */
  gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.onGone?.();
    if (this.#users === 0) this.#close();
  }

  #map(): Mapping {
    return (this.#mapping ??= Mapping.file(this.#fd, 0, this.byteLength, 'read'));
  }

  #close(): void {
    this.#mapping?.[Symbol.dispose]();
    this.#mapping = null;
    this.#fd[Symbol.dispose]();
  }
}

/** One layer of a frame: `src` of the buffer's picture at `dst` of the frame. */
export interface ExportedLayer extends PixelLayout {
  readonly buffer: ImportedBuffer;
  readonly src: Rect;
  readonly dst: Rect;
}

interface FrameFields {
  readonly scanout: number | null;
  readonly serial: number;
  readonly width: number;
  readonly height: number;
  readonly primary: ExportedLayer | null;
  readonly cursor: ExportedLayer | null;
  readonly hotspotX: number;
  readonly hotspotY: number;
  readonly isCursorNew: boolean;
  readonly damage: readonly Rect[];
}

/** A picture of the guest. Dispose it when it is read: the guest waits for that before it draws into its buffers again. */
export class ExportedFrame implements Disposable {
  /** Which of the guest's monitors, counted from 0; null for a buffer that a guest program announced. */
  readonly scanout: number | null;
  readonly serial: number;
  /** In pixels; 0 while the scanout is off. */
  readonly width: number;
  readonly height: number;
  /** Null while the scanout is off. */
  readonly primary: ExportedLayer | null;
  /** Premultiplied; its `dst` may reach beyond the frame. */
  readonly cursor: ExportedLayer | null;
  readonly hotspotX: number;
  readonly hotspotY: number;
  readonly isCursorNew: boolean;
  /** What changed since the last frame of this scanout, in the primary buffer's pixels. */
  readonly damage: readonly Rect[];
  readonly #release: (frame: ExportedFrame, fence: BorrowedFd | null) => void;
  #isRevoked = false;
  #isReleased = false;
  #isClosed = false;

  /** @internal */
  constructor(fields: FrameFields, release: (frame: ExportedFrame, fence: BorrowedFd | null) => void) {
    this.scanout = fields.scanout;
    this.serial = fields.serial;
    this.width = fields.width;
    this.height = fields.height;
    this.primary = fields.primary;
    this.cursor = fields.cursor;
    this.hotspotX = fields.hotspotX;
    this.hotspotY = fields.hotspotY;
    this.isCursorNew = fields.isCursorNew;
    this.damage = fields.damage;
    this.#release = release;
  }

  /** The bridge has lost patience: what is read from now on may be a later picture. Dispose the frame all the same. */
  get isRevoked(): boolean {
    return this.#isRevoked;
  }

  /**
   * A copy of it, as a screen would show it; null while the scanout is off. ExportError `closed` if the bridge has
   * ended meanwhile, `protocol` for a format other than the eight of virtio-gpu, or for a layout that reaches past the
   * end of the buffer; SysError as for `ImportedBuffer.read`.
   */
  picture({ cursor = true }: { readonly cursor?: boolean } = {}): Picture | null {
    if (this.#isClosed) throw new ExportError('closed', 'the bridge has ended, and its buffers with it');
    if (this.#isReleased) throw new Error('frame used after dispose');
    const { width, height } = this;
    if (!this.primary) return null;
    const layers = { primary: layerOf(this.primary), cursor: layerOf(cursor ? this.cursor : null) };
    return compose(layers, cursor, { x: 0, y: 0, width, height });
  }

  /** As dispose, for pixels that a device still reads until `fence`, a sync_file that stays the caller's, signals. */
  releaseAt(fence: BorrowedFd): void {
    this.#end(fence);
  }

  [Symbol.dispose](): void {
    this.#end(null);
  }

  /** @internal */
  revoked(): void {
    this.#isRevoked = true;
  }

  /** @internal The display has ended. */
  closed(): void {
    this.#isClosed = true;
    this.#end(null);
  }

  #end(fence: BorrowedFd | null): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#release(this, fence);
  }
}

/** A layer as it arrives: its buffer may not be imported yet. */
interface ArrivedLayer extends Omit<ExportedLayer, 'buffer'> {
  /** The part of the message that it was. */
  readonly bytes: Buffer;
  readonly id: Uint8Array;
  buffer: ImportedBuffer | null;
}

interface ArrivedFrame extends Omit<FrameFields, 'primary' | 'cursor'> {
  readonly primary: ArrivedLayer | null;
  readonly cursor: ArrivedLayer | null;
}

interface Waiting {
  readonly resolve: (buffer: ImportedBuffer) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A connection to `scanout run --output export:SOCKET`. Iterate it for frames:
 *
 *     using display = await ExportedDisplay.connect('/run/vm/export.sock');
 *     for await (const frame of display) {
 *       using held = frame;
 *       …
 *     }
 *
 * A consumer that is slow misses frames, never sees old ones. The loop ends when the bridge does.
 */
export class ExportedDisplay implements AsyncIterable<ExportedFrame>, Disposable {
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #pump = new Pump(() => this.#receive());
  readonly #reader = new MessageReader(SIZES);
  readonly #imports = new Map<string, Promise<ImportedBuffer>>();
  readonly #waiting = new Map<string, Waiting>();
  readonly #imported = new Map<string, ImportedBuffer>();
  readonly #exported = new Map<string, number>();
  /** A guest that flips shows the same few layers again and again. All of their buffers are imported. */
  readonly #recent: ArrivedLayer[] = [];
  #replaced = 0;
  readonly #releaseMessage = message(EXPORT_REQUEST.RELEASE, new Uint8Array(export_release.size));
  readonly #releaseView = new DataView(this.#releaseMessage.buffer);
  readonly #onRelease = (frame: ExportedFrame, fence: BorrowedFd | null): void => this.#release(frame, fence);
  readonly #held = new Map<number, ExportedFrame>();
  readonly #fences = new Set<() => void>();
  /** Frames that are complete, oldest first, and what waits for one. */
  readonly #frames: ExportedFrame[] = [];
  #next: (() => void) | null = null;
  /** Frames are completed one after the other: how many are not, and the end of the last. */
  #arriving = 0;
  #completing = Promise.resolve();
  #hello: { readonly scanouts: number } | null = null;
  #onHello: ((error: Error | null) => void) | null = null;
  #end: Error | null = null;
  #isDisposed = false;
  /** Called when a guest program has exported a buffer, with its id, or has taken it back. */
  onBuffersChanged: (() => void) | null = null;

  private constructor(connection: UnixConnection) {
    this.#connection = connection;
    this.#poll = Poll.readable(connection, (ready) => {
      this.#reader.wake(ready);
      this.#pump.start();
    });
  }

  /**
   * Rejects with ExportError `unreachable`, `version`, `too-many`, `forbidden`, `protocol`, or the signal's reason.
   */
  static async connect(path: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<ExportedDisplay> {
    signal?.throwIfAborted();
    const display = open(path, (connection) => new ExportedDisplay(connection));
    using stack = new DisposableStack();
    stack.use(display);
    const timer = setTimeout(
      () => display.#close(new ExportError('unreachable', `${path}: what listens there does not greet`)),
      HELLO_MS,
    );
    const abort = (): void => display.#close(signal!.reason as Error);
    signal?.addEventListener('abort', abort);
    try {
      await new Promise<void>((resolve, reject) => {
        display.#onHello = (error) => (error ? reject(error) : resolve());
      });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
    stack.move();
    return display;
  }

  /** How many monitors the guest has. */
  get scanouts(): number {
    return this.#hello!.scanouts;
  }

  /** Buffers that guest programs export: the length of each in bytes, by its UUID. */
  get buffers(): ReadonlyMap<string, number> {
    return this.#exported;
  }

  /**
   * The buffer with a UUID, of a frame or of `buffers`. Rejects with ExportError `no-such-buffer`, `resources`,
   * `closed`.
   */
  import(id: Uint8Array | string): Promise<ImportedBuffer> {
    const bytes = typeof id === 'string' ? parseId(id) : id;
    const key = keyOf(bytes);
    const known = this.#imports.get(key);
    if (known) return known;
    if (this.#end) return Promise.reject(this.#end);
    const importing = new Promise<ImportedBuffer>((resolve, reject) => this.#waiting.set(key, { resolve, reject }));
    importing.catch(() => undefined);
    this.#imports.set(key, importing);
    this.#send(message(EXPORT_REQUEST.IMPORT, export_import.encode({ id: bytes })));
    return importing;
  }

  /**
   * The frames from the newest on. Frames that arrive while no loop runs wait for the next loop. Throws ExportError if
   * the bridge violates the protocol.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ExportedFrame, void, void> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame) yield frame;
      else if (this.#end) {
        if (this.#end instanceof ExportError && this.#end.code === 'closed') return;
        throw this.#end;
      } else await new Promise<void>((resolve) => (this.#next = resolve));
    }
  }

  /** Disconnects. Frames and buffers may not be used any longer. */
  [Symbol.dispose](): void {
    this.#close(new ExportError('closed', 'the exported display was disposed'));
  }

  #close(error: Error): void {
    this.#end ??= error;
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#pump[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    for (const stop of this.#fences) stop();
    for (const frame of this.#held.values()) frame.closed();
    this.#frames.length = 0;
    for (const { reject } of this.#waiting.values()) reject(this.#end);
    this.#waiting.clear();
    for (const buffer of this.#imported.values()) buffer.gone();
    this.#imported.clear();
    this.#imports.clear();
    this.#connection[Symbol.dispose]();
    this.#onHello?.(this.#end);
    this.#next?.();
  }

  #send(request: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    if (this.#isDisposed) return;
    try {
      this.#connection.send(request, fds);
    } catch (cause) {
      queueMicrotask(() => this.#close(new ExportError('closed', `the bridge is gone: ${String(cause)}`, { cause })));
    }
  }

  #receive(): boolean {
    if (this.#isDisposed) return false;
    try {
      if (this.#handleNext()) return true;
      if (this.#reader.isDrained) return false;
      const count = this.#reader.fill(this.#connection);
      if (this.#connection.fds.length > MAX_FDS)
        throw new ExportError('protocol', 'the bridge sent descriptors that no message carries');
      if (count !== 0) return count > 0;
      this.#close(new ExportError('closed', 'the bridge closed the connection'));
    } catch (cause) {
      this.#close(
        cause instanceof ExportError
          ? cause
          : new ExportError('closed', `the connection to the bridge failed: ${String(cause)}`, { cause }),
      );
    }
    return false;
  }

  #handleNext(): boolean {
    const reader = this.#reader;
    const type = reader.next();
    if (type === 0) return false;
    if (type === EXPORT_EVENT.HELLO) this.#greeted(export_hello.get(reader.view, 0));
    else if (type === EXPORT_EVENT.ERROR) this.#failed(export_error.get(reader.view, 0));
    else if (!this.#hello) throw new ExportError('protocol', 'this is not the socket of an exported display');
    else if (type === EXPORT_EVENT.FRAME) this.#arrived();
    else if (type === EXPORT_EVENT.IMPORTED) this.#gotBuffer(export_imported.get(reader.view, 0));
    else if (type === EXPORT_EVENT.GONE) this.#lost(export_gone.get(reader.view, 0).id);
    else if (type === EXPORT_EVENT.REVOKED) this.#held.get(export_revoked.get(reader.view, 0).serial)?.revoked();
    else if (type === EXPORT_EVENT.EXPORTED) {
      const { id, length } = export_exported.get(reader.view, 0);
      if (this.#exported.size >= MAX_EXPORTED)
        throw new ExportError('protocol', 'the bridge exports buffers without end');
      this.#exported.set(formatBufferId(id), length);
      this.onBuffersChanged?.();
    }
    if (this.#isDisposed) return false;
    reader.drop();
    return true;
  }

  #greeted({ version, scanouts }: ReturnType<typeof export_hello.get>): void {
    if (version !== EXPORT_VERSION)
      throw new ExportError('version', `the bridge speaks version ${version}, this program ${EXPORT_VERSION}`);
    if (this.#reader.size !== export_hello.size)
      throw new ExportError('protocol', 'the bridge greets in a strange way');
    this.#hello = { scanouts };
    this.#onHello?.(null);
    this.#onHello = null;
  }

  #failed({ code, request, id }: ReturnType<typeof export_error.get>): void {
    if (request === EXPORT_REQUEST.IMPORT) {
      const uuid = formatBufferId(id);
      const key = keyOf(id);
      const waiting = this.#waiting.get(key);
      // Asking again for a buffer that is here would replace it, and nothing would close the first.
      if (!waiting) throw new ExportError('protocol', `the bridge refused buffer ${uuid}, which was not asked for`);
      this.#waiting.delete(key);
      this.#imports.delete(key);
      waiting.reject(
        code === EXPORT_ERROR.NO_SUCH_BUFFER
          ? new ExportError('no-such-buffer', `the bridge exports no buffer ${uuid}: it was never there, or is gone`)
          : new ExportError('resources', `the bridge cannot hand over buffer ${uuid} now; its log says why`),
      );
    } else if (code === EXPORT_ERROR.TOO_MANY_CONSUMERS) {
      throw new ExportError('too-many', 'the bridge serves as many consumers as it can: end one of them');
    } else if (code === EXPORT_ERROR.FORBIDDEN) {
      throw new ExportError(
        'forbidden',
        'the bridge refuses this user: run as its user, or give its --output export a mode= or group=',
      );
    } else if (code === EXPORT_ERROR.MALFORMED) {
      throw new ExportError('protocol', 'the bridge did not understand a request');
    }
  }

  #gotBuffer({ id, length, kind }: ReturnType<typeof export_imported.get>): void {
    const fd = this.#connection.fds.shift();
    if (!fd) throw new ExportError('protocol', 'the bridge sent a buffer without its descriptor');
    const key = keyOf(id);
    const waiting = this.#waiting.get(key);
    if (!waiting) {
      fd[Symbol.dispose]();
      throw new ExportError('protocol', `the bridge sent buffer ${formatBufferId(id)}, which was not asked for`);
    }
    const buffer = new ImportedBuffer(id, kind, length, fd);
    this.#waiting.delete(key);
    this.#imported.set(key, buffer);
    waiting.resolve(buffer);
  }

  #lost(id: Uint8Array): void {
    const key = keyOf(id);
    const buffer = this.#imported.get(key);
    if (buffer) {
      this.#imported.delete(key);
      const others = this.#recent.filter((layer) => layer.buffer !== buffer);
      this.#recent.splice(0, Infinity, ...others);
      buffer.gone();
    }
    // One that is on its way is refused, or comes before this event.
    if (!this.#waiting.has(key)) this.#imports.delete(key);
    if (this.#exported.delete(formatBufferId(id))) this.onBuffersChanged?.();
  }

  /** A frame of buffers that are here already is handed out at once. */
  #arrived(): void {
    const { view } = this.#reader;
    const { field, offset } = export_frame;
    const flags = field.flags.get(view, 0);
    const hasFence = (flags & EXPORT_FRAME_ACQUIRE) !== 0;
    const fence = hasFence ? (this.#connection.fds.shift() ?? null) : null;
    try {
      if (hasFence && !fence) throw new ExportError('protocol', 'the bridge sent a frame without its fence');
      const serial = field.serial.get(view, 0);
      if (this.#held.size + this.#arriving >= MAX_FRAMES || this.#held.has(serial))
        throw new ExportError(
          'protocol',
          `the bridge sent frame ${serial} although it is, or ${MAX_FRAMES} are, not released`,
        );
      const width = field.width.get(view, 0);
      const height = field.height.get(view, 0);
      const damageCount = field.damage_count.get(view, 0);
      if (damageCount > EXPORT_MAX_DAMAGE || width * height > MAX_PIXELS)
        throw new ExportError('protocol', `a frame of ${width}x${height} with ${damageCount} rectangles of damage`);
      const scanout = field.scanout.get(view, 0);
      const frame: ArrivedFrame = {
        scanout: scanout === EXPORT_NO_SCANOUT ? null : scanout,
        serial,
        width,
        height,
        primary: this.#layer(offset.primary),
        cursor: this.#layer(offset.cursor),
        hotspotX: field.hotspot_x.get(view, 0),
        hotspotY: field.hotspot_y.get(view, 0),
        isCursorNew: (flags & EXPORT_FRAME_NEW_CURSOR) !== 0,
        damage: Array.from({ length: damageCount }, (_, i) =>
          export_rect.get(view, offset.damage + i * export_rect.size),
        ),
      };
      if (this.#arriving === 0 && !fence && hasBuffer(frame.primary) && hasBuffer(frame.cursor)) this.#deliver(frame);
      else this.#completing = this.#complete(this.#completing, frame, fence?.dup() ?? null);
    } finally {
      fence?.[Symbol.dispose]();
    }
  }

  /** The layer at byte `at` of the message; null if its id is zero. */
  #layer(at: number): ArrivedLayer | null {
    const { bytes } = this.#reader;
    if (isZero(bytes, at)) return null;
    const end = at + export_layer.size;
    for (let i = 0; i < this.#recent.length; i++)
      if (this.#recent[i]!.bytes.compare(bytes, at, end) === 0) return this.#recent[i]!;
    const layer = readLayer(Buffer.from(bytes.subarray(at, end)));
    layer.buffer = this.#imported.get(keyOf(layer.id)) ?? null;
    if (layer.buffer && this.#recent.length < MAX_RECENT) this.#recent.push(layer);
    else if (layer.buffer) this.#recent[this.#replaced++ % MAX_RECENT] = layer;
    return layer;
  }

  /**
   * After the frames `before` it, imports what the frame shows, waits until it may be read, and hands it out. One whose
   * buffers are gone already is released. Consumes `fence`.
   */
  async #complete(before: Promise<void>, frame: ArrivedFrame, fence: OwnedFd | null): Promise<void> {
    this.#arriving++;
    try {
      const layers = [frame.primary, frame.cursor].filter((layer) => layer !== null);
      const imports = layers.map((layer) => this.import(layer.id));
      await before;
      for (const [i, buffer] of (await Promise.all(imports)).entries()) layers[i]!.buffer = buffer;
      if (fence) await this.#signalled(fence);
      this.#deliver(frame);
    } catch (error) {
      if (error instanceof ExportError && error.code === 'protocol') this.#close(error);
      this.#sendRelease(frame.primary?.id, frame.serial, null);
    } finally {
      this.#arriving--;
      fence?.[Symbol.dispose]();
    }
  }

  #deliver(frame: ArrivedFrame): void {
    const { serial, primary, cursor } = frame;
    // One that was revoked meanwhile may have lost its buffers.
    if (this.#isDisposed || primary?.buffer?.isOpen === false || cursor?.buffer?.isOpen === false) {
      this.#sendRelease(frame.primary?.id, frame.serial, null);
      return;
    }
    // All layers have their buffers.
    const made = new ExportedFrame(frame as FrameFields, this.#onRelease);
    primary?.buffer?.acquire();
    cursor?.buffer?.acquire();
    this.#held.set(serial, made);
    this.#frames.push(made);
    this.#next?.();
    this.#next = null;
  }

  /** Resolves when the fence signals, or this display ends. */
  #signalled(fence: OwnedFd): Promise<void> {
    if (!isSyncFile(fence)) throw new ExportError('protocol', 'the fence of a frame is no sync_file');
    return new Promise((resolve) => {
      const stop = (): void => {
        poll[Symbol.dispose]();
        this.#fences.delete(stop);
        resolve();
      };
      const poll = Poll.readable(fence, stop);
      this.#fences.add(stop);
    });
  }

  #release(frame: ExportedFrame, fence: BorrowedFd | null): void {
    this.#held.delete(frame.serial);
    frame.primary?.buffer.release();
    frame.cursor?.buffer.release();
    this.#sendRelease(frame.primary?.buffer.id, frame.serial, fence);
  }

  /** `id` is that of the primary layer, if there is one. */
  #sendRelease(id: Uint8Array | undefined, serial: number, fence: BorrowedFd | null): void {
    const { field, offset } = export_release;
    this.#releaseMessage.set(id ?? NO_ID, offset.id);
    field.serial.set(this.#releaseView, 0, serial);
    field.flags.set(this.#releaseView, 0, fence ? EXPORT_RELEASE_FENCE : 0);
    // `send` keeps a copy of what it cannot send at once.
    this.#send(this.#releaseMessage, fence ? [fence] : undefined);
  }
}

/** Consumes nothing if it throws. */
function open<T>(path: string, make: (connection: UnixConnection) => T): T {
  let connection: UnixConnection;
  try {
    connection = UnixConnection.adopt(connectUnix(path));
  } catch (cause) {
    throw new ExportError('unreachable', unreachable(path, cause), { cause });
  }
  try {
    return make(connection);
  } catch (error) {
    connection[Symbol.dispose]();
    throw error;
  }
}

function unreachable(path: string, cause: unknown): string {
  const code = cause instanceof SysError ? cause.code : '';
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return `${path}: no bridge exports there; start one with scanout run --output export:${path}`;
  if (code === 'EACCES') return `${path}: no permission; run as the bridge's user, or give it a mode= or group=`;
  return `${path}: cannot connect: ${String(cause)}`;
}

function parseId(uuid: string): Uint8Array {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  if (bytes.length !== EXPORT_ID_SIZE) throw new TypeError(`'${uuid}' is no UUID`);
  return new Uint8Array(bytes);
}

/** An id as a key of a map, without the cost of a UUID's text. */
function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, EXPORT_ID_SIZE).toString('latin1');
}

function isZero(bytes: Uint8Array, at: number): boolean {
  for (let i = at; i < at + EXPORT_ID_SIZE; i++) if (bytes[i] !== 0) return false;
  return true;
}

function hasBuffer(layer: ArrivedLayer | null): boolean {
  return layer === null || layer.buffer !== null;
}

/** `bytes` are an export_layer. */
function readLayer(bytes: Buffer): ArrivedLayer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { field, offset } = export_layer;
  const planes = field.planes.get(view, 0);
  if (planes < 1 || planes > 4) throw new ExportError('protocol', `a layer of ${planes} planes`);
  const plane = (i: number): MemoryPlane => ({
    offset: view.getUint32(offset.offsets + 4 * i, true),
    stride: view.getUint32(offset.strides + 4 * i, true),
  });
  return {
    bytes,
    id: bytes.subarray(0, EXPORT_ID_SIZE),
    buffer: null,
    width: field.width.get(view, 0),
    height: field.height.get(view, 0),
    format: field.fourcc.get(view, 0) as Fourcc,
    modifier: field.modifier.get(view, 0) as Modifier,
    planes: Array.from({ length: planes }, (_, i) => plane(i)),
    src: field.src.get(view, 0),
    dst: field.dst.get(view, 0),
  };
}

/** For `compose`. ExportError `protocol` if it cannot read the layer. */
function layerOf(layer: ExportedLayer | null): Layer {
  const made = new Layer();
  if (!layer) return made;
  const { buffer, format, modifier, planes, width, height } = layer;
  const order = ORDERS.get(format);
  if (!order || modifier !== DRM_FORMAT_MOD_LINEAR)
    throw new ExportError('protocol', `a picture of ${formatName(format)} cannot be read; import its buffer instead`);
  const { offset, stride } = planes[0]!;
  if (stride < width * 4 || offset + stride * (height - 1) + width * 4 > buffer.byteLength)
    throw new ExportError(
      'protocol',
      `a picture of ${width}x${height} is not in a buffer of ${buffer.byteLength} bytes`,
    );
  const source: LayerBuffer = {
    width,
    height,
    offset,
    stride,
    order,
    isOpaque: !formatInfo(format)!.hasAlpha,
    read: (look) => buffer.read(look),
  };
  made.set(layer, source);
  return made;
}
