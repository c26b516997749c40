/**
 * Screenshots of guest displays in vitest. In the file of a test, or in `setupFiles`:
 *
 *     import 'scanout-bridge/vitest';
 *
 *     using display = openDisplay({ guest });
 *     await expect(display).toMatchScreenshot('login.png');
 */
import { basename, dirname, join } from 'node:path';
import { expect } from 'vitest';
import type { Picture } from '../core/picture.ts';
import { UsageError } from '../core/errors.ts';
import { describeMatch, matchScreenshot, type ScreenshotOptions } from './match-screenshot.ts';
import { resultsDirectory } from './results.ts';
import { TestDisplay } from './test-display.ts';

declare module 'vitest' {
  // Its own declaration has this parameter.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface Matchers<T> {
    /**
     * The display shows, or comes to show, the golden picture `__screenshots__/TEST FILE/NAME` beside the test file.
     * A missing one is made once the display stands still, but not in CI; `vitest -u` makes all anew that differ.
     * A display is given what is left of the test's time unless `timeoutMs` says less.
     */
    toMatchScreenshot(name: string, options?: Omit<ScreenshotOptions, 'update' | 'results'>): Promise<void>;
  }
}

/** What is left of a test's time for writing down why it failed. */
const WRITING_MS = 2000;

expect.extend({
  async toMatchScreenshot(shown: unknown, name: string, options: Omit<ScreenshotOptions, 'update' | 'results'> = {}) {
    if (!(shown instanceof TestDisplay) && !isPicture(shown)) throw new UsageError('toMatchScreenshot: expects a display of openDisplay, or a picture');
    if (!/^\w[\w. -]*\.png$/.test(name)) throw new UsageError(`toMatchScreenshot: '${name}' is no name for a golden picture: it ends with .png and has no folders`);
    const { testPath, currentTestName = '', snapshotState, task, isNot } = this;
    if (!testPath) throw new UsageError('toMatchScreenshot: works inside a test');
    const file = basename(testPath);
    const left = task?.result?.startTime === undefined ? undefined : Math.max(task.timeout - (Date.now() - task.result.startTime) - WRITING_MS, 0);
    // What it is not to show it may have to stop showing first.
    const picture = isNot && shown instanceof TestDisplay ? await shown.waitForStable({ ...limit(left), ...options }) : shown;
    const match = await matchScreenshot(picture, join(dirname(testPath), '__screenshots__', file, name), {
      ...limit(left),
      ...options,
      update: isNot ? 'none' : snapshotState.snapshotUpdateState,
      results: { directory: resultsDirectory(), test: `${file} > ${currentTestName}` },
    });
    return { pass: match.passes, message: () => (match.passes ? `${name}: the display shows it` : `${describeMatch(match, name)}\n  vitest -u makes the actual picture the golden one`) };
  },
});

function limit(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}

function isPicture(value: unknown): value is Picture {
  const { width, height, data } = (value ?? {}) as Partial<Picture>;
  return Number.isInteger(width) && Number.isInteger(height) && data instanceof Uint8Array;
}
