import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { limitLog, type Log } from '../../../src/core/log.ts';

describe('limitLog', () => {
  let lines: string[];
  const log: Log = (level, message) => lines.push(`${level}: ${message}`);
  beforeEach(() => {
    vi.useFakeTimers();
    lines = [];
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('passes on the first messages of a second, and then how many it left out', () => {
    const limited = limitLog(log, 2);
    for (let i = 1; i <= 40_000; i++) limited('info', `refused ${i}`);
    expect(lines).toEqual(['info: refused 1', 'info: refused 2']);
    vi.advanceTimersByTime(1000);
    expect(lines.slice(2)).toEqual(['warn: left out 39998 messages of the last second']);
  });

  test('passes on everything again in the next second', () => {
    const limited = limitLog(log, 1);
    limited('info', 'one');
    limited('info', 'two');
    vi.advanceTimersByTime(1000);
    limited('error', 'three');
    expect(lines.at(-1)).toBe('error: three');
  });

  test('has no timer while nothing is logged', () => {
    limitLog(log)('info', 'one');
    vi.advanceTimersByTime(1000);
    expect(vi.getTimerCount()).toBe(0);
    expect(lines).toEqual(['info: one']);
  });
});
