import { expect, test } from 'vitest';
import { monotonicMs } from '../../../src/sys/clock.ts';

test('monotonicMs: follows CLOCK_MONOTONIC and never goes back', () => {
  const [seconds, nanoseconds] = process.hrtime();
  const now = monotonicMs();
  expect(Math.abs(now - (seconds * 1000 + nanoseconds / 1e6))).toBeLessThan(50);
  expect(monotonicMs()).toBeGreaterThanOrEqual(now);
});
