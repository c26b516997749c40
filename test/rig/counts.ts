export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What a run tells the larger one that it is part of. */
export interface RunResult extends Counts {
  /** Of each failure, what failed and the first line of its error. */
  readonly failures: readonly string[];
}

/** Name of an environment variable: the file that a run writes its result to if it is part of a larger one. */
export const COUNTS_FILE = 'SCANOUT_TEST_COUNTS';

export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
