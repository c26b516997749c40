import { expect, test } from 'vitest';
import { Figures, Latencies, slopePerHour } from '../../soak/figures.ts';

const MIB = 2 ** 20;
const HOUR_MS = 3_600_000;

test('Latencies: quantiles are those of the samples, to half a per cent', () => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 1000; ms++) latencies.add(ms);
  expect(latencies.quantile(0.5) / 500).toBeCloseTo(1, 2);
  expect(latencies.quantile(0.99) / 990).toBeCloseTo(1, 2);
  expect(latencies.quantile(1) / 1000).toBeCloseTo(1, 2);
});

test('Latencies: without samples every quantile is 0', () => {
  expect(new Latencies().quantile(0.5)).toBe(0);
});

test('slopePerHour: is that of the straight line through the points, whatever their distance', () => {
  const points = [0, 1, 5, 30].map((minutes) => ({ timeMs: minutes * 60_000, rssBytes: (100 + minutes / 2) * MIB }));
  expect(slopePerHour(points) / MIB).toBeCloseTo(30, 6);
});

test('slopePerHour: is 0 for one point', () => {
  expect(slopePerHour([{ timeMs: 5, rssBytes: MIB }])).toBe(0);
});

test('Figures: the table has the first and last resources, and the slope of the last half', () => {
  const figures = new Figures();
  figures.count('screenshots compared', 3);
  const rss = [50, 90, 100, 110];
  rss.forEach((mib, index) =>
    figures.quiet.push({ timeMs: (index * HOUR_MS) / 2, fds: 20 + index, mappings: 7, rssBytes: mib * MIB }),
  );
  const lines = figures.table().split('\n');
  expect(lines).toContainEqual(expect.stringMatching(/^screenshots compared +3$/));
  expect(lines).toContainEqual(expect.stringMatching(/^descriptors first, last +20, 23$/));
  expect(lines).toContainEqual(expect.stringMatching(/^RSS first, max, last, MiB +50\.0, 110\.0, 110\.0$/));
  expect(lines).toContainEqual(expect.stringMatching(/^RSS slope of the last half, MiB\/h +20\.0$/));
});
