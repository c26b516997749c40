import type { Rect } from '../../src/core/geometry.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import type { AtomicRequest, RequestObject } from './atomic-request.ts';
import type { CrtcId, FbId } from './ids.ts';
import type { Plane } from './resources.ts';

/** What every atomic plane has: what it shows, from where and to where. */
export const PLANE_PROPERTIES = ['FB_ID', 'CRTC_ID', 'SRC_X', 'SRC_Y', 'SRC_W', 'SRC_H', 'CRTC_X', 'CRTC_Y', 'CRTC_W', 'CRTC_H'];
const OPTIONAL = ['FB_DAMAGE_CLIPS', 'IN_FENCE_FD'];
const FIXED_POINT = 0x1_0000;
const ABSENT = -1;
const NO_FENCE = -1;

/** What a request sets of a plane: where its pixels are, from where and to where; what changed and what to wait for, where the driver takes that. */
export function planeObject(plane: Plane): RequestObject {
  const { properties } = plane;
  return { id: plane.id, properties: [...PLANE_PROPERTIES, ...OPTIONAL.filter((name) => properties.id(name) !== 0)].map((name) => properties.id(name)) };
}

/** One plane's slots in a request; `first` is its first. */
export class PlaneSlots {
  readonly #request: AtomicRequest;
  readonly #first: number;
  readonly #crtc: CrtcId;
  readonly #damage: number;
  readonly #fence: number;

  constructor(request: AtomicRequest, first: number, crtc: CrtcId, { properties }: Plane) {
    this.#request = request;
    this.#first = first;
    this.#crtc = crtc;
    let next = first + PLANE_PROPERTIES.length;
    const [damage, fence] = OPTIONAL.map((name) => (properties.id(name) === 0 ? ABSENT : next++)) as [number, number];
    this.#damage = damage;
    this.#fence = fence;
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

  /** A blob of drm_mode_rect; 0 is all of it. */
  damage(blob: number): void {
    if (this.#damage !== ABSENT) this.#request.set(this.#damage, blob);
  }

  /** What has to signal before the framebuffer is shown, in every commit until the next call; null is nothing. Any commit but a flip blocks. */
  waitFor(fence: BorrowedFd | null): void {
    if (this.#fence !== ABSENT) this.#request.set(this.#fence, fence ? fence.fd : NO_FENCE);
  }
}
