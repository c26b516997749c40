/** Which way is good: `more` of a rate, `less` of a cost. */
export type Better = 'more' | 'less';

/** One thing measured several times. */
export interface Measurement {
  /** `BENCHMARK/case`. */
  readonly name: string;
  readonly unit: string;
  readonly better: Better;
  readonly ours: readonly number[];
  /** The same of somebody else's program doing the same work, in the same run; null if there is none. */
  readonly peer: { readonly name: string; readonly samples: readonly number[] } | null;
  /**
   * What the ratio ours/peer shall be, or ours itself where there is no peer: at least this if more
   * is better, at most this if less is. Null: nothing was promised.
   */
  readonly goal: number | null;
}

export interface BenchContext {
  /** One short line about what is being done now. */
  progress(text: string): void;
  /** How often a benchmark flips that counts what is rare. */
  readonly flips: number;
}

export interface Benchmark {
  readonly name: string;
  /** One line for the list. */
  readonly about: string;
  /** What this machine lacks for it and how to get that; null if nothing. */
  missing(): string | null;
  run(context: BenchContext): Promise<readonly Measurement[]>;
}

/** One measurement as a line of JSON; `ours` and `peer` are medians. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  /** ours / peer. */
  readonly ratio: number | null;
  readonly goal: number | null;
  readonly met: boolean | null;
}

/** RangeError for no values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function toRow({ name, unit, better, ours, peer, goal }: Measurement): Row {
  const ourMedian = median(ours);
  const peerMedian = peer && median(peer.samples);
  // Nothing against nothing is as much.
  const ratio = peerMedian === null ? null : ourMedian === peerMedian ? 1 : ourMedian / peerMedian;
  const judged = ratio ?? ourMedian;
  const met = goal === null ? null : better === 'more' ? judged >= goal : judged <= goal;
  return { name, unit, ours: ourMedian, peer: peerMedian, peerName: peer?.name ?? null, ratio, goal, met };
}

type Side = () => number | Promise<number>;

/** Samples of both sides in turn, so that a machine that gets slower does so for both; after one of each that does not count. */
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
