import { DRM_FORMAT, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import {
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_FORMAT,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_mem_entry,
  virtio_gpu_resource_attach_backing,
  virtio_gpu_resource_create_2d,
  virtio_gpu_resource_flush,
  virtio_gpu_resource_unref,
  virtio_gpu_set_scanout,
  virtio_gpu_transfer_to_host_2d,
  virtio_gpu_update_cursor,
} from '../../../protocols/virtio-gpu.ts';
import { VIRTIO_F_VERSION_1 } from '../../../protocols/virtio-ring.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { Damage } from '../../core/damage.ts';
import { FormatSet } from '../../core/framebuffer.ts';
import { type Monitor, virtualMonitor } from '../../core/monitor.ts';
import {
  DmabufImportRefused,
  type Frame,
  type Handle,
  MutablePresentation,
  type Output,
  type OutputListener,
  PresentedFlags,
  type Shadow,
} from '../../core/output.ts';
import type { ScanoutId } from '../../core/source.ts';
import { VblankClock, VblankTimer } from '../../core/vblank.ts';
import { monotonicMs } from '../../sys/clock.ts';
import { Mapping } from '../../sys/mapping.ts';
import { Pump } from '../../sys/pump.ts';
import type { GpuTap } from '../virtio-gpu/tap.ts';
import { Recorder, type RecorderOptions } from './recorder.ts';

const REFRESH_MHZ = 60_000;
const PIXEL = 4;
/** Pixels that are recorded at once. */
const PIECE = 32 * 1024;
const MAX_SIDE = 16384;
const CURSOR_SIDE = 64;
/** Guest memory of a scanout: the largest picture, and the cursor. */
const CURSOR_AT = MAX_SIDE * MAX_SIDE * PIXEL;
const SLOT = CURSOR_AT + 2 ** 20;
const CONTROL_QUEUE = 0;
const CURSOR_QUEUE = 1;

export interface PictureRecorderOptions extends RecorderOptions {
  /** That of the source, for a copy of its pictures. */
  readonly budget: MemoryBudget;
}

/**
 * Records a source that has no virtio commands, by what screens show of it:
 *
 *     using recorder = PictureRecorder.open({ file: 'session.scanout', scanouts: 1, budget: source.budget });
 *     bridge.observe(0, recorder.outputs[0], { log });
 *
 * The recording is that of a driver that draws the same pictures, with their damage and cursors, at no more than 60 a
 * second. While the file cannot be written as fast, pictures in between are left out.
 */
export class PictureRecorder implements Disposable {
  /** One for each scanout, for `Bridge.observe`. */
  readonly outputs: readonly Output[];
  readonly #recorder: Recorder;

  private constructor(recorder: Recorder, { scanouts, budget }: PictureRecorderOptions) {
    const { tap } = recorder;
    const outputs = Array.from({ length: scanouts }, (_, scanout) => new RecordedScreen(tap, scanout));
    tap.attached(budget, () => outputs.forEach((output) => output.goOn()));
    tap.negotiated(1n << BigInt(VIRTIO_F_VERSION_1));
    tap.memoryChanged({ regions: [{ guestAddress: 0, size: scanouts * SLOT }] });
    this.outputs = outputs;
    this.#recorder = recorder;
  }

  /** Errors as of `Recorder.open`. */
  static open(options: PictureRecorderOptions): PictureRecorder {
    return new PictureRecorder(Recorder.open(options), options);
  }

  /** After the outputs were detached. Completes the file. */
  [Symbol.dispose](): void {
    for (const output of this.outputs) output[Symbol.dispose]();
    this.#recorder[Symbol.dispose]();
  }
}

/** Memory that the bridge copies a picture into. */
class RecordedShadow implements Shadow {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly pixels: Mapping;
  isDisposed = false;
  #isHeld = false;

  constructor(width: number, height: number, format: Fourcc) {
    this.format = format;
    this.width = width;
    this.height = height;
    this.stride = width * PIXEL;
    this.pixels = Mapping.anonymous(this.stride * height);
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  set isHeld(isHeld: boolean) {
    this.#isHeld = isHeld;
    if (this.isDisposed && !isHeld) this.pixels[Symbol.dispose]();
  }

  /** A rectangle of pixels that is one run of bytes. */
  bytes(x: number, y: number, width: number, rows: number): Buffer {
    const { buffer, byteOffset } = this.pixels.bytes;
    return Buffer.from(buffer, byteOffset + y * this.stride + x * PIXEL, (rows - 1) * this.stride + width * PIXEL);
  }

  beginWrite(): void {
    // It is ordinary memory.
  }

  endWrite(): void {
    // It is ordinary memory.
  }

  [Symbol.dispose](): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    if (!this.#isHeld) this.pixels[Symbol.dispose]();
  }
}

/** A resource of the driver that is recorded. */
interface Resource {
  readonly id: number;
  readonly width: number;
  readonly height: number;
}

/** One scanout of the driver that is recorded. */
class RecordedScreen implements Output {
  readonly name: string;
  readonly monitor: Monitor;
  readonly imports = new FormatSet();
  readonly readsPages = false;
  readonly takesFences = false;
  readonly shadowFormats = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
  readonly maxCursor = { width: CURSOR_SIDE, height: CURSOR_SIDE };
  readonly #tap: GpuTap;
  readonly #scanout: ScanoutId;
  readonly #base: number;
  readonly #clock = new VblankClock(REFRESH_MHZ);
  readonly #presentation = new MutablePresentation();
  readonly #timer = new VblankTimer(() => this.#record());
  readonly #pump = new Pump(() => this.#step());
  #attachment: { readonly listener: OutputListener } | null = null;
  #isInFlight = false;
  /** Of the frame in flight. */
  #picture: RecordedShadow | null = null;
  #sequence = 0;
  readonly #damage = new Damage();
  /** What has not been recorded yet of `#damage`. */
  readonly #left = new Damage();
  readonly #piece = new Damage();
  #resource: Resource | null = null;
  #cursor: Resource | null = null;
  #isCursorShown = false;
  #cursorX = 0;
  #cursorY = 0;
  #lastId: number;

  constructor(tap: GpuTap, scanout: ScanoutId) {
    this.name = `recording of scanout ${scanout}`;
    this.monitor = virtualMonitor(this.name, CURSOR_SIDE, CURSOR_SIDE, REFRESH_MHZ);
    this.#tap = tap;
    this.#scanout = scanout;
    this.#base = scanout * SLOT;
    // Each scanout has ids of its own.
    this.#lastId = scanout << 26;
  }

  attach(listener: OutputListener): Disposable {
    if (this.#attachment) throw new Error(`${this.name} is taken`);
    // One listener may attach again.
    const attachment = { listener };
    this.#attachment = attachment;
    return {
      [Symbol.dispose]: () => {
        if (this.#attachment !== attachment) return;
        this.#attachment = null;
        // The last picture of a session, which stays.
        if (this.#isInFlight) this.#recordNow();
      },
    };
  }

  import(): DmabufImportRefused {
    return new DmabufImportRefused('format', `${this.name}: imports nothing`);
  }

  /** Throws SysError ENOMEM, RangeError if it is larger than what can be recorded. */
  createShadow(width: number, height: number, format: Fourcc): Shadow {
    if (width > MAX_SIDE || height > MAX_SIDE) throw new RangeError(`${this.name}: a picture of ${width}x${height}`);
    return new RecordedShadow(width, height, format);
  }

  present(frame: Frame): void {
    if (!this.#attachment) throw new Error(`${this.name}: present while nothing is attached`);
    if (this.#isInFlight) throw new Error(`${this.name}: present while a frame is in flight`);
    this.#isInFlight = true;
    this.#picture = usable(frame.primary.handle);
    if (this.#picture) this.#picture.isHeld = true;
    this.#damage.clear();
    this.#damage.addAll(frame.damage);
    this.#recordCursor(frame);
    this.#sequence = this.#timer.set(this.#clock);
  }

  /** The tap is not busy any more. */
  goOn(): void {
    if (!this.#left.isEmpty) this.#pump.start();
  }

  [Symbol.dispose](): void {
    this.#attachment = null;
    this.#timer[Symbol.dispose]();
    this.#pump[Symbol.dispose]();
  }

  /** At the vertical blank. */
  #record(): void {
    if (!this.#isInFlight || !this.#attachment) return;
    this.#begin();
    this.#pump.start();
  }

  #recordNow(): void {
    if (this.#left.isEmpty) this.#begin();
    while (!this.#left.isEmpty) this.#pixels();
    this.#end();
  }

  #begin(): void {
    const picture = this.#picture;
    const { width, height } = this.#resource ?? { width: 0, height: 0 };
    if (picture && (picture.width !== width || picture.height !== height)) this.#resize(picture.width, picture.height);
    else if (!picture && this.#resource) this.#darken(this.#resource);
    this.#left.clear();
    if (picture) this.#left.addAll(this.#damage);
  }

  /** A piece. False: it waits for the tap, or the frame has ended. */
  #step(): boolean {
    if (!this.#isInFlight) return false;
    if (this.#tap.isBusy && !this.#left.isEmpty) return false;
    this.#pixels();
    if (!this.#left.isEmpty) return true;
    const picture = this.#picture;
    this.#end();
    const attachment = this.#attachment;
    if (picture) attachment?.listener.released(picture);
    if (attachment === this.#attachment)
      attachment?.listener.presented(
        this.#presentation.set(monotonicMs(), REFRESH_MHZ, this.#sequence, PresentedFlags.VSYNC),
      );
    return false;
  }

  #pixels(): void {
    const picture = this.#picture;
    if (!picture) return;
    const piece = this.#piece;
    piece.clear();
    this.#left.moveTo(piece, PIECE);
    for (let i = 0; i < piece.count; i++) {
      const [x, width] = [piece.x(i), piece.width(i)];
      // What is one run of bytes.
      const rows = width === picture.width ? piece.height(i) : 1;
      for (let y = piece.y(i); y < piece.y(i) + piece.height(i); y += rows) {
        const bytes = picture.bytes(x, y, width, rows);
        this.#tap.pixels(this.#base + y * picture.stride + x * PIXEL, bytes, bytes.length);
      }
    }
  }

  #end(): void {
    const picture = this.#picture;
    const resource = this.#resource;
    const damage = this.#damage;
    if (picture && resource) {
      for (let i = 0; i < damage.count; i++) {
        const r = { x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) };
        const offset = r.y * picture.stride + r.x * PIXEL;
        const hdr = header(VIRTIO_GPU_CMD.TRANSFER_TO_HOST_2D);
        this.#control(virtio_gpu_transfer_to_host_2d.encode({ hdr, r, offset, resource_id: resource.id }));
      }
      for (let i = 0; i < damage.count; i++) {
        const r = { x: damage.x(i), y: damage.y(i), width: damage.width(i), height: damage.height(i) };
        const hdr = header(VIRTIO_GPU_CMD.RESOURCE_FLUSH);
        this.#control(virtio_gpu_resource_flush.encode({ hdr, r, resource_id: resource.id }));
      }
    }
    this.#isInFlight = false;
    this.#picture = null;
    // Its pixels have been copied.
    if (picture) picture.isHeld = false;
  }

  #resize(width: number, height: number): void {
    const old = this.#resource;
    this.#tap.monitorChanged(this.#scanout, virtualMonitor('recorded', width, height, REFRESH_MHZ));
    const resource = this.#create(width, height, VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM, this.#base);
    this.#resource = resource;
    this.#setScanout(resource);
    if (old) this.#unref(old);
    this.#damage.clear();
    this.#damage.add(0, 0, width, height);
  }

  #darken(resource: Resource): void {
    this.#resource = null;
    this.#setScanout(null);
    this.#unref(resource);
  }

  #recordCursor(frame: Frame): void {
    const image = usable(frame.cursor.handle);
    const { x, y } = frame.cursor.dst;
    if (!image) {
      if (this.#isCursorShown) this.#command(VIRTIO_GPU_CMD.UPDATE_CURSOR, 0, x, y, frame);
      this.#isCursorShown = false;
      return;
    }
    const isNew = frame.isCursorNew || !this.#isCursorShown;
    if (isNew) {
      const at = this.#base + CURSOR_AT;
      const bytes = image.bytes(0, 0, image.width, image.height);
      this.#tap.pixels(at, bytes, bytes.length);
      const old = this.#cursor;
      if (old?.width !== image.width || old.height !== image.height) {
        this.#cursor = this.#create(image.width, image.height, VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM, at);
        if (old) this.#unref(old);
      }
      const { id, width, height } = this.#cursor!;
      const hdr = header(VIRTIO_GPU_CMD.TRANSFER_TO_HOST_2D);
      const r = { x: 0, y: 0, width, height };
      this.#control(virtio_gpu_transfer_to_host_2d.encode({ hdr, r, offset: 0, resource_id: id }));
      this.#command(VIRTIO_GPU_CMD.UPDATE_CURSOR, id, x, y, frame);
    } else if (x !== this.#cursorX || y !== this.#cursorY) {
      this.#command(VIRTIO_GPU_CMD.MOVE_CURSOR, this.#cursor!.id, x, y, frame);
    }
    this.#isCursorShown = true;
    this.#cursorX = x;
    this.#cursorY = y;
  }

  /** On the cursor queue. The position is that of the image's top left corner, and may be negative. */
  #command(type: number, resource_id: number, x: number, y: number, { hotspotX, hotspotY }: Frame): void {
    const pos = { scanout_id: this.#scanout, x: x >>> 0, y: y >>> 0, padding: 0 };
    const hot = { hot_x: hotspotX, hot_y: hotspotY, padding: 0 };
    const request = virtio_gpu_update_cursor.encode({ hdr: header(type), pos, resource_id, ...hot });
    this.#tap.command(CURSOR_QUEUE, request, request.length, 0);
  }

  #create(width: number, height: number, format: number, at: number): Resource {
    const resource_id = ++this.#lastId;
    const hdr = header(VIRTIO_GPU_CMD.RESOURCE_CREATE_2D);
    this.#control(virtio_gpu_resource_create_2d.encode({ hdr, resource_id, format, width, height }));
    const attach = header(VIRTIO_GPU_CMD.RESOURCE_ATTACH_BACKING);
    const entry = { addr: at, length: width * height * PIXEL, padding: 0 };
    this.#control(
      Buffer.concat([
        virtio_gpu_resource_attach_backing.encode({ hdr: attach, resource_id, nr_entries: 1 }),
        virtio_gpu_mem_entry.encode(entry),
      ]),
    );
    return { id: resource_id, width, height };
  }

  #setScanout(resource: Resource | null): void {
    const { id, width, height } = resource ?? { id: 0, width: 0, height: 0 };
    const hdr = header(VIRTIO_GPU_CMD.SET_SCANOUT);
    const r = { x: 0, y: 0, width, height };
    this.#control(virtio_gpu_set_scanout.encode({ hdr, r, scanout_id: this.#scanout, resource_id: id }));
  }

  #unref({ id }: Resource): void {
    const hdr = header(VIRTIO_GPU_CMD.RESOURCE_UNREF);
    this.#control(virtio_gpu_resource_unref.encode({ hdr, resource_id: id, padding: 0 }));
  }

  #control(request: Uint8Array): void {
    this.#tap.command(CONTROL_QUEUE, request, request.length, virtio_gpu_ctrl_hdr.size);
  }
}

/** A shadow that was not disposed; null otherwise. */
function usable(handle: Handle | null): RecordedShadow | null {
  return handle instanceof RecordedShadow && !handle.isDisposed ? handle : null;
}

function header(type: number): {
  type: number;
  flags: number;
  fence_id: bigint;
  ctx_id: number;
  ring_idx: number;
  padding: Uint8Array;
} {
  return { type, flags: 0, fence_id: 0n, ctx_id: 0, ring_idx: 0, padding: new Uint8Array(3) };
}
