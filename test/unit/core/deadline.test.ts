import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Deadline } from '../../../src/core/deadline.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

test('Deadline: calls back once when it was not started again for its time, before twice that', () => {
  const missed = vi.fn();
  using deadline = new Deadline(100, missed);
  vi.advanceTimersByTime(1000);
  expect(missed).not.toHaveBeenCalled();
  for (let round = 1; round <= 2; round++) {
    for (let i = 0; i < 7; i++) {
      deadline.start();
      vi.advanceTimersByTime(99);
    }
    vi.advanceTimersByTime(1);
    expect(missed).toHaveBeenCalledTimes(round - 1);
    vi.advanceTimersByTime(100);
    expect(missed).toHaveBeenCalledTimes(round);
    vi.advanceTimersByTime(1000);
    expect(missed).toHaveBeenCalledTimes(round);
  }
  deadline.start();
  vi.advanceTimersByTime(100);
  expect(missed).toHaveBeenCalledTimes(3);
});

test('Deadline: has one timer however often it is started, and none after dispose', () => {
  const missed = vi.fn();
  const deadline = new Deadline(100, missed);
  const timers = vi.spyOn(globalThis, 'setTimeout');
  for (let i = 0; i < 600; i++) {
    deadline.start();
    vi.advanceTimersByTime(1);
  }
  expect(timers.mock.calls.length).toBeLessThanOrEqual(7);
  deadline[Symbol.dispose]();
  deadline.start();
  vi.advanceTimersByTime(1000);
  expect(vi.getTimerCount()).toBe(0);
  expect(missed).not.toHaveBeenCalled();
});
