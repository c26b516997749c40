export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Environment variable: the file a run writes its counts to when it is part of a larger one. */
export const COUNTS_FILE = 'SCANOUT_TEST_COUNTS';

export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
