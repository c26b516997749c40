import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { AtomicRequest, PLANE_PROPERTIES, type RequestObject } from './atomic.ts';
import type { KmsDevice } from './device.ts';
import {
  createBlob,
  type Crtc,
  destroyBlob,
  type Pipe,
  type Properties,
  readBlob,
  type Resources,
} from './resources.ts';

interface Saved {
  readonly id: number;
  readonly properties: Properties;
  readonly names: readonly string[];
}

/** What a card showed before this program (a console, a boot splash), to be restored at its end. */
export class SavedState implements Disposable {
  readonly #device: KmsDevice;
  readonly #objects: readonly Saved[];
  /** Copies of the modes' blobs, because a blob disappears with its last use. By the old blob's id. */
  readonly #modes = new Map<number, number>();
  readonly #stack: DisposableStack;

  /** The state as of `resources`; nothing is read again. */
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

  /**
   * Has the old picture shown again. False if it is gone with its owner, another program is master, or a CRTC does not
   * end its last flip.
   */
  restore(): boolean {
    using request = new AtomicRequest(
      this.#objects.map(({ id, properties, names }) => ({ id, properties: names.map((name) => properties.id(name)) })),
    );
    const values = this.#objects.flatMap(({ properties, names }) => names.map((name) => this.#value(properties, name)));
    values.forEach((value, slot) => request.set(slot, value));
    return request.change(this.#device) === 0;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #value(properties: Properties, name: string): number {
    const value = properties.value(name);
    return name === 'MODE_ID' ? (this.#modes.get(value) ?? 0) : value;
  }
}

interface Usable {
  readonly id: number;
  readonly properties: Properties;
}

/**
 * Turns off what other programs left in the way of `pipes` and their commits will not state: a plane of another pipe
 * above their picture, or a second monitor or a writeback connector on their CRTC. `resources` have been read since. If nothing is in the way,
 * nothing is sent, and no screen turns black.
 */
export function disableForeign(
  device: KmsDevice,
  { connectors: monitors, writebacks, crtcs, planes }: Resources,
  pipes: readonly Pipe[],
): void {
  const connectors = [...monitors, ...writebacks];
  const used = new Set<number>(pipes.map(({ crtc }) => crtc.id));
  const home = new Map<number, number>();
  for (const { connector, crtc, primary, cursor, overlay } of pipes) {
    for (const part of [connector, primary, cursor, overlay]) if (part) home.set(part.id, crtc.id);
  }
  const isForeign = (part: Usable): boolean => {
    const crtc = crtcOf(part);
    return crtc !== 0 && crtc !== home.get(part.id) && (used.has(crtc) || home.has(part.id));
  };
  const away = connectors.filter(isForeign);
  // A CRTC and its planes are turned off with the last of its connectors.
  const off = crtcs.filter(
    ({ id }) =>
      away.some((each) => crtcOf(each) === id) &&
      connectors.every((each) => crtcOf(each) !== id || away.includes(each)),
  );
  const cleared = planes.filter((plane) => isForeign(plane) || off.some(({ id }) => crtcOf(plane) === id));
  const objects: RequestObject[] = [
    ...away.map((connector) => ({ id: connector.id, properties: [connector.properties.id('CRTC_ID')] })),
    ...off.map((crtc: Crtc) => ({
      id: crtc.id,
      properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')],
    })),
    ...cleared.map((plane) => ({
      id: plane.id,
      properties: [plane.properties.id('FB_ID'), plane.properties.id('CRTC_ID')],
    })),
  ];
  if (objects.length === 0) return;
  using request = new AtomicRequest(objects);
  request.change(device);
}

function crtcOf({ properties }: Usable): number {
  return properties.value('CRTC_ID');
}
