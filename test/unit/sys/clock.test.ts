import { expect, test, vi } from 'vitest';
import { monotonicMs } from '../../../src/sys/clock.ts';

const kernelMs = (): number => Number(process.hrtime.bigint()) / 1e6;

test('monotonicMs: follows CLOCK_MONOTONIC and never goes back', () => {
  const before = kernelMs();
  const now = monotonicMs();
  const after = kernelMs();
  expect(now).toBeGreaterThan(before - 1);
  expect(now).toBeLessThan(after + 1);
  expect(monotonicMs()).toBeGreaterThanOrEqual(now);
});

test('monotonicMs: follows CLOCK_MONOTONIC if the process was preempted while the module was loaded', async () => {
  const read = performance.now.bind(performance);
  const preempted = vi.spyOn(performance, 'now').mockImplementationOnce(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    return read();
  });
  vi.resetModules();
  const { monotonicMs: fresh } = await import('../../../src/sys/clock.ts');
  preempted.mockRestore();
  const before = kernelMs();
  const now = fresh();
  const after = kernelMs();
  expect(now).toBeGreaterThan(before - 1);
  expect(now).toBeLessThan(after + 1);
});
