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
export { Bridge, type BridgeOptions, type ScanoutStats } from './bridge/bridge.ts';
export { UsageError } from './core/errors.ts';
export type { Damage } from './core/damage.ts';
export type { Framebuffer } from './core/framebuffer.ts';
export type { GuestInput, InputSink, WheelAxis } from './core/input.ts';
export type { Log } from './core/log.ts';
export type { Monitor } from './core/monitor.ts';
export { DmabufImportRefused, PresentedFlags, type Frame, type Handle, type Output, type OutputListener, type ScreenListener, type Shadow } from './core/output.ts';
export type { Picture } from './core/picture.ts';
export { scanoutId, type Flush, type ScanoutId, type Source, type SourceSink } from './core/source.ts';
export { Recorder, type RecorderOptions } from './guest/replay/recorder.ts';
export { openReplay, type Replay, type ReplayOptions, type ReplaySummary } from './guest/replay/replay.ts';
export { VhostUserGuest, type VhostUserGuestOptions } from './guest/vhost-user/guest.ts';
export { VhostUserInput, type InputKind, type VhostUserInputOptions } from './guest/vhost-user/input.ts';
export { OwnedFd } from './sys/fd.ts';
export { ScanoutError, SysError } from './sys/errors.ts';
export { HeadlessOutput, type HeadlessOptions } from '../display/headless/output.ts';
export { KmsError } from '../display/kms/errors.ts';
export { openLibseatSeat } from '../display/kms/libseat-seat.ts';
export { KmsDisplay, type KmsOptions } from '../display/kms/open.ts';
export type { KmsOutput } from '../display/kms/output.ts';
export type { Card, Seat, SeatListener } from '../display/kms/seat.ts';
export type { ShownFrame } from '../display/headless/scene.ts';
export { comparePictures, diffPicture, type CompareOptions, type Comparison } from '../display/picture/compare.ts';
export { decodePng, encodePng, PngError, writePng } from '../display/picture/png.ts';
export { VmmDisplay, type VmmDisplayOptions } from '../display/vmm/vmm-display.ts';
export { WaylandWindows, type WaylandWindowsOptions } from '../display/wayland/windows.ts';
export { DisplayError, type DisplayErrorCode } from './testing/errors.ts';
export type { FrameTime } from './testing/frame-times.ts';
export { launchGuest, type LaunchOptions } from './testing/launch-guest.ts';
export type { LaunchedGuest } from './testing/launched-guest.ts';
export { assertScreenshot, matchScreenshot, ScreenshotMismatch, type Match, type ScreenshotOptions } from './testing/match-screenshot.ts';
export { openDisplay, type DisplayOptions } from './testing/open-display.ts';
export { LaunchError, type LaunchErrorCode } from './qemu/process.ts';
export type { MouseButton, TestDisplay } from './testing/test-display.ts';
export type { WaitForMatchOptions, WaitForStableOptions } from './testing/waits.ts';
