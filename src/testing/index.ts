/**
 * Tests that look at a guest's screen, in any test runner:
 *
 * ```ts
 * import { assertScreenshot, launchGuest, openDisplay } from 'scanout-bridge/testing';
 *
 * await using guest = await launchGuest({ disk: 'guest.qcow2' });
 * using display = openDisplay({ guest });
 * await assertScreenshot(display, 'golden/login.png');
 * ```
 *
 * `scanout-bridge/vitest` adds the matcher `toMatchScreenshot` to vitest.
 *
 * @module
 */
export { type CompareOptions, comparePictures, type Comparison, diffPicture } from '../../display/picture/compare.ts';
export { DisplayError, type DisplayErrorCode } from '../../display/picture/errors.ts';
export type { FrameTime } from '../../display/picture/frame-history.ts';
export { decodePng, encodePng, PngError, writePng } from '../../display/picture/png.ts';
export type { MatchStatus } from '../../display/picture/report.ts';
export type { ResultsFolder } from '../../display/picture/results.ts';
export type { WaitForMatchOptions, WaitForStableOptions, WaitOptions } from '../../display/picture/waits.ts';
export { LaunchError, type LaunchErrorCode } from '../qemu/process.ts';
export { type Accelerator, type LaunchedGuest, launchGuest, type LaunchOptions } from './launch-guest.ts';
export {
  assertScreenshot,
  type Match,
  matchScreenshot,
  ScreenshotMismatch,
  type ScreenshotOptions,
} from './match-screenshot.ts';
export { type DisplayOptions, type MouseButton, openDisplay, type TestDisplay } from './open-display.ts';
