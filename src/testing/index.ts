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
export { type FindOptions, type Found, type FoundArea, NeedleError, type Place } from '../../display/picture/needle.ts';
export { decodePng, encodePng, PngError, writePng } from '../../display/picture/png.ts';
export type { MatchStatus } from '../../display/picture/report.ts';
export { FontError } from '../../display/picture/psf.ts';
export type { ResultsFolder } from '../../display/picture/results.ts';
export type { ScreenText, TextOptions } from '../../display/picture/screen-text.ts';
export type {
  FoundAny,
  WaitForAnyOptions,
  WaitForMatchOptions,
  WaitForStableOptions,
  WaitForTextOptions,
  WaitOptions,
} from '../../display/picture/waits.ts';
export { LaunchError, type LaunchErrorCode } from '../qemu/process.ts';
export { QmpError, type QmpErrorCode } from '../qemu/qmp.ts';
export {
  type Accelerator,
  type Firmware,
  type LaunchedGuest,
  launchGuest,
  type LaunchOptions,
} from './launch-guest.ts';
export {
  assertScreenshot,
  type Match,
  matchScreenshot,
  ScreenshotMismatch,
  type ScreenshotOptions,
} from './match-screenshot.ts';
export type { MouseButton, Point } from '../control/operator.ts';
export { type DisplayOptions, openDisplay, type TestDisplay } from './open-display.ts';
