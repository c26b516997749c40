/** Which direction is better: `more` for rates, `less` for costs. */
export type Better = 'more' | 'less';

/** Samples of one quantity. */
export interface Measurement {
  /** `BENCHMARK/case`. */
  readonly name: string;
  readonly unit: string;
  readonly better: Better;
  readonly ours: readonly number[];
  /** The same quantity of another program that does the same work, sampled in the same run; null if there is none. */
  readonly peer: { readonly name: string; readonly samples: readonly number[] } | null;
  /**
   * Each sample of ours was taken just before the peer's: the ratio is the median of theirs, on which a machine that works at
   * several speeds has less influence. Default false.
   */
  readonly isPaired?: boolean;
  /**
   * Bound for the ratio ours/peer, or for our median if there is no peer: a minimum if more is better,
   * a maximum if less is. Null if there is no goal.
   */
  readonly goal: number | null;
}

export interface BenchContext {
  /** Reports the current step in one short line. */
  progress(text: string): void;
  /** Number of flips in a benchmark that counts rare events. */
  readonly flips: number;
}

export interface Benchmark {
  readonly name: string;
  /** One line for the list. */
  readonly about: string;
  /** Other work on the machine changes its figures. */
  readonly needsQuiet: boolean;
  /** What is missing on this machine, and how to get it; null if nothing. */
  missing(): string | null;
  run(context: BenchContext): Promise<readonly Measurement[]>;
}

/** One measurement as it is written to the JSON file; `ours` and `peer` are medians. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  /** ours / peer, or the median of that of all pairs. */
  readonly ratio: number | null;
  readonly goal: number | null;
  readonly met: boolean | null;
}

/** Throws a RangeError if there are no values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median of no values');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The least value that `share` of the values do not exceed. Throws a RangeError if there are no values. */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError('percentile of no values');
  return values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1]!;
}

export function toRow({ name, unit, better, ours, peer, isPaired = false, goal }: Measurement): Row {
  const ourMedian = median(ours);
  const peerMedian = peer && median(peer.samples);
  const ratio =
    peerMedian === null
      ? null
      : isPaired
        ? median(ours.map((our, i) => ratioOf(our, peer!.samples[i]!)))
        : ratioOf(ourMedian, peerMedian);
  const judged = ratio ?? ourMedian;
  const met = goal === null ? null : better === 'more' ? judged >= goal : judged <= goal;
  return { name, unit, ours: ourMedian, peer: peerMedian, peerName: peer?.name ?? null, ratio, goal, met };
}

/** 1 if both are equal, also if both are 0. */
function ratioOf(ours: number, peer: number): number {
  return ours === peer ? 1 : ours / peer;
}

type Side = () => number | Promise<number>;

/** Samples both sides in turn, so that a machine that slows down affects both. The first sample of each is discarded. */
export async function alternate(rounds: number, ours: Side, peer: Side): Promise<{ ours: number[]; peer: number[] }> {
  const samples = { ours: [] as number[], peer: [] as number[] };
  for (let round = -1; round < rounds; round++) {
    const a = await ours();
    const b = await peer();
    if (round < 0) continue;
    samples.ours.push(a);
    samples.peer.push(b);
  }
  return samples;
}
