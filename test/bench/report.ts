import { median, toRow, type Measurement, type Row } from './benchmark.ts';

const HEAD = ['', 'unit', 'ours', 'min', 'max', 'peer', 'min', 'max', 'ratio', 'goal', ''];
/** Two runs of the same program on one machine differ by less. */
const NOISE = 0.1;

/** Formats with about four digits: a machine's noise leaves fewer. */
function figure(value: number): string {
  const digits = Math.max(0, 3 - Math.floor(Math.log10(Math.max(Math.abs(value), 1e-3))));
  return value === 0 ? '0' : value.toFixed(Math.min(digits, 4));
}

function spread(samples: readonly number[]): string[] {
  return [figure(median(samples)), figure(Math.min(...samples)), figure(Math.max(...samples))];
}

/** Formats measurements as a table, one line each, with the median, minimum and maximum of both sides. */
export function table(measurements: readonly Measurement[]): string {
  const lines = measurements.map((measurement) => {
    const { name, unit, better, ours, peer, goal } = measurement;
    const { ratio, met } = toRow(measurement);
    return [
      name,
      unit,
      ...spread(ours),
      ...(peer ? spread(peer.samples) : ['-', '', '']),
      ratio === null ? '-' : ratio.toFixed(2),
      bound(better, goal),
      met === null ? '' : met ? 'met' : 'missed',
    ];
  });
  const peers = [...new Set(measurements.map(({ peer }) => peer?.name).filter((name) => name !== undefined))];
  return [aligned([HEAD, ...lines], 2, 8), ...peers.map((name) => `peer: ${name}`)].join('\n');
}

/** Every measurement that has a goal, one line each, and how many met theirs. */
export function goals(measurements: readonly Measurement[]): string {
  const judged = measurements.filter(({ goal }) => goal !== null);
  const lines = judged.map((measurement) => {
    const row = toRow(measurement);
    return [row.name, verdict(row), bound(measurement.better, row.goal), row.met ? 'met' : 'missed'];
  });
  const met = lines.filter((line) => line.at(-1) === 'met').length;
  return [aligned(lines, 1, 1), `goals: ${met} met, ${lines.length - met} missed`].join('\n');
}

/**
 * What an earlier run had beside what this one has, for each measurement that both have: the ratio to the peer, which the
 * machine's speed changes least, or our own figure.
 */
export function comparison(before: readonly Row[], measurements: readonly Measurement[]): string {
  const lines = measurements.flatMap((measurement) => {
    const now = toRow(measurement);
    const then = before.find(({ name }) => name === now.name);
    if (!then) return [];
    const judge = ({ ratio, ours }: Row): number => (then.ratio === null || now.ratio === null ? ours : ratio!);
    const [a, b] = [judge(then), judge(now)];
    const change = a === b ? 1 : b / a;
    const isSame = Math.abs(change - 1) <= NOISE;
    const isBetter = change > 1 === (measurement.better === 'more');
    return [[now.name, figure(a), figure(b), `x${change.toFixed(2)}`, isSame ? '' : isBetter ? 'better' : 'worse']];
  });
  return aligned([['', 'then', 'now', 'change', ''], ...lines], 1, 3);
}

function verdict({ ratio, ours, unit }: Row): string {
  return ratio === null ? `${figure(ours)} ${unit}` : ratio.toFixed(2);
}

function bound(better: Measurement['better'], goal: number | null): string {
  return goal === null ? '-' : `${better === 'more' ? '>=' : '<='} ${goal}`;
}

/** Cells in columns as wide as their widest; those from `firstNumber` to `lastNumber` end together. */
function aligned(lines: readonly (readonly string[])[], firstNumber: number, lastNumber: number): string {
  const width = (column: number): number => Math.max(...lines.map((line) => line[column]!.length));
  const cell = (text: string, column: number): string =>
    column >= firstNumber && column <= lastNumber ? text.padStart(width(column)) : text.padEnd(width(column));
  return lines.map((line) => line.map(cell).join('  ').trimEnd()).join('\n');
}
