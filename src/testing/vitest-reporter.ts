import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Reporter } from 'vitest/node';
import { UsageError } from '../core/errors.ts';
import { clearResults, resultsDirectory, writeReport } from '../../display/picture/results.ts';

/**
 * Makes an HTML file of a run's screenshots, `test-results/scanout/report.html` (or in SCANOUT_RESULTS):
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
      // A run of other tests.
      if (!(error instanceof UsageError)) throw error;
    }
  }
}

function reportFile(): string {
  return join(resultsDirectory(), 'report.html');
}
