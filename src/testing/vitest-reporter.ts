import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Reporter } from 'vitest/node';
import { UsageError } from '../core/errors.ts';
import { clearResults, resultsDirectory, writeReport } from '../../display/picture/results.ts';

/**
 * A vitest reporter that writes an HTML report of a run's screenshots to `test-results/scanout/report.html`, or to the
 * folder that SCANOUT_RESULTS names:
 *
 *     export default defineConfig({ test: { reporters: ['default', 'scanout-bridge/vitest-reporter'] } });
 */
export default class ScreenshotReporter implements Reporter {
  async onTestRunStart(): Promise<void> {
    await clearResults(resultsDirectory());
    await rm(reportFile(), { force: true });
  }

  async onTestRunEnd(): Promise<void> {
    const file = reportFile();
    try {
      const count = await writeReport(resultsDirectory(), file);
      console.log(`${count} screenshots compared, see ${file}`);
    } catch (error) {
      // No test of this run compared a screenshot.
      if (!(error instanceof UsageError)) throw error;
    }
  }
}

function reportFile(): string {
  return join(resultsDirectory(), 'report.html');
}
