export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Name of an environment variable: the file that a run writes its counts to if it is part of a larger one. */
export const COUNTS_FILE = 'SCANOUT_TEST_COUNTS';

export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
