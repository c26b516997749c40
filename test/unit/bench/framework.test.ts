import { expect, test } from 'vitest';
import { alternate, median, type Measurement, percentile, toRow } from '../../bench/benchmark.ts';
import { comparison, goals, table } from '../../bench/report.ts';

const rate: Measurement = {
  name: 'copy/window',
  unit: 'GB/s',
  better: 'more',
  ours: [9, 30, 10],
  peer: { name: 'memcpy', samples: [8, 8, 99] },
  goal: 0.9,
};
const cost: Measurement = { name: 'flush/flip', unit: 'us', better: 'less', ours: [3, 1], peer: null, goal: null };

test.each([
  [[3], 3],
  [[10, 9, 2], 9],
  [[4, 1, 3, 2], 2.5],
])('median: of %j is %d', (values, expected) => {
  expect(median(values)).toBe(expected);
});

test('median: throws a RangeError without values', () => {
  expect(() => median([])).toThrow(RangeError);
});

test.each([
  [[3], 0.99, 3],
  [[4, 1, 3, 2], 0.5, 2],
  [[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 0.9, 9],
  [[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 0.91, 10],
])('percentile: of %j, a share of %d does not exceed %d', (values, share, expected) => {
  expect(percentile(values, share)).toBe(expected);
});

test('percentile: throws a RangeError without values', () => {
  expect(() => percentile([], 0.99)).toThrow(RangeError);
});

test('toRow: has only the medians of both sides, their ratio and whether the goal is met', () => {
  expect(JSON.parse(JSON.stringify(toRow(rate)))).toEqual({
    name: 'copy/window',
    unit: 'GB/s',
    ours: 10,
    peer: 8,
    peerName: 'memcpy',
    ratio: 1.25,
    goal: 0.9,
    met: true,
  });
});

test('toRow: without a peer and a goal, their fields are null', () => {
  expect(toRow(cost)).toEqual({
    name: 'flush/flip',
    unit: 'us',
    ours: 2,
    peer: null,
    peerName: null,
    ratio: null,
    goal: null,
    met: null,
  });
});

test('toRow: the ratio of pairs is not that of the medians, if the machine changed its speed between them', () => {
  const [ours, samples] = [
    [150, 300, 150, 300, 300],
    [100, 200, 100, 200, 100],
  ];
  const measurement = {
    name: 'a/b',
    unit: 'ms',
    better: 'less',
    ours,
    peer: { name: 'peer', samples },
    goal: 2,
  } as const;
  expect(toRow(measurement)).toMatchObject({ ours: 300, peer: 100, ratio: 3, met: false });
  expect(toRow({ ...measurement, isPaired: true })).toMatchObject({ ours: 300, peer: 100, ratio: 1.5, met: true });
});

test('toRow: the ratio is 1 if both medians are 0', () => {
  expect(toRow({ ...rate, better: 'less', ours: [0], peer: { name: 'bare', samples: [0] }, goal: 1 })).toMatchObject({
    ratio: 1,
    met: true,
  });
});

test.each([
  ['more', 1.25, true],
  ['more', 1.26, false],
  ['less', 1.25, true],
  ['less', 1.24, false],
] as const)('toRow: with %s being better, a ratio of 1.25 against a goal of %d gives met: %s', (better, goal, met) => {
  expect(toRow({ ...rate, better, goal }).met).toBe(met);
});

test.each([
  [2, true],
  [1, false],
])('toRow: without a peer the goal bounds our own median: at most %d gives met: %s', (goal, met) => {
  expect(toRow({ ...cost, goal }).met).toBe(met);
});

test('alternate: samples both sides in turn and discards the first sample of each', async () => {
  const calls: string[] = [];
  const side = (name: string) => () => calls.push(name);
  expect(await alternate(2, side('ours'), side('peer'))).toEqual({ ours: [3, 5], peer: [4, 6] });
  expect(calls).toEqual(['ours', 'peer', 'ours', 'peer', 'ours', 'peer']);
});

test('table: shows the spread of both sides, the goal as a bound, and the name of the peer', () => {
  const [head, first, second, peer] = table([rate, { ...cost, goal: 1 }])
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/));
  expect(head).toEqual(['unit', 'ours', 'min', 'max', 'peer', 'min', 'max', 'ratio', 'goal']);
  expect(first).toEqual([
    'copy/window',
    'GB/s',
    '10.00',
    '9.000',
    '30.00',
    '8.000',
    '8.000',
    '99.00',
    '1.25',
    '>= 0.9',
    'met',
  ]);
  expect(second).toEqual(['flush/flip', 'us', '2.000', '1.000', '3.000', '-', '-', '<= 1', 'missed']);
  expect(peer).toEqual(['peer: memcpy']);
});

test('goals: has those that were met and missed, and how many', () => {
  const missed: Measurement = { ...cost, goal: 1 };
  expect(goals([rate, cost, missed])).toBe(
    ['copy/window      1.25  >= 0.9  met', 'flush/flip   2.000 us  <= 1    missed', 'goals: 1 met, 1 missed'].join(
      '\n',
    ),
  );
});

test('comparison: tells better from worse, by the ratio where both runs have a peer', () => {
  const before = [toRow({ ...rate, ours: [20] }), toRow({ ...cost, ours: [1.9] }), toRow({ ...cost, name: 'gone' })];
  const dearer = { ...cost, name: 'flush/redraw' };
  expect(comparison([...before, toRow({ ...dearer, ours: [1] })], [rate, cost, dearer])).toBe(
    [
      '               then    now  change',
      'copy/window   2.500  1.250   x0.50  worse',
      'flush/flip    1.900  2.000   x1.05',
      'flush/redraw  1.000  2.000   x2.00  worse',
    ].join('\n'),
  );
});
