import {
  DRM_IOCTL_MODE_ATOMIC,
  DRM_IOCTL_MODE_CREATEPROPBLOB,
  DRM_IOCTL_MODE_DESTROYPROPBLOB,
  drm_mode_atomic,
  DRM_MODE_ATOMIC_ALLOW_MODESET,
  DRM_MODE_ATOMIC_NONBLOCK,
  DRM_MODE_ATOMIC_TEST_ONLY,
  drm_mode_create_blob,
  drm_mode_destroy_blob,
  DRM_MODE_PAGE_FLIP_EVENT,
  drm_mode_rect,
} from '../../protocols/drm-mode.ts';
import type { Damage } from '../../src/core/damage.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { EAGAIN, EINTR } from '../../src/sys/errors.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { tryIoctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import type { KmsDevice } from './device.ts';
import type { BlobId, CrtcId, FbId, PropertyId } from './ids.ts';
import type { Pipe, Plane } from './resources.ts';

/* The result of an atomic commit: 0, -errno with nothing changed, or MUST_WAIT. */

/** The commit was not sent, because it would block until the picture's fence has signalled. */
export const MUST_WAIT = 1;

const EPERM = 1;
const ENOMEM = 12;
const EACCES = 13;
const EBUSY = 16;
const ENODEV = 19;

/** Errors that do not depend on what was asked for: the same commit may work later. */
const passing = new Set([EPERM, EINTR, EAGAIN, ENOMEM, EACCES, EBUSY, ENODEV].map((errno) => -errno));

/** The hardware or its driver cannot do what was asked for. */
export function isRefused(result: number): boolean {
  return result < 0 && !passing.has(result);
}

/** Another commit is not on screen yet. */
export function isBusy(result: number): boolean {
  return result === -EBUSY;
}

/** Another program is master of the card. */
export function isForbidden(result: number): boolean {
  return result === -EACCES || result === -EPERM;
}

/** The card was pulled out, or its driver is gone. */
export function isGone(result: number): boolean {
  return result === -ENODEV;
}

const TWO_POW_32 = 0x1_0000_0000;

/** An object and the properties of it that a request sets, in order. */
export interface RequestObject {
  readonly id: number;
  readonly properties: readonly PropertyId[];
}

/**
 * The argument of DRM_IOCTL_MODE_ATOMIC and its four arrays, in one block of memory that never
 * moves. It is laid out once; afterwards only values change, and nothing is allocated. A slot is
 * the index of a property in the list of all properties of all objects.
 *
 *     drm_mode_atomic | objs u32[] | count_props u32[] | props u32[] | prop_values u64[]
 */
export class AtomicRequest implements Disposable {
  readonly #buffer: NativeBuffer;
  readonly #objects: number;
  readonly #values: number;

  constructor(objects: readonly RequestObject[]) {
    const slots = objects.reduce((sum, { properties }) => sum + properties.length, 0);
    const objs = drm_mode_atomic.size;
    const counts = objs + objects.length * 4;
    const props = counts + objects.length * 4;
    this.#objects = objects.length;
    this.#values = Math.ceil((props + slots * 4) / 8) * 8;
    this.#buffer = NativeBuffer.allocate(this.#values + slots * 8);
    const { view, address } = this.#buffer;
    drm_mode_atomic.field.objs_ptr.set(view, 0, address + objs);
    drm_mode_atomic.field.count_props_ptr.set(view, 0, address + counts);
    drm_mode_atomic.field.props_ptr.set(view, 0, address + props);
    drm_mode_atomic.field.prop_values_ptr.set(view, 0, address + this.#values);
    let slot = 0;
    objects.forEach(({ id, properties }, i) => {
      view.setUint32(objs + i * 4, id, true);
      view.setUint32(counts + i * 4, properties.length, true);
      for (const property of properties) view.setUint32(props + slot++ * 4, property, true);
    });
  }

  /** Sets the value of a slot, a safe integer: an id, pixels, 16.16 fixed point, an address. */
  set(slot: number, value: number): void {
    const { view } = this.#buffer;
    view.setInt32(this.#values + slot * 8, value | 0, true);
    // Until the function is compiled a quotient is allocated on the heap, and nearly all values are small.
    view.setInt32(
      this.#values + slot * 8 + 4,
      value === (value | 0) ? value >> 31 : Math.floor(value / TWO_POW_32),
      true,
    );
  }

  /**
   * Sends the request as a change of modes, once the CRTCs are idle; with an event if there is a serial for it. Returns as
   * `commit` does.
   */
  change(device: KmsDevice, serial = 0): number {
    const flags = serial === 0 ? MODESET : MODESET | DRM_MODE_PAGE_FLIP_EVENT;
    return untilIdle(() => this.commit(device, flags, undefined, serial));
  }

  /**
   * Sends the first `objects` of the request. Returns 0, or -errno with nothing changed. If `flags` ask for
   * an event, it carries `serial`.
   */
  commit(device: KmsDevice, flags: number, objects: number = this.#objects, serial = 0): number {
    const { view, address } = this.#buffer;
    drm_mode_atomic.field.flags.set(view, 0, flags);
    drm_mode_atomic.field.count_objs.set(view, 0, objects);
    drm_mode_atomic.field.user_data.set(view, 0, serial);
    return tryIoctl(device.fd, DRM_IOCTL_MODE_ATOMIC, address);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

/** The properties that every atomic plane has. */
export const PLANE_PROPERTIES = [
  'FB_ID',
  'CRTC_ID',
  'SRC_X',
  'SRC_Y',
  'SRC_W',
  'SRC_H',
  'CRTC_X',
  'CRTC_Y',
  'CRTC_W',
  'CRTC_H',
];
const OPTIONAL = ['FB_DAMAGE_CLIPS', 'IN_FENCE_FD', 'HOTSPOT_X', 'HOTSPOT_Y'];
const FIXED_POINT = 0x1_0000;
const ABSENT = -1;
const NO_FENCE = -1;

/**
 * What a request sets on a plane: framebuffer, source and destination, and damage, in-fence and the hotspot of a
 * cursor if the driver has those.
 */
export function planeObject(plane: Plane): RequestObject {
  const { properties } = plane;
  return {
    id: plane.id,
    properties: [...PLANE_PROPERTIES, ...OPTIONAL.filter((name) => properties.id(name) !== 0)].map((name) =>
      properties.id(name),
    ),
  };
}

/** One plane's slots in a request, which begin at `first`. */
export class PlaneSlots {
  readonly #request: AtomicRequest;
  readonly #first: number;
  readonly #crtc: CrtcId;
  readonly #damage: number;
  readonly #fence: number;
  readonly #hotspotX: number;
  readonly #hotspotY: number;

  constructor(request: AtomicRequest, first: number, crtc: CrtcId, { properties }: Plane) {
    this.#request = request;
    this.#first = first;
    this.#crtc = crtc;
    let next = first + PLANE_PROPERTIES.length;
    const [damage, fence, hotspotX, hotspotY] = OPTIONAL.map((name) =>
      properties.id(name) === 0 ? ABSENT : next++,
    ) as [number, number, number, number];
    this.#damage = damage;
    this.#fence = fence;
    this.#hotspotX = hotspotX;
    this.#hotspotY = hotspotY;
    this.waitFor(null);
  }

  get hasDamage(): boolean {
    return this.#damage !== ABSENT;
  }

  get takesFences(): boolean {
    return this.#fence !== ABSENT;
  }

  show(fb: FbId, src: Rect, x: number, y: number, width: number, height: number): void {
    const request = this.#request;
    const first = this.#first;
    request.set(first, fb);
    request.set(first + 1, this.#crtc);
    request.set(first + 2, src.x * FIXED_POINT);
    request.set(first + 3, src.y * FIXED_POINT);
    request.set(first + 4, src.width * FIXED_POINT);
    request.set(first + 5, src.height * FIXED_POINT);
    request.set(first + 6, x);
    request.set(first + 7, y);
    request.set(first + 8, width);
    request.set(first + 9, height);
    this.damage(0);
  }

  hide(): void {
    for (let slot = 0; slot < PLANE_PROPERTIES.length; slot++) this.#request.set(this.#first + slot, 0);
    this.damage(0);
  }

  /** For virtual cards, whose host has a pointer of its own: the pixel of the plane that it is at. */
  hotspot(x: number, y: number): void {
    if (this.#hotspotX !== ABSENT) this.#request.set(this.#hotspotX, x);
    if (this.#hotspotY !== ABSENT) this.#request.set(this.#hotspotY, y);
  }

  /** What changed: a blob of drm_mode_rect; 0 means everything. */
  damage(blob: number): void {
    if (this.#damage !== ABSENT) this.#request.set(this.#damage, blob);
  }

  /**
   * The fence that has to signal before the framebuffer is shown, for every commit until the next call. Any
   * commit but a flip blocks on it.
   */
  waitFor(fence: BorrowedFd | null): void {
    if (this.#fence !== ABSENT) this.#request.set(this.#fence, fence ? fence.fd : NO_FENCE);
  }
}

/*
 * No commit blocks. The kernel would hold it until the commit before it and the fences of its picture have ended, which
 * a hung GPU or driver delays by ten seconds and more.
 */
const FLIP = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK;
const MODESET = DRM_MODE_ATOMIC_ALLOW_MODESET | DRM_MODE_ATOMIC_NONBLOCK;

/* How often `untilIdle` tries, and how long it waits in between. */
const TRIES = 20;
const PAUSE_MS = 5;
const forever = new Int32Array(new SharedArrayBuffer(4));

/**
 * Repeats a commit that is refused because another is not on screen yet, which usually takes no longer than a refresh:
 * for at most 100 ms, during which the event loop stands still. Returns the last result.
 */
export function untilIdle(commit: () => number): number {
  for (let tries = 1; ; tries++) {
    const result = commit();
    if (!isBusy(result) || tries === TRIES) return result;
    Atomics.wait(forever, 0, 0, PAUSE_MS);
  }
}

/** Serial of the last commit with an event, on any CRTC; 0 before the first. */
let lastSerial = 0;

/** For a commit with an event. */
export function nextSerial(): number {
  return ++lastSerial;
}

/**
 * The one atomic request of a CRTC, laid out once: first what changes with a frame, then what
 * changes with the monitor. It states every plane completely, hidden ones included, so that the
 * picture and the mode can be set together whatever state another program left.
 *
 *     primary | cursor | overlay | CRTC: OUT_FENCE_PTR | CRTC: MODE_ID, ACTIVE | connector: CRTC_ID
 *     `- flip: the first N -----'                      |                                          |
 *     `- flip that gives a fence ----------------------'                                          |
 *     `- enable, disable: all --------------------------------------------------------------------'
 *
 * Every commit returns 0, or -errno with nothing changed.
 */
export class PipeRequest implements Disposable {
  readonly primary: PlaneSlots;
  readonly cursor: PlaneSlots | null = null;
  readonly overlay: PlaneSlots | null = null;
  /** The number of planes, which is the number of objects in a flip of all of them. */
  readonly planes: number;
  readonly #device: KmsDevice;
  readonly #request: AtomicRequest;
  /**
   * The slot of OUT_FENCE_PTR, and the memory that the kernel writes a descriptor to; null if the driver has
   * no out-fences.
   */
  readonly #outFence: number;
  readonly #fence: NativeBuffer | null;
  /** Slots of MODE_ID, ACTIVE and the connector's CRTC_ID. */
  readonly #mode: number;
  #serial = 0;

  constructor(device: KmsDevice, { primary, cursor, overlay, crtc, connector }: Pipe, mode: BlobId) {
    const planes = [primary, cursor, overlay].filter((plane) => plane !== null);
    const objects = planes.map(planeObject);
    const outFence = crtc.properties.id('OUT_FENCE_PTR');
    this.#device = device;
    this.planes = planes.length;
    this.#request = new AtomicRequest([
      ...objects,
      ...(outFence === 0 ? [] : [{ id: crtc.id, properties: [outFence] }]),
      { id: crtc.id, properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')] },
      { id: connector.id, properties: [connector.properties.id('CRTC_ID')] },
    ]);
    let first = 0;
    const slots = planes.map((plane, i) => {
      const each = new PlaneSlots(this.#request, first, crtc.id, plane);
      first += objects[i]!.properties.length;
      return each;
    });
    this.primary = slots[0]!;
    if (cursor) this.cursor = slots[1]!;
    if (overlay) this.overlay = slots.at(-1)!;
    this.#outFence = first;
    this.#fence = outFence === 0 ? null : NativeBuffer.allocate(4);
    this.#fence?.view.setInt32(0, NO_FENCE, true);
    this.#mode = outFence === 0 ? first : first + 1;
    [mode, 1, crtc.id].forEach((value, i) => this.#request.set(this.#mode + i, value));
  }

  /** The serial that the event of the last `flip` or `enable` carries. */
  get serial(): number {
    return this.#serial;
  }

  /** Asks whether a `flip`, or an `enable`, would be accepted. */
  test(isEnabled: boolean): number {
    return isEnabled
      ? this.#request.commit(this.#device, DRM_MODE_ATOMIC_TEST_ONLY, this.planes)
      : this.#request.commit(this.#device, DRM_MODE_ATOMIC_TEST_ONLY | DRM_MODE_ATOMIC_ALLOW_MODESET);
  }

  /** Shows the first `planes` planes at the next vertical blank. */
  flip(planes: number): number {
    this.#serial = nextSerial();
    return this.#request.commit(this.#device, FLIP, planes, this.#serial);
  }

  /** Flips all planes and leaves a fence for `takeFence`, if the driver has out-fences. */
  flipFenced(): number {
    if (!this.#fence) return this.flip(this.planes);
    this.#serial = nextSerial();
    this.#request.set(this.#outFence, this.#fence.address);
    const result = this.#request.commit(this.#device, FLIP, this.planes + 1, this.#serial);
    this.#request.set(this.#outFence, 0);
    return result;
  }

  /**
   * The sync_file that signals with the event of the last `flipFenced`. The caller owns it. Null if that
   * failed or gave none.
   */
  takeFence(): OwnedFd | null {
    const fd = this.#fence?.view.getInt32(0, true) ?? NO_FENCE;
    if (fd === NO_FENCE) return null;
    this.#fence!.view.setInt32(0, NO_FENCE, true);
    return OwnedFd.adopt(fd);
  }

  /** Sets mode and planes together. */
  enable(): number {
    this.#serial = nextSerial();
    return this.#request.commit(this.#device, MODESET | DRM_MODE_PAGE_FLIP_EVENT, undefined, this.#serial);
  }

  /** Turns everything off, for good. -EBUSY if the CRTC is stuck; it stays on then. */
  disable(): number {
    for (const plane of [this.primary, this.cursor, this.overlay]) plane?.hide();
    [0, 0, 0].forEach((value, i) => this.#request.set(this.#mode + i, value));
    return this.#request.change(this.#device);
  }

  [Symbol.dispose](): void {
    this.takeFence()?.[Symbol.dispose]();
    this.#fence?.[Symbol.dispose]();
    this.#request[Symbol.dispose]();
  }
}

/** The number of rectangles that Damage keeps. */
const MAX_CLIPS = 16;

/** Above this share of the picture two more ioctls cost more than the driver would save. */
const WORTHWHILE_SHARE = 0.5;

/**
 * A plane's FB_DAMAGE_CLIPS for one commit. Drivers that have the property copy or send what is
 * shown (USB, virtual machines, panel self refresh), so for small damage it pays to make and
 * destroy a blob with two ioctls. Without a blob the kernel takes everything as changed.
 */
export class DamageClips implements Disposable {
  readonly #device: KmsDevice;
  readonly #rects = NativeBuffer.allocate(MAX_CLIPS * drm_mode_rect.size);
  readonly #argument = NativeBuffer.allocate(drm_mode_create_blob.size);

  constructor(device: KmsDevice) {
    this.#device = device;
  }

  /** Returns a blob, or 0 for everything. The caller drops it after the commit. */
  make(damage: Damage, src: Rect): number {
    if (damage.count === 0 || damage.count > MAX_CLIPS || damage.area > src.width * src.height * WORTHWHILE_SHARE)
      return 0;
    const { view } = this.#rects;
    for (let i = 0; i < damage.count; i++) {
      const at = i * drm_mode_rect.size;
      drm_mode_rect.field.x1.set(view, at, damage.x(i));
      drm_mode_rect.field.y1.set(view, at, damage.y(i));
      drm_mode_rect.field.x2.set(view, at, damage.x(i) + damage.width(i));
      drm_mode_rect.field.y2.set(view, at, damage.y(i) + damage.height(i));
    }
    const argument = this.#argument;
    drm_mode_create_blob.field.data.set(argument.view, 0, this.#rects.address);
    drm_mode_create_blob.field.length.set(argument.view, 0, damage.count * drm_mode_rect.size);
    if (tryIoctl(this.#device.fd, DRM_IOCTL_MODE_CREATEPROPBLOB, argument.address) < 0) return 0;
    return drm_mode_create_blob.field.blob_id.get(argument.view, 0);
  }

  drop(blob: number): void {
    if (blob === 0) return;
    drm_mode_destroy_blob.field.blob_id.set(this.#argument.view, 0, blob);
    tryIoctl(this.#device.fd, DRM_IOCTL_MODE_DESTROYPROPBLOB, this.#argument.address);
  }

  [Symbol.dispose](): void {
    this.#rects[Symbol.dispose]();
    this.#argument[Symbol.dispose]();
  }
}
