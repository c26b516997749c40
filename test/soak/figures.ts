/** What a soak counts and measures. */
export class Figures {
  readonly rounds = new Map<string, number>();
  readonly counts = new Map<string, number>();
  readonly latencies = { during: new Latencies(), between: new Latencies() };
  /** One for each quiet point from the first on. */
  readonly quiet: QuietPoint[] = [];

  count(what: string, number = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + number);
  }

  /** One line for each figure, the name first. */
  table(): string {
    const { quiet, latencies } = this;
    const rows: [string, string][] = [
      ...[...this.rounds].toSorted().map(([kind, number]): [string, string] => [`with ${kind}`, String(number)]),
      ...[...this.counts].map(([what, number]): [string, string] => [what, String(number)]),
      ['stats during rounds, ms', latencies.during.text],
      ['stats between rounds, ms', latencies.between.text],
    ];
    const [first] = quiet;
    const last = quiet.at(-1);
    if (first && last) {
      const rss = quiet.map(({ rssBytes }) => rssBytes);
      rows.push(
        ['quiet points', String(quiet.length)],
        ['descriptors first, last', `${first.fds}, ${last.fds}`],
        ['mappings of files first, last', `${first.mappings}, ${last.mappings}`],
        ['RSS first, max, last, MiB', `${mib(rss[0]!)}, ${mib(Math.max(...rss))}, ${mib(rss.at(-1)!)}`],
        ['RSS slope of the last half, MiB/h', (slopePerHour(lastHalf(quiet)) / 2 ** 20).toFixed(1)],
      );
    }
    const width = Math.max(...rows.map(([name]) => name.length));
    return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
  }
}

/** The child's resources while no VMM is connected and the compositor runs. */
export interface QuietPoint {
  readonly timeMs: number;
  readonly fds: number;
  /** Of memfds and dma-bufs. */
  readonly mappings: number;
  readonly rssBytes: number;
}

/** Times to answer: one counter for each half a per cent, so that hours of them cost no memory. */
export class Latencies {
  readonly #buckets = new Map<number, number>();
  #count = 0;
  #maxMs = 0;

  add(ms: number): void {
    const bucket = Math.round(Math.log(Math.max(ms, 0.001)) / STEP);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + 1);
    this.#count++;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  /** In milliseconds; 0 without samples. */
  quantile(fraction: number): number {
    let rest = Math.ceil(this.#count * fraction);
    for (const [bucket, count] of [...this.#buckets].toSorted(([a], [b]) => a - b)) {
      rest -= count;
      if (rest <= 0) return Math.min(Math.exp(bucket * STEP), this.#maxMs);
    }
    return 0;
  }

  get text(): string {
    const ms = (value: number): string => value.toFixed(1);
    return `${this.#count} answers, median ${ms(this.quantile(0.5))}, p99 ${ms(this.quantile(0.99))}, max ${ms(this.#maxMs)}`;
  }
}

/** Width of a bucket: half a per cent. */
const STEP = Math.log(1.005);

function lastHalf(points: readonly QuietPoint[]): readonly QuietPoint[] {
  const from = (points[0]!.timeMs + points.at(-1)!.timeMs) / 2;
  return points.filter(({ timeMs }) => timeMs >= from);
}

/** Bytes per hour of the straight line with the least squares; 0 for a single point. */
export function slopePerHour(points: readonly Pick<QuietPoint, 'timeMs' | 'rssBytes'>[]): number {
  const meanTime = mean(points.map(({ timeMs }) => timeMs));
  const meanRss = mean(points.map(({ rssBytes }) => rssBytes));
  let covariance = 0;
  let variance = 0;
  for (const { timeMs, rssBytes } of points) {
    covariance += (timeMs - meanTime) * (rssBytes - meanRss);
    variance += (timeMs - meanTime) ** 2;
  }
  return variance === 0 ? 0 : (covariance / variance) * 3_600_000;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
