/**
 * Drives a running `scanout run` from another process:
 *
 * ```ts
 * import { ControlClient } from 'scanout-bridge/control';
 *
 * const bridge = new ControlClient();
 * await bridge.type('root\n');
 * await bridge.waitForStable();
 * const picture = await bridge.screenshot();
 * ```
 *
 * docs/control.md describes the protocol, for other languages.
 *
 * @module
 */
export {
  type ClickOptions,
  ControlClient,
  type MatchOptions,
  type OnScanoutOptions,
  type RequestOptions,
  type ScreenshotOptions,
  type ScrollOptions,
  type ViewOptions,
  type WaitOptions,
} from './client.ts';
export type { MouseButton, Point } from './operator.ts';
export type { FrameTimes } from '../bridge/frame-ages.ts';
export {
  ControlError,
  type ControlErrorCode,
  type FrameEvent,
  type Hello,
  type PngFile,
  type TracedFrame,
  type TraceEvent,
} from './protocol.ts';
export type { BridgeStats, ClipboardStats, ControlStats, SandboxState, SessionStats } from './stats.ts';
