import { DRM_MODE_ATOMIC_ALLOW_MODESET, DRM_MODE_ATOMIC_NONBLOCK, DRM_MODE_ATOMIC_TEST_ONLY, DRM_MODE_PAGE_FLIP_EVENT } from '../../protocols/drm-mode.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { AtomicRequest } from './atomic-request.ts';
import type { KmsDevice } from './device.ts';
import type { BlobId } from './ids.ts';
import type { Pipe } from './pipes.ts';
import { planeObject, PlaneSlots } from './plane-slots.ts';

const FLIP = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK;
const NO_FENCE = -1;
const LIGHT = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_ALLOW_MODESET;

/** Of the last commit with an event, whichever the CRTC; 0 is none. */
let lastSerial = 0;

/**
 * The one atomic request of a CRTC, laid out once: what changes with a frame in front, what
 * changes with the monitor behind. It always states the whole of the planes, those not shown too,
 * so the picture and the mode can be set together whatever others left in the kernel.
 *
 *     primary | cursor | overlay | CRTC: OUT_FENCE_PTR | CRTC: MODE_ID, ACTIVE | connector: CRTC_ID
 *     `- flip: the first N -----'                      |                                          |
 *     `- flip that gives a fence ----------------------'                                          |
 *     `- light, darken: all ----------------------------------------------------------------------'
 *
 * Every commit gives 0, or -errno with nothing changed.
 */
export class PipeRequest implements Disposable {
  readonly primary: PlaneSlots;
  readonly cursor: PlaneSlots | null = null;
  readonly overlay: PlaneSlots | null = null;
  /** Objects of a flip that states every plane. */
  readonly planes: number;
  readonly #device: KmsDevice;
  readonly #request: AtomicRequest;
  /** The slot of OUT_FENCE_PTR, and where the kernel puts a descriptor; null where the driver gives no fences. */
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

  /** What the event of the last `flip` or `light` will say. */
  get serial(): number {
    return this.#serial;
  }

  /** Would a `flip`, or a `light`, be accepted? */
  test(isLit: boolean): number {
    return isLit
      ? this.#request.commit(this.#device, DRM_MODE_ATOMIC_TEST_ONLY, this.planes)
      : this.#request.commit(this.#device, DRM_MODE_ATOMIC_TEST_ONLY | DRM_MODE_ATOMIC_ALLOW_MODESET);
  }

  /** The first `planes` of them, at the next vertical blank. */
  flip(planes: number): number {
    this.#serial = ++lastSerial;
    return this.#request.commit(this.#device, FLIP, planes, lastSerial);
  }

  /** A flip of all of them that leaves a fence for `takeFence`, if the driver gives any. */
  flipFenced(): number {
    if (!this.#fence) return this.flip(this.planes);
    this.#serial = ++lastSerial;
    this.#request.set(this.#outFence, this.#fence.address);
    const result = this.#request.commit(this.#device, FLIP, this.planes + 1, lastSerial);
    this.#request.set(this.#outFence, 0);
    return result;
  }

  /** The sync_file that signals with the event of the last `flipFenced`, now the caller's; null if that failed, or gave none. */
  takeFence(): OwnedFd | null {
    const fd = this.#fence?.view.getInt32(0, true) ?? NO_FENCE;
    if (fd === NO_FENCE) return null;
    this.#fence!.view.setInt32(0, NO_FENCE, true);
    return OwnedFd.adopt(fd);
  }

  /** Mode and planes in one, and waits for it: a driver that is still busy for others refuses nothing then. */
  light(): number {
    this.#serial = ++lastSerial;
    return this.#request.commit(this.#device, LIGHT, undefined, lastSerial);
  }

  /** Turns all of it off, for good. */
  darken(): number {
    for (const plane of [this.primary, this.cursor, this.overlay]) plane?.hide();
    [0, 0, 0].forEach((value, i) => this.#request.set(this.#mode + i, value));
    return this.#request.commit(this.#device, DRM_MODE_ATOMIC_ALLOW_MODESET);
  }

  [Symbol.dispose](): void {
    this.takeFence()?.[Symbol.dispose]();
    this.#fence?.[Symbol.dispose]();
    this.#request[Symbol.dispose]();
  }
}
