import { DRM_MODE_ATOMIC_ALLOW_MODESET, DRM_MODE_ATOMIC_NONBLOCK, DRM_MODE_ATOMIC_TEST_ONLY, DRM_MODE_PAGE_FLIP_EVENT } from '../../protocols/drm-mode.ts';
import { AtomicRequest } from './atomic-request.ts';
import type { KmsDevice } from './device.ts';
import type { BlobId } from './ids.ts';
import type { Pipe } from './pipes.ts';
import { planeObject, PlaneSlots } from './plane-slots.ts';

const FLIP = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK;
const LIGHT = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_ALLOW_MODESET;

/** Of the last commit with an event, whichever the CRTC; 0 is none. */
let lastSerial = 0;

/**
 * The one atomic request of a CRTC, laid out once: what changes with a frame in front, what
 * changes with the monitor behind. It always states the whole of the planes, those not shown too,
 * so the picture and the mode can be set together whatever others left in the kernel.
 *
 *     primary | cursor | overlay | CRTC: MODE_ID, ACTIVE | connector: CRTC_ID
 *     `- flip: the first N -----'
 *     `- light, darken: all ------------------------------------------------'
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
  /** Slots of MODE_ID, ACTIVE and the connector's CRTC_ID. */
  readonly #mode: number;
  #serial = 0;

  constructor(device: KmsDevice, { primary, cursor, overlay, crtc, connector }: Pipe, mode: BlobId) {
    const planes = [primary, cursor, overlay].filter((plane) => plane !== null).map(planeObject);
    this.#device = device;
    this.planes = planes.length;
    this.#request = new AtomicRequest([
      ...planes,
      { id: crtc.id, properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')] },
      { id: connector.id, properties: [connector.properties.id('CRTC_ID')] },
    ]);
    let first = 0;
    const slots = planes.map(({ properties }) => {
      const each = new PlaneSlots(this.#request, first, crtc.id, properties);
      first += properties.length;
      return each;
    });
    this.primary = slots[0]!;
    if (cursor) this.cursor = slots[1]!;
    if (overlay) this.overlay = slots.at(-1)!;
    this.#mode = first;
    [mode, 1, crtc.id].forEach((value, i) => this.#request.set(first + i, value));
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
    this.#request[Symbol.dispose]();
  }
}
