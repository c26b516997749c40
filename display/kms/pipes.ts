import { DRM_PLANE_TYPE_CURSOR, DRM_PLANE_TYPE_OVERLAY, DRM_PLANE_TYPE_PRIMARY } from '../../protocols/drm-mode.ts';
import type { Connector, Crtc, Plane, Resources } from './resources.ts';

/** One screen's share of the device. */
export interface Pipe {
  readonly connector: Connector;
  readonly crtc: Crtc;
  readonly primary: Plane;
  readonly cursor: Plane | null;
  /** Above the primary, as far as the driver tells. */
  readonly overlay: Plane | null;
}

/**
 * A CRTC and planes for each connector, of those that `taken` leaves; connectors that get none are
 * left out. A connector keeps the CRTC that drives it if it can, which saves a modeset, and makes
 * way where another has no choice (augmenting paths of bipartite matching).
 */
export function assignPipes(resources: Resources, connectors: readonly Connector[], taken: readonly Pipe[] = []): Pipe[] {
  const used = new Set<number | undefined>(taken.flatMap(({ crtc, primary, cursor, overlay }) => [crtc.id, primary.id, cursor?.id, overlay?.id]));
  const crtcs = resources.crtcs.filter(({ id }) => !used.has(id));
  const owner = new Map<Crtc, Connector>();
  for (const connector of connectors) claim(connector, crtcs, owner, new Set());
  const free = new Set(resources.planes.filter(({ id }) => !used.has(id)));
  const pipes: Pipe[] = [];
  for (const [crtc, connector] of owner) {
    const primary = takePlane(free, crtc, DRM_PLANE_TYPE_PRIMARY);
    if (!primary) continue;
    const isAbove = ({ properties }: Plane): boolean => properties.id('zpos') === 0 || properties.value('zpos') > primary.properties.value('zpos');
    pipes.push({
      connector,
      crtc,
      primary,
      cursor: takePlane(free, crtc, DRM_PLANE_TYPE_CURSOR),
      overlay: takePlane(free, crtc, DRM_PLANE_TYPE_OVERLAY, isAbove),
    });
  }
  return pipes.toSorted((a, b) => connectors.indexOf(a.connector) - connectors.indexOf(b.connector));
}

function claim(connector: Connector, crtcs: readonly Crtc[], owner: Map<Crtc, Connector>, asked: Set<Crtc>): boolean {
  const current = connector.properties.value('CRTC_ID');
  const possible = crtcs.filter(({ mask }) => (connector.possibleCrtcs & mask) !== 0).toSorted((a, b) => Number(b.id === current) - Number(a.id === current));
  for (const crtc of possible) {
    if (asked.has(crtc)) continue;
    asked.add(crtc);
    const before = owner.get(crtc);
    if (before && !claim(before, crtcs, owner, asked)) continue;
    owner.set(crtc, connector);
    return true;
  }
  return false;
}

/** The plane on this CRTC now, before one of another or of none. */
function takePlane(free: Set<Plane>, crtc: Crtc, type: number, isFit: (plane: Plane) => boolean = () => true): Plane | null {
  const fitting = [...free].filter((plane) => plane.type === type && (plane.possibleCrtcs & crtc.mask) !== 0 && isFit(plane));
  const plane = fitting.find(({ properties }) => properties.value('CRTC_ID') === crtc.id) ?? fitting[0] ?? null;
  if (plane) free.delete(plane);
  return plane;
}
