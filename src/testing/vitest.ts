/**
 * The vitest matcher `toMatchScreenshot`. Import it in a test file or in `setupFiles`:
 *
 *     import 'scanout-bridge/vitest';
 *
 *     using display = openDisplay({ guest });
 *     await expect(display).toMatchScreenshot('login.png');
 */
import { basename, dirname, join } from 'node:path';
import { expect, type MatcherState } from 'vitest';
import type { Picture } from '../core/picture.ts';
import { UsageError } from '../core/errors.ts';
import { describeMatch, matchOtherScreenshot, matchScreenshot, type ScreenshotOptions } from './match-screenshot.ts';
import { resultsDirectory } from '../../display/picture/results.ts';
import { TestDisplay } from './open-display.ts';

declare module 'vitest' {
  // vitest's own declaration has this parameter.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface Matchers<T> {
    /**
     * Passes when the display shows the golden picture `__screenshots__/TEST FILE/NAME` beside the test file, now or
     * within the time left to the test, or `timeoutMs` if given. A missing golden picture is made once the display
     * stands still, except in CI; `vitest -u` replaces those that differ. With `.not`, passes if the golden picture
     * exists and differs from the display once that stands still.
     */
    toMatchScreenshot(name: string, options?: Omit<ScreenshotOptions, 'update' | 'results'>): Promise<void>;
  }
}

/** The part of a test's time reserved for writing the evidence. */
const WRITING_MS = 2000;

expect.extend({
  async toMatchScreenshot(shown: unknown, name: string, options: Omit<ScreenshotOptions, 'update' | 'results'> = {}) {
    if (!(shown instanceof TestDisplay) && !isPicture(shown))
      throw new UsageError('toMatchScreenshot: expects the result of openDisplay, or a picture');
    if (!/^\w[\w. -]*\.png$/.test(name))
      throw new UsageError(
        `toMatchScreenshot: '${name}' cannot name a golden picture: use letters, digits, spaces, '_', '.' and '-', end with .png, and leave folders out`,
      );
    const { testPath, currentTestName = '', snapshotState, task, isNot } = this;
    if (!testPath) throw new UsageError('toMatchScreenshot: call it inside a test');
    const file = basename(testPath);
    const left =
      task?.result?.startTime === undefined
        ? undefined
        : Math.max(task.timeout - (Date.now() - task.result.startTime) - WRITING_MS, 0);
    const goldenPath = join(dirname(testPath), '__screenshots__', file, name);
    const repeat = task?.result?.repeatCount ?? 0;
    const results = {
      directory: resultsDirectory(),
      test: `${task ? fileName(task) : file} > ${currentTestName}${repeat > 0 ? ` (repeat ${repeat})` : ''}`,
      attempt: task?.result?.retryCount ?? 0,
    };
    const all = { ...limit(left), ...options, results };
    if (isNot) {
      const match = await matchOtherScreenshot(shown, goldenPath, all);
      return { pass: !match.passes, message: () => describeMatch(match, name) };
    }
    const match = await matchScreenshot(shown, goldenPath, { ...all, update: snapshotState.snapshotUpdateState });
    return {
      pass: match.passes,
      message: () => `${describeMatch(match, name)}\n  vitest -u replaces the golden picture by the actual one`,
    };
  },
});

/** The test file as vitest prints it: its path in the project, after the project's name if it has one. */
function fileName({ file: { name, projectName } }: NonNullable<MatcherState['task']>): string {
  return projectName ? `|${projectName}| ${name}` : name;
}

function limit(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}

function isPicture(value: unknown): value is Picture {
  const { width, height, data } = (value ?? {}) as Partial<Picture>;
  return Number.isInteger(width) && Number.isInteger(height) && data instanceof Uint8Array;
}
