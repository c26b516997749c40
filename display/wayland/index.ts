/**
 * Windows on a Wayland desktop as outputs, one for each scanout of a guest:
 *
 * ```ts
 * import { Bridge, VhostUserGuest } from 'scanout-bridge';
 * import { WaylandWindows } from 'scanout-bridge/wayland';
 *
 * using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock' });
 * using windows = await WaylandWindows.open({ title: 'guest' });
 * using bridge = new Bridge(guest);
 * windows.openOutputs(guest.scanouts).forEach((output, index) => bridge.show(index, output));
 * ```
 *
 * The client underneath is `scanout-bridge/wayland-client`.
 *
 * @module
 */
export { WaylandError, WaylandProtocolError, type WaylandCloseReason } from './client/errors.ts';
export { WaylandOutputError } from './compositor.ts';
export type { WaylandOutput } from './output.ts';
export { WaylandWindows, type WaylandWindowsOptions } from './windows.ts';
