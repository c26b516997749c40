import type { Rect } from '../../src/core/geometry.ts';
import type { AtomicRequest, RequestObject } from './atomic-request.ts';
import type { CrtcId, FbId, PropertyId } from './ids.ts';
import type { Plane } from './resources.ts';

const PROPERTIES = ['FB_ID', 'CRTC_ID', 'SRC_X', 'SRC_Y', 'SRC_W', 'SRC_H', 'CRTC_X', 'CRTC_Y', 'CRTC_W', 'CRTC_H'];
const FIXED_POINT = 0x1_0000;

/** What a request sets of a plane: where its pixels are, from where and to where, and what changed if the driver asks. */
export function planeObject(plane: Plane): RequestObject {
  const damage = plane.properties.id('FB_DAMAGE_CLIPS');
  const properties = PROPERTIES.map((name) => plane.properties.id(name));
  return { id: plane.id, properties: damage === 0 ? properties : [...properties, damage] };
}

/** One plane's slots in a request; `first` is its first. */
export class PlaneSlots {
  readonly #request: AtomicRequest;
  readonly #first: number;
  readonly #crtc: CrtcId;
  readonly hasDamage: boolean;

  constructor(request: AtomicRequest, first: number, crtc: CrtcId, properties: readonly PropertyId[]) {
    this.#request = request;
    this.#first = first;
    this.#crtc = crtc;
    this.hasDamage = properties.length > PROPERTIES.length;
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
    if (this.hasDamage) request.set(first + 10, 0);
  }

  hide(): void {
    for (let slot = 0; slot < PROPERTIES.length; slot++) this.#request.set(this.#first + slot, 0);
    if (this.hasDamage) this.#request.set(this.#first + 10, 0);
  }

  /** A blob of drm_mode_rect; 0 is all of it. Only where `hasDamage`. */
  damage(blob: number): void {
    this.#request.set(this.#first + 10, blob);
  }
}
