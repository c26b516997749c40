import { DRM_IOCTL_MODE_ATOMIC, drm_mode_atomic } from '../../protocols/drm-mode.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { tryIoctl } from '../../src/sys/ioctl.ts';
import type { KmsDevice } from './device.ts';
import type { PropertyId } from './ids.ts';

const TWO_POW_32 = 0x1_0000_0000;

/** An object and those of its properties a request sets, in order. */
export interface RequestObject {
  readonly id: number;
  readonly properties: readonly PropertyId[];
}

/**
 * DRM_IOCTL_MODE_ATOMIC's argument and its four arrays in one piece of memory that never moves.
 * Laid out once; afterwards only values change and nothing is allocated. A property is named by
 * its slot: its place in the list of all properties of all objects.
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

  /** A safe integer: an id, pixels, 16.16 fixed point, an address. */
  set(slot: number, value: number): void {
    const { view } = this.#buffer;
    view.setInt32(this.#values + slot * 8, value | 0, true);
    // A quotient is a number on the heap until the function is compiled, and nearly all values are small.
    view.setInt32(this.#values + slot * 8 + 4, value === (value | 0) ? value >> 31 : Math.floor(value / TWO_POW_32), true);
  }

  /** Sends the first `objects` of the request: 0, or -errno with nothing changed. An event asked for brings `serial` back. */
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
