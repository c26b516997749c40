import { drm_mode_modeinfo, DRM_MODE_FLAG_DBLSCAN, DRM_MODE_FLAG_INTERLACE, DRM_MODE_TYPE_PREFERRED } from '../../protocols/drm-mode.ts';
import type { ValueOf } from '../../protocols/layout.ts';

/** A timing a connector offers. */
export interface Mode {
  readonly width: number;
  readonly height: number;
  /** Vertical refresh in millihertz. */
  readonly refreshMhz: number;
  readonly isPreferred: boolean;
  /** struct drm_mode_modeinfo, as the kernel said it. */
  readonly info: Uint8Array;
}

/** A mode somebody asked for; any refresh if none is said. */
export interface WantedMode {
  readonly width: number;
  readonly height: number;
  readonly refreshMhz?: number;
}

/** Monitors say 59.94 Hz where people say 60. */
const REFRESH_TOLERANCE_MHZ = 1000;

export function readMode(info: Uint8Array): Mode {
  const m = drm_mode_modeinfo.decode(info);
  return { width: m.hdisplay, height: m.vdisplay, refreshMhz: refresh(m), isPreferred: (m.type & DRM_MODE_TYPE_PREFERRED) !== 0, info };
}

function refresh(m: ValueOf<typeof drm_mode_modeinfo>): number {
  let millihertz = (m.clock * 1_000_000) / (m.htotal * m.vtotal);
  if ((m.flags & DRM_MODE_FLAG_INTERLACE) !== 0) millihertz *= 2;
  if ((m.flags & DRM_MODE_FLAG_DBLSCAN) !== 0) millihertz /= 2;
  if (m.vscan > 1) millihertz /= m.vscan;
  return Math.round(millihertz);
}

/**
 * The modes to try, best first: those asked for, the nearest refresh before others; or the
 * monitor's preferred one, then larger and faster ones before others.
 */
export function rankModes(modes: readonly Mode[], wanted: WantedMode | null): Mode[] {
  if (!wanted) {
    return modes.toSorted((a, b) => Number(b.isPreferred) - Number(a.isPreferred) || b.width * b.height - a.width * a.height || b.refreshMhz - a.refreshMhz);
  }
  const { refreshMhz } = wanted;
  const fitting = modes.filter((m) => m.width === wanted.width && m.height === wanted.height);
  if (refreshMhz === undefined) return fitting.toSorted((a, b) => b.refreshMhz - a.refreshMhz);
  const distance = (m: Mode): number => Math.abs(m.refreshMhz - refreshMhz);
  return fitting.filter((m) => distance(m) <= REFRESH_TOLERANCE_MHZ).toSorted((a, b) => distance(a) - distance(b));
}

/** `1920x1080@59.94` */
export function describeMode({ width, height, refreshMhz }: WantedMode): string {
  return `${width}x${height}${refreshMhz === undefined ? '' : `@${Number((refreshMhz / 1000).toFixed(2))}`}`;
}
