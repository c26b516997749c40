import { DRM_MODE_ATOMIC_ALLOW_MODESET } from '../../protocols/drm-mode.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { AtomicRequest } from './atomic-request.ts';
import type { KmsDevice } from './device.ts';
import { PLANE_PROPERTIES } from './plane-slots.ts';
import { createBlob, destroyBlob, type Properties, readBlob } from './properties.ts';
import type { Resources } from './resources.ts';

interface Saved {
  readonly id: number;
  readonly properties: Properties;
  readonly names: readonly string[];
}

/** What a card showed before us (a console, a boot splash), to be shown again after us. */
export class SavedState implements Disposable {
  readonly #device: KmsDevice;
  readonly #objects: readonly Saved[];
  /** Copies of the modes' blobs, which go with their last use: by the old blob's id. */
  readonly #modes = new Map<number, number>();
  readonly #stack: DisposableStack;

  /** Reads nothing anew: it is as of reading `resources`. */
  constructor(device: KmsDevice, { connectors, crtcs, planes }: Resources) {
    using stack = new DisposableStack();
    this.#device = device;
    for (const { properties } of crtcs) {
      const old = properties.value('MODE_ID');
      const mode = readBlob(device, old);
      if (!mode) continue;
      const copy = createBlob(device, mode);
      stack.defer(() => destroyBlob(device, copy));
      this.#modes.set(old, copy);
    }
    this.#objects = [
      ...connectors.map(({ id, properties }) => ({ id, properties, names: ['CRTC_ID'] })),
      ...crtcs.map(({ id, properties }) => ({ id, properties, names: ['MODE_ID', 'ACTIVE'] })),
      ...planes.map(({ id, properties }) => ({ id, properties, names: PLANE_PROPERTIES })),
    ];
    this.#stack = stack.move();
  }

  /** Waits until the old picture is back; false where it is gone with its owner, or the card is not ours. */
  restore(): boolean {
    using request = new AtomicRequest(this.#objects.map(({ id, properties, names }) => ({ id, properties: names.map((name) => properties.id(name)) })));
    const values = this.#objects.flatMap(({ properties, names }) => names.map((name) => this.#value(properties, name)));
    values.forEach((value, slot) => request.set(slot, value));
    return request.commit(this.#device, DRM_MODE_ATOMIC_ALLOW_MODESET) === 0;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #value(properties: Properties, name: string): number {
    const value = properties.value(name);
    return name === 'MODE_ID' ? (this.#modes.get(value) ?? 0) : value;
  }
}
