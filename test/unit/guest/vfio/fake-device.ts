import { constants } from 'node:os';
import { DRM_PLANE_TYPE_CURSOR, DRM_PLANE_TYPE_PRIMARY } from '../../../../protocols/drm-mode.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import * as uapi from '../../../../protocols/vfio.ts';
import type { Damage } from '../../../../src/core/damage.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Flush, SourceSink } from '../../../../src/core/source.ts';
import type { AccessListener, DeviceAccess } from '../../../../src/guest/vfio/access.ts';
import { type DeviceFile, VfioDevice } from '../../../../src/guest/vfio/device.ts';
import { dupFd, type OwnedFd } from '../../../../src/sys/fd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import type { NativeBuffer } from '../../../../src/sys/native-buffer.ts';

const plane = uapi.vfio_device_gfx_plane_info;
const { ENOENT, EINVAL, ENOTTY } = constants.errno;

/** What the device answers about a plane; the rest is zero. */
export type PlaneFields = Partial<ReturnType<typeof plane.get>>;

/** A primary plane of 32-bit pixels. */
export function primary(dmabuf_id: number, width = 64, height = 48, more: PlaneFields = {}): PlaneFields {
  const stride = width * 4;
  const drm_format = DRM_FORMAT.XRGB8888;
  return { drm_format, width, height, stride, size: stride * height, dmabuf_id, ...more };
}

/** A cursor of 16x16 pixels. */
export function cursor(dmabuf_id: number, x: number, y: number, more: PlaneFields = {}): PlaneFields {
  const at = { x_pos: x >>> 0, y_pos: y >>> 0, x_hot: 2, y_hot: 3 };
  return primary(dmabuf_id, 16, 16, { drm_format: DRM_FORMAT.ARGB8888, ...at, ...more });
}

/** A device with scripted answers. Its regions are bytes of one memfd, as those of a real one are of its file. */
export class FakeDevice implements DeviceFile {
  kinds: number = uapi.VFIO_GFX_PLANE_TYPE_DMABUF;
  readonly planes = new Map<number, PlaneFields>();
  /** Results of the next queries instead of an answer, negative. */
  readonly failures: number[] = [];
  /** Called with each id before it is handed out; false refuses it, as one that is out of date. */
  mayTake: (id: number) => boolean = () => true;
  readonly regions = new Map<number, { offset: number; size: number; flags: number; type: number; subtype: number }>();
  readonly memory: Mapping;
  queries = 0;
  /** Ids of the dma-bufs that were handed out. */
  readonly taken: number[] = [];
  isDisposed = false;
  readonly #memfd: OwnedFd;
  readonly #dmabufs = new Map<number, OwnedFd>();

  constructor(size = 1 << 20) {
    this.#memfd = createMemfd('fake-device', size);
    this.memory = Mapping.file(this.#memfd, 0, size, 'read-write');
  }

  set primary(fields: PlaneFields) {
    this.planes.set(DRM_PLANE_TYPE_PRIMARY, fields);
  }

  set cursor(fields: PlaneFields) {
    this.planes.set(DRM_PLANE_TYPE_CURSOR, fields);
  }

  /** Region `index` of mappable bytes. */
  region(index: number, offset: number, size: number, more: { type?: number; subtype?: number } = {}): void {
    const { VFIO_REGION_INFO_FLAG_MMAP: flags } = uapi;
    this.regions.set(index, { offset, size, flags, type: 0, subtype: 0, ...more });
  }

  call(request: number, { view }: NativeBuffer): number {
    if (this.isDisposed) throw new Error('used after dispose');
    switch (request) {
      case uapi.VFIO_DEVICE_QUERY_GFX_PLANE:
        return this.#query(view);
      case uapi.VFIO_DEVICE_GET_GFX_DMABUF:
        return this.#take(view.getUint32(0, true));
      case uapi.VFIO_DEVICE_GET_REGION_INFO:
        return this.#describe(view);
      default:
        return -ENOTTY;
    }
  }

  map(offset: number, length: number): Mapping {
    return Mapping.file(this.#memfd, offset, length, 'read');
  }

  read(into: Uint8Array, position: number): void {
    into.set(this.memory.bytes.subarray(position, position + into.length));
  }

  write(bytes: Uint8Array, position: number): void {
    this.memory.bytes.set(bytes, position);
  }

  [Symbol.dispose](): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    this.memory[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
    for (const dmabuf of this.#dmabufs.values()) dmabuf[Symbol.dispose]();
  }

  #query(view: DataView): number {
    const { flags, drm_plane_type, argsz } = plane.get(view, 0);
    if (argsz !== plane.size) return -EINVAL;
    if ((flags & uapi.VFIO_GFX_PLANE_TYPE_PROBE) !== 0) return (flags & this.kinds) !== 0 ? 0 : -EINVAL;
    if (flags !== this.kinds) return -EINVAL;
    this.queries++;
    const failure = this.failures.shift();
    if (failure !== undefined) return failure;
    for (const [name, value] of Object.entries(this.planes.get(drm_plane_type) ?? {}))
      plane.field[name as keyof typeof plane.field].set(view, 0, value as never);
    return 0;
  }

  #take(id: number): number {
    if (!this.mayTake(id)) return -ENOENT;
    this.taken.push(id);
    let dmabuf = this.#dmabufs.get(id);
    if (!dmabuf) this.#dmabufs.set(id, (dmabuf = createMemfd('fake-dmabuf', 1 << 20)));
    return dupFd(dmabuf).take();
  }

  /** With the capability of a type if there is room for it. */
  #describe(view: DataView): number {
    const info = uapi.vfio_region_info;
    const capability = uapi.vfio_region_info_cap_type;
    const { argsz, index } = info.get(view, 0);
    const region = this.regions.get(index);
    if (!region) return -EINVAL;
    const { offset, size, flags, type, subtype } = region;
    const needed = info.size + (type > 0 ? capability.size : 0);
    const hasRoom = argsz >= needed;
    info.set(view, 0, {
      argsz: needed,
      index,
      offset,
      size,
      flags: flags | (type > 0 ? uapi.VFIO_REGION_INFO_FLAG_CAPS : 0),
      cap_offset: type > 0 && hasRoom ? info.size : 0,
    });
    const header = { id: uapi.VFIO_REGION_INFO_CAP_TYPE, version: 1, next: 0 };
    if (type > 0 && hasRoom) capability.set(view, info.size, { header, type, subtype });
    return 0;
  }
}

/** Devices come and go as the test says. */
export class FakeAccess implements DeviceAccess {
  listener!: AccessListener;
  abandoned = 0;
  #first: FakeDevice | null;

  constructor(first: FakeDevice | null = null) {
    this.#first = first;
  }

  start(listener: AccessListener): void {
    this.listener = listener;
    if (this.#first) this.open(this.#first);
  }

  open(device: FakeDevice): void {
    this.listener.opened(VfioDevice.open(device));
  }

  abandon(): void {
    this.abandoned++;
  }

  [Symbol.dispose](): void {
    this.#first = null;
  }
}

/** What a source reported, in lines; framebuffers have the letters a, b... in the order they appeared. */
export class SinkLog implements SourceSink {
  readonly lines: string[] = [];
  readonly framebuffers: Framebuffer[] = [];
  /** Not done yet. */
  flushes: Flush[] = [];

  /** The lines since the last call. */
  take(): string[] {
    return this.lines.splice(0);
  }

  /** The frame is on screen. */
  present(): void {
    for (const flush of this.flushes.splice(0)) flush.done();
  }

  scanout(id: number, framebuffer: Framebuffer | null, { width, height }: Rect): void {
    this.lines.push(`scanout ${id} ${this.#name(framebuffer)} ${width}x${height}`);
  }

  flush(id: number, damage: Damage, flush: Flush | null): void {
    const rects = Array.from({ length: damage.count }, (_, i) =>
      [damage.x(i), damage.y(i), damage.width(i), damage.height(i)].join(','),
    );
    this.lines.push(`flush ${id} ${rects.join(' ')}`);
    if (flush) this.flushes.push(flush);
  }

  cursor(id: number, framebuffer: Framebuffer | null, hotspotX: number, hotspotY: number, x: number, y: number): void {
    this.lines.push(`cursor ${id} ${this.#name(framebuffer)} hot ${hotspotX},${hotspotY} at ${x},${y}`);
  }

  cursorMoved(id: number, x: number, y: number): void {
    this.lines.push(`cursor ${id} to ${x},${y}`);
  }

  halted(): void {
    this.lines.push('halted');
  }

  destroyed(framebuffer: Framebuffer): void {
    this.lines.push(`destroyed ${this.#name(framebuffer)}`);
  }

  #name(framebuffer: Framebuffer | null): string {
    if (!framebuffer) return 'nothing';
    if (!this.framebuffers.includes(framebuffer)) this.framebuffers.push(framebuffer);
    return String.fromCharCode(97 + (this.framebuffers.indexOf(framebuffer) % 26));
  }
}
