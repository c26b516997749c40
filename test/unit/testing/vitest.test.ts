/** How long toMatchScreenshot may take; test/host/vitest-matcher.test.ts has the rest of it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { DisplayError } from '../../../display/picture/errors.ts';
import type { Picture } from '../../../src/core/picture.ts';
import { openDisplay, type TestDisplay } from '../../../src/testing/open-display.ts';
import '../../../src/testing/vitest.ts';
import { FakeGuest } from '../display/wayland/window-rig.ts';

const LIMIT_MS = 20_000;
const MINUTE_MS = 60_000;
/** vitest keeps the last of it to report the failure. */
const WHOLE = { most: LIMIT_MS - 2000, least: LIMIT_MS / 2 };

let directory: string;
let display: TestDisplay;
let limits: (number | undefined)[];
/** Goes on growing, as time does. */
let passedMs = 0;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-matcher-'));
  vi.stubEnv('SCANOUT_RESULTS', directory);
  // What a minute of a test or hook is to the code under test. vitest has its own references to the clocks.
  for (const clock of [performance, Date]) {
    const now = clock.now.bind(clock);
    vi.spyOn(clock, 'now').mockImplementation(() => now() + passedMs);
  }
});

afterAll(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

beforeEach(() => {
  limits = [];
  display = openDisplay({ guest: new FakeGuest() });
  vi.spyOn(display, 'waitForMatch').mockImplementation((_expected: Picture | string, { timeoutMs } = {}) => {
    limits.push(timeoutMs);
    return Promise.reject(new DisplayError('timeout', 'not shown'));
  });
});

afterEach(() => {
  display[Symbol.dispose]();
});

/** How long a comparison that fails may take. */
async function limitMs(options: { timeoutMs?: number } = {}): Promise<number> {
  await expect(expect(display).toMatchScreenshot('grey.png', options)).rejects.toThrow('grey.png');
  return limits.at(-1)!;
}

function expectWholeTime(ms: number): void {
  expect(ms).toBeLessThanOrEqual(WHOLE.most);
  expect(ms).toBeGreaterThan(WHOLE.least);
}

describe('the time of toMatchScreenshot', () => {
  test('is what is left to the test', { timeout: LIMIT_MS }, async () => {
    passedMs += 5000;

    expect(await limitMs()).toBeLessThanOrEqual(WHOLE.most - 5000);
  });

  test('is none when that of the test has passed', { timeout: LIMIT_MS }, async () => {
    passedMs += MINUTE_MS;

    expect(await limitMs()).toBe(0);
  });

  describe('after a beforeEach that takes a minute', () => {
    beforeEach(() => {
      passedMs += MINUTE_MS;
    });

    test('is the whole time of the test', { timeout: LIMIT_MS }, async () => {
      expectWholeTime(await limitMs());
    });
  });

  test('is that of the attempt in a test that is retried', { timeout: LIMIT_MS, retry: 1 }, async ({ task }) => {
    if (task.result!.retryCount === 0) {
      passedMs += MINUTE_MS;
      throw new Error('the first attempt fails');
    }
    expectWholeTime(await limitMs());
  });

  test('is that of the repetition in a test that is repeated', { timeout: LIMIT_MS, repeats: 1 }, async () => {
    expectWholeTime(await limitMs());
    passedMs += MINUTE_MS;
  });

  describe.each([0, Infinity])('with a limit of %d', (timeout) => {
    test('is infinite', { timeout }, async () => {
      expect(await limitMs()).toBe(Infinity);
    });
  });

  test('is timeoutMs if that is less', { timeout: LIMIT_MS }, async () => {
    expect(await limitMs({ timeoutMs: 70 })).toBe(70);
  });

  test('is what is left to the test if timeoutMs is more', { timeout: LIMIT_MS }, async () => {
    expectWholeTime(await limitMs({ timeoutMs: MINUTE_MS }));
  });
});
