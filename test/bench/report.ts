import { median, toRow, type Measurement } from './benchmark.ts';

const HEAD = ['', 'unit', 'ours', 'min', 'max', 'peer', 'min', 'max', 'ratio', 'goal', ''];

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
      goal === null ? '-' : `${better === 'more' ? '>=' : '<='} ${goal}`,
      met === null ? '' : met ? 'met' : 'missed',
    ];
  });
  const widths = HEAD.map((head, column) => Math.max(head.length, ...lines.map((line) => line[column]!.length)));
  const numeric = (column: number): boolean => column >= 2 && column <= 8;
  const text = [HEAD, ...lines].map((line) =>
    line
      .map((cell, column) => (numeric(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  const peers = [...new Set(measurements.map(({ peer }) => peer?.name).filter((name) => name !== undefined))];
  return [...text, ...peers.map((name) => `peer: ${name}`)].join('\n');
}
