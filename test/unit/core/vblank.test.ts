import { expect, test } from 'vitest';
import { HeadlessOutput } from '../../../display/headless/output.ts';
import { BlankPhase, VblankClock } from '../../../src/core/vblank.ts';

test('VblankClock: blanks are a refresh apart, from its phase on', () => {
  const clock = new VblankClock(100_000, 0.25);
  expect([-1, 0, 7].map((sequence) => clock.timeOf(sequence))).toEqual([-7.5, 2.5, 72.5]);
  expect([2.4, 2.5, 12.4, 12.5].map((timeMs) => clock.sequenceAt(timeMs))).toEqual([-1, 0, 0, 1]);
});

test('BlankPhase: those that are there at the same time are apart, and one that is alone is 0', () => {
  const phases = Array.from({ length: 8 }, () => new BlankPhase());
  expect(phases.map(({ value }) => value)).toEqual([0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]);
  phases[2]![Symbol.dispose]();
  phases[2]![Symbol.dispose]();
  using again = new BlankPhase();
  using next = new BlankPhase();
  expect([again.value, next.value]).toEqual([0.25, 1 / 16]);
  for (const phase of phases) phase[Symbol.dispose]();
  using alone = new BlankPhase();
  expect(alone.value).toBe(0);
});

test('HeadlessOutput: the blanks of two are half a refresh apart, until one is disposed', () => {
  const open = (): HeadlessOutput => HeadlessOutput.open({ width: 64, height: 64, refreshMhz: 100_000 });
  using first = open();
  const second = open();
  expect(first.nextBlank(1000)).toBe(1010);
  expect(second.nextBlank(1000)).toBe(1005);
  second[Symbol.dispose]();
  using third = open();
  expect(third.nextBlank(1000)).toBe(1005);
});
