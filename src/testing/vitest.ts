/**
 * The vitest matcher `toMatchScreenshot`. Import it in a test file or in `setupFiles`:
 *
 *     import 'scanout-bridge/vitest';
 *
 *     using display = openDisplay({ guest });
 *     await expect(display).toMatchScreenshot('login.png');
 */
import { basename, dirname, join } from 'node:path';
import { expect, type MatcherState, type RunnerTestCase, TestRunner } from 'vitest';
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
     * `name` is a file name that ends with .png. In a concurrent test, call it on the `expect` of the test's context.
     *
     * Passes when the display shows the golden picture `__screenshots__/TEST FILE/NAME` beside the test file, now or
     * within the time left to the test, or `timeoutMs` if that is less. A missing golden picture is made once the display
     * stands still, except in CI; `vitest -u` replaces those that differ. With `.not`, passes if the golden picture
     * exists and differs from the display once that stands still.
     */
    toMatchScreenshot(name: string, options?: Omit<ScreenshotOptions, 'update' | 'results'>): Promise<void>;
  }
}

type Task = NonNullable<MatcherState['task']>;

/** The part of a test's time reserved for writing the evidence. */
const WRITING_MS = 2000;

/** When the function of a test was called last, by performance.now(): vitest counts its time from there. */
const startTimes = new WeakMap<object, number>();

/** What vitest calls in place of the function of a test, if a runner has it. */
interface Runner {
  runTask?: (test: RunnerTestCase) => Promise<void>;
}

// vitest itself keeps the start of the first attempt only, before the beforeEach hooks, and has no hook after those.
const runner = TestRunner.prototype as Runner;
const call = runner.runTask ?? (async (test) => TestRunner.getTestFn(test)());
runner.runTask = function (test) {
  startTimes.set(test, performance.now());
  return call.call(this, test);
};

expect.extend({
  async toMatchScreenshot(shown: unknown, name: string, options: Omit<ScreenshotOptions, 'update' | 'results'> = {}) {
    if (!(shown instanceof TestDisplay) && !isPicture(shown))
      throw new UsageError('toMatchScreenshot: expects the result of openDisplay, or a picture');
    if (!/^[^/\0]+\.png$/.test(name))
      throw new UsageError(
        `toMatchScreenshot: '${name}' cannot name a golden picture: give a file name that ends with .png, without folders`,
      );
    const { testPath, currentTestName = '', snapshotState, task, isNot } = this;
    if (!testPath || !task || sharesExpect(task))
      throw new UsageError(
        'toMatchScreenshot: call it inside a test, and in a concurrent one on its own `expect`: test.concurrent(name, async ({ expect }) => …)',
      );
    const file = basename(testPath);
    const timeoutMs = Math.min(timeLeftMs(task), options.timeoutMs ?? Infinity);
    const goldenPath = join(dirname(testPath), '__screenshots__', file, name);
    const repeat = task.result?.repeatCount ?? 0;
    const results = {
      directory: resultsDirectory(),
      test: `${fileName(task)} > ${currentTestName}${repeat > 0 ? ` (repeat ${repeat})` : ''}`,
      attempt: task.result?.retryCount ?? 0,
    };
    const all = { ...options, timeoutMs, results };
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
function fileName({ file: { name, projectName } }: Task): string {
  return projectName ? `|${projectName}| ${name}` : name;
}

/** How long a comparison may take, so that the test can still report it; infinite for a test without a limit. */
function timeLeftMs(task: Task): number {
  const { timeout } = task;
  if (timeout <= 0 || timeout === Infinity) return Infinity;
  // A runner of the project's own may not use ours.
  const start = startTimes.get(task) ?? performance.now();
  return Math.max(timeout - (performance.now() - start) - WRITING_MS, 0);
}

/** Whether a test runs at the same time as others and has not taken the `expect` of its context, which knows its test. */
function sharesExpect({ concurrent, context }: Task): boolean {
  return concurrent === true && (context as { _local?: boolean })._local === false;
}

function isPicture(value: unknown): value is Picture {
  const { width, height, data } = (value ?? {}) as Partial<Picture>;
  return Number.isInteger(width) && Number.isInteger(height) && data instanceof Uint8Array;
}
