/**
 * The public API: a guest (who describes pixels), an output (what shows them), and the bridge
 * between them.
 *
 *     import { Bridge, HeadlessOutput, scanoutId, VhostUserGuest } from 'scanout-bridge';
 *
 *     using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock' });
 *     using output = HeadlessOutput.open({ width: 1280, height: 800 });
 *     using bridge = new Bridge(guest, { budget: guest.budget });
 *     bridge.show(scanoutId(0), output);
 */
export { Bridge, type BridgeOptions, type ScanoutStats } from './bridge.ts';
export { ScanoutError } from './core/errors.ts';
export type { Log } from './core/log.ts';
export type { Picture } from './core/picture.ts';
export type { Monitor } from './core/monitor.ts';
export type { Frame, Handle, Output, OutputListener, Shadow } from './core/output.ts';
export { scanoutId, type Flush, type ScanoutId, type Source, type SourceSink } from './core/source.ts';
export { VhostUserGuest, type VhostUserGuestOptions } from './guest/vhost-user/guest.ts';
export { HeadlessOutput, type HeadlessOptions } from '../display/headless/output.ts';
export { encodePng, writePng } from '../display/screenshot/png.ts';
