import { WaylandWindows } from '../../display/wayland/windows.ts';
import type { Log } from '../core/log.ts';
import type { WaylandSpec } from './wayland-spec.ts';

/** What `spec` asks for; the caller's. Rejects as `WaylandWindows.connect` does. */
export function openWindows({ display, scale = 1, ...spec }: WaylandSpec, log: Log, onClosed: () => void): Promise<WaylandWindows> {
  return WaylandWindows.connect({ ...spec, zoom: scale, log, onClosed, ...(display !== undefined && { socket: display }) });
}
