import { readlinkSync, readSync, writeSync } from 'node:fs';
import { formatInfo, formatName, type Fourcc, minPitch, type Modifier } from '../../../protocols/drm-fourcc.ts';
import * as uapi from '../../../protocols/vfio.ts';
import { ScanoutError, SysError } from '../../sys/errors.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { tryIoctl } from '../../sys/ioctl.ts';
import { Mapping } from '../../sys/mapping.ts';
import { NativeBuffer } from '../../sys/native-buffer.ts';

/**
 * Why there is no display of a device:
 * - `no-process`: there is no such process;
 * - `no-device`: no VFIO device where one was looked for;
 * - `no-display`: the device has no planes that can be shown;
 * - `forbidden`: no permission;
 * - `busy`: another process uses it;
 * - `failed`: a call failed that should not;
 * - `gone`: the device answers that it is no longer there;
 * - `plane`: the device describes a plane that cannot be.
 */
export type VfioErrorCode =
  'no-process' | 'no-device' | 'no-display' | 'forbidden' | 'busy' | 'failed' | 'gone' | 'plane';

export class VfioError extends ScanoutError<VfioErrorCode> {}

/** An open VFIO device. Tests have one without a kernel. */
export interface DeviceFile extends Disposable {
  /** ioctl(2) on a struct. Returns its result, or -errno. Neither throws nor allocates. */
  call(request: number, argument: NativeBuffer): number;
  /** Maps bytes of the device for reading; the caller owns the mapping. SysError. */
  map(offset: number, length: number): Mapping;
  /** pread(2), all of `into`. Throws Node's error. */
  read(into: Uint8Array, position: number): void;
  /** pwrite(2), all of `bytes`. Throws Node's error. */
  write(bytes: Uint8Array, position: number): void;
}

/** What /proc names the descriptor of a VFIO device that was opened through its group. No path looks like that. */
export const DEVICE_LINK = 'anon_inode:[vfio-device]';

/**
 * Takes ownership of a descriptor, which may come from a peer: that it is of a VFIO device is found out by its name,
 * because a call on any other file might never return (FUSE). VfioError `no-device`.
 */
export function openDeviceFile(fd: OwnedFd): DeviceFile {
  const name = readlinkSync(`/proc/self/fd/${fd.fd}`);
  if (name !== DEVICE_LINK) {
    fd[Symbol.dispose]();
    throw new VfioError(
      'no-device',
      `the descriptor is of ${name}, not of a VFIO device (of a group: ${DEVICE_LINK}); pass the one that VFIO_GROUP_GET_DEVICE_FD returned`,
    );
  }
  return {
    call: (request, argument) => tryIoctl(fd, request, argument.address),
    map: (offset, length) => Mapping.file(fd, offset, length, 'read'),
    read: (into, position) => readAll(fd, into, position),
    write: (bytes, position) => writeAll(fd, bytes, position),
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  };
}

function readAll(fd: OwnedFd, into: Uint8Array, position: number): void {
  const count = readSync(fd.fd, into, 0, into.length, position);
  if (count < into.length) throw new SysError('pread64', 'EIO', `${count} of ${into.length} bytes at ${position}`);
}

function writeAll(fd: OwnedFd, bytes: Uint8Array, position: number): void {
  const count = writeSync(fd.fd, bytes, 0, bytes.length, position);
  if (count < bytes.length) throw new SysError('pwrite64', 'EIO', `${count} of ${bytes.length} bytes at ${position}`);
}

/** More than any screen has, and few enough that sizes fit their types. */
export const MAX_SIDE = 16384;
const MAX_STRIDE = 8 * MAX_SIDE;
/** A cursor is compared and copied at once. */
export const MAX_CURSOR_SIDE = 512;

const plane = uapi.vfio_device_gfx_plane_info;

/** The device's newest answer about a plane. Reading it allocates nothing, except for `modifier`. */
export class PlaneAnswer implements Disposable {
  readonly buffer = NativeBuffer.allocate(plane.size);
  readonly #view = this.buffer.view;

  /** Makes it a question: `kind` is VFIO_GFX_PLANE_TYPE_*, `type` DRM_PLANE_TYPE_*. */
  ask(kind: number, type: number): void {
    this.buffer.bytes.fill(0);
    plane.field.argsz.set(this.#view, 0, plane.size);
    plane.field.flags.set(this.#view, 0, kind);
    plane.field.drm_plane_type.set(this.#view, 0, type);
  }

  /** False: the plane shows nothing. */
  get isOn(): boolean {
    return this.format !== 0;
  }

  get format(): Fourcc {
    return plane.field.drm_format.get(this.#view, 0) as Fourcc;
  }

  get modifier(): Modifier {
    return plane.field.drm_format_mod.get(this.#view, 0) as Modifier;
  }

  get modifierLow(): number {
    return this.#view.getUint32(plane.offset.drm_format_mod, true);
  }

  get modifierHigh(): number {
    return this.#view.getUint32(plane.offset.drm_format_mod + 4, true);
  }

  get width(): number {
    return plane.field.width.get(this.#view, 0);
  }

  get height(): number {
    return plane.field.height.get(this.#view, 0);
  }

  get stride(): number {
    return plane.field.stride.get(this.#view, 0);
  }

  /** Of the image's left edge; signed. */
  get x(): number {
    return plane.field.x_pos.get(this.#view, 0) | 0;
  }

  get y(): number {
    return plane.field.y_pos.get(this.#view, 0) | 0;
  }

  /** Inside the image; 0 if it is not known. */
  get hotspotX(): number {
    const x = plane.field.x_hot.get(this.#view, 0);
    return x < this.width ? x : 0;
  }

  get hotspotY(): number {
    const y = plane.field.y_hot.get(this.#view, 0);
    return y < this.height ? y : 0;
  }

  /** Of the dma-buf, or of the region. */
  get id(): number {
    return plane.field.dmabuf_id.get(this.#view, 0);
  }

  /** Throws VfioError `plane` for what cannot be a picture with one memory plane, or is larger than `maxSide`. */
  check(maxSide: number): void {
    const { format, width, height, stride } = this;
    const info = formatInfo(format);
    const isPossible =
      info?.planes.length === 1 &&
      width > 0 &&
      height > 0 &&
      width <= maxSide &&
      height <= maxSide &&
      stride >= minPitch(info, 0, width) &&
      stride <= MAX_STRIDE;
    if (!isPossible)
      throw new VfioError(
        'plane',
        `the device describes a plane of ${width}x${height} ${formatName(format)} with ${stride} bytes a row`,
      );
  }

  [Symbol.dispose](): void {
    this.buffer[Symbol.dispose]();
  }
}

/** A part of the device that can be read, written or mapped; `offset` is where it is in the device's file. */
export interface Region {
  readonly offset: number;
  readonly size: number;
  /** VFIO_REGION_INFO_FLAG_* */
  readonly flags: number;
  /** Of the capability VFIO_REGION_INFO_CAP_TYPE; 0 without. */
  readonly type: number;
  readonly subtype: number;
}

/** Longer than any answer with capabilities. */
const MAX_REGION_INFO = 65_536;

/** How a device hands out its planes: as dma-bufs with ids, or as memory of one of its regions. */
export type PlaneMode = 'dma-buf' | 'region';

/** With the kernel's number of each; those that are tried first come first. */
const MODES: readonly { readonly name: PlaneMode; readonly kind: number }[] = [
  { name: 'dma-buf', kind: uapi.VFIO_GFX_PLANE_TYPE_DMABUF },
  { name: 'region', kind: uapi.VFIO_GFX_PLANE_TYPE_REGION },
];

/** The display of a VFIO device (linux/vfio.h, VFIO_DEVICE_QUERY_GFX_PLANE). */
export class VfioDevice implements Disposable {
  readonly mode: PlaneMode;
  readonly file: DeviceFile;
  /** Of the newest `query`. */
  readonly answer: PlaneAnswer;
  readonly #kind: number;
  readonly #id = NativeBuffer.allocate(4);

  private constructor(file: DeviceFile, answer: PlaneAnswer, { name, kind }: (typeof MODES)[number]) {
    this.file = file;
    this.answer = answer;
    this.mode = name;
    this.#kind = kind;
  }

  /** Takes ownership of `file`, also on failure. VfioError `no-display` if the device has no planes. */
  static open(file: DeviceFile): VfioDevice {
    const answer = new PlaneAnswer();
    for (const mode of MODES) {
      answer.ask(uapi.VFIO_GFX_PLANE_TYPE_PROBE | mode.kind, 0);
      if (file.call(uapi.VFIO_DEVICE_QUERY_GFX_PLANE, answer.buffer) >= 0) return new VfioDevice(file, answer, mode);
    }
    answer[Symbol.dispose]();
    file[Symbol.dispose]();
    throw new VfioError(
      'no-display',
      'the device has no display planes, neither in dma-bufs nor in a region: it is no virtual GPU, or its driver has no display',
    );
  }

  /** Asks for a plane, DRM_PLANE_TYPE_*. Returns -errno, or 0 or more with the result in `answer`. Allocates nothing. */
  query(type: number): number {
    this.answer.ask(this.#kind, type);
    return this.file.call(uapi.VFIO_DEVICE_QUERY_GFX_PLANE, this.answer.buffer);
  }

  /** The dma-buf with this id, which the caller owns; -errno if there is none any more. */
  takeDmabuf(id: number): OwnedFd | number {
    this.#id.view.setUint32(0, id, true);
    const fd = this.file.call(uapi.VFIO_DEVICE_GET_GFX_DMABUF, this.#id);
    // Adds close-on-exec, too.
    return fd < 0 ? fd : OwnedFd.inherit(fd);
  }

  /** Null if the device has no region `index`, or describes it in a way that cannot be. */
  region(index: number): Region | null {
    const info = uapi.vfio_region_info;
    let length = info.size;
    for (let isSecond = false; ; isSecond = true) {
      using buffer = NativeBuffer.allocate(length);
      const { view } = buffer;
      info.field.argsz.set(view, 0, length);
      info.field.index.set(view, 0, index);
      if (this.file.call(uapi.VFIO_DEVICE_GET_REGION_INFO, buffer) < 0) return null;
      const needed = info.field.argsz.get(view, 0);
      if (!isSecond && needed > length && needed <= MAX_REGION_INFO) {
        length = needed;
        continue;
      }
      const { flags, offset, size, cap_offset } = info.get(view, 0);
      const hasCapabilities = (flags & uapi.VFIO_REGION_INFO_FLAG_CAPS) !== 0;
      const { type, subtype } = hasCapabilities ? findType(view, cap_offset) : { type: 0, subtype: 0 };
      return Number.isSafeInteger(offset + size) ? { offset, size, flags, type, subtype } : null;
    }
  }

  [Symbol.dispose](): void {
    this.#id[Symbol.dispose]();
    this.answer[Symbol.dispose]();
    this.file[Symbol.dispose]();
  }
}

/** Follows the capabilities in an answer from `at` on. */
function findType(view: DataView, at: number): { type: number; subtype: number } {
  const { field, size } = uapi.vfio_region_info_cap_type;
  // Each is behind the one before, so that a loop of them ends.
  for (let next = at, last = 0; next > last && next + uapi.vfio_info_cap_header.size <= view.byteLength;) {
    const header = uapi.vfio_info_cap_header.get(view, next);
    if (header.id === uapi.VFIO_REGION_INFO_CAP_TYPE && next + size <= view.byteLength)
      return { type: field.type.get(view, next), subtype: field.subtype.get(view, next) };
    last = next;
    next = header.next;
  }
  return { type: 0, subtype: 0 };
}
