import { DRM_MODE_ATOMIC_ALLOW_MODESET } from '../../protocols/drm-mode.ts';
import { AtomicRequest, type RequestObject } from './atomic-request.ts';
import type { KmsDevice } from './device.ts';
import type { Pipe } from './pipes.ts';
import type { Crtc, Resources } from './resources.ts';
import type { Properties } from './properties.ts';

interface Usable {
  readonly id: number;
  readonly properties: Properties;
}

/**
 * Turns off what others left in the way of `pipes` and no commit of theirs will state: a plane that is not theirs above
 * their picture, a monitor that their CRTC drives beside its own. `resources` are as read since. Where others left
 * things as we do, nothing is sent and no screen goes black.
 */
export function clearStrays(device: KmsDevice, { connectors, crtcs, planes }: Resources, pipes: readonly Pipe[]): void {
  const ours = new Set<number>(pipes.map(({ crtc }) => crtc.id));
  const home = new Map<number, number>();
  for (const { connector, crtc, primary, cursor, overlay } of pipes) {
    for (const part of [connector, primary, cursor, overlay]) if (part) home.set(part.id, crtc.id);
  }
  const isStray = (part: Usable): boolean => {
    const crtc = crtcOf(part);
    return crtc !== 0 && crtc !== home.get(part.id) && (ours.has(crtc) || home.has(part.id));
  };
  const away = connectors.filter(isStray);
  // A CRTC and its planes are off when the last of its connectors goes.
  const off = crtcs.filter(({ id }) => away.some((each) => crtcOf(each) === id) && connectors.every((each) => crtcOf(each) !== id || away.includes(each)));
  const cleared = planes.filter((plane) => isStray(plane) || off.some(({ id }) => crtcOf(plane) === id));
  const objects: RequestObject[] = [
    ...away.map((connector) => ({ id: connector.id, properties: [connector.properties.id('CRTC_ID')] })),
    ...off.map((crtc: Crtc) => ({ id: crtc.id, properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')] })),
    ...cleared.map((plane) => ({ id: plane.id, properties: [plane.properties.id('FB_ID'), plane.properties.id('CRTC_ID')] })),
  ];
  if (objects.length === 0) return;
  using request = new AtomicRequest(objects);
  request.commit(device, DRM_MODE_ATOMIC_ALLOW_MODESET);
}

function crtcOf({ properties }: Usable): number {
  return properties.value('CRTC_ID');
}
