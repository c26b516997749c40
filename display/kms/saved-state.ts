import { DRM_MODE_ATOMIC_ALLOW_MODESET } from '../../protocols/drm-mode.ts';
import { AtomicRequest, type RequestObject } from './atomic-request.ts';
import type { KmsDevice } from './device.ts';
import type { BlobId, PropertyId } from './ids.ts';
import type { Pipe } from './pipes.ts';
import { createBlob, destroyBlob, type Properties, readBlob } from './properties.ts';

interface Saved {
  readonly id: number;
  readonly properties: Properties;
  readonly names: readonly string[];
}

const PLANE = ['FB_ID', 'CRTC_ID', 'SRC_X', 'SRC_Y', 'SRC_W', 'SRC_H', 'CRTC_X', 'CRTC_Y', 'CRTC_W', 'CRTC_H'];

/** What a pipe showed before us (a console, a boot splash), to be shown again after us. */
export class SavedState implements Disposable {
  readonly #device: KmsDevice;
  readonly #objects: readonly Saved[];
  /** A copy of the mode's blob, which goes with its last use. */
  readonly #mode: BlobId;

  /** Reads nothing anew: the pipe's properties are as of opening the device. */
  constructor(device: KmsDevice, pipe: Pipe) {
    this.#device = device;
    const { connector, crtc } = pipe;
    const planes = [pipe.primary, pipe.cursor, pipe.overlay].filter((plane) => plane !== null);
    const mode = readBlob(device, crtc.properties.value('MODE_ID'));
    this.#mode = mode ? createBlob(device, mode) : (0 as BlobId);
    this.#objects = [
      { id: connector.id, properties: connector.properties, names: ['CRTC_ID'] },
      { id: crtc.id, properties: crtc.properties, names: ['MODE_ID', 'ACTIVE'] },
      ...planes.map(({ id, properties }) => ({ id, properties, names: PLANE })),
    ];
  }

  /** Waits until the old picture is back. Where it is gone with its owner, the screen goes dark. */
  restore(): void {
    if (this.#commit((properties, name) => (name === 'MODE_ID' ? this.#mode : properties.value(name))) < 0) this.#commit(() => 0);
  }

  [Symbol.dispose](): void {
    if (this.#mode !== 0) destroyBlob(this.#device, this.#mode);
  }

  #commit(value: (properties: Properties, name: string) => number): number {
    const objects = this.#objects.map(({ id, properties, names }): RequestObject => ({ id, properties: names.map((name): PropertyId => properties.id(name)) }));
    using request = new AtomicRequest(objects);
    this.#objects.flatMap(({ properties, names }) => names.map((name) => value(properties, name))).forEach((each, slot) => request.set(slot, each));
    return request.commit(this.#device, DRM_MODE_ATOMIC_ALLOW_MODESET);
  }
}
