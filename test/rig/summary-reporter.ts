import { writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';
import { COUNTS_FILE, type Counts, countsLine, type RunResult } from './counts.ts';

/**
 * Ends a run with one plain line of counts, taken from the runner's own results, which is easy to
 * parse. A run that is part of a larger one writes its result to the file in COUNTS_FILE instead.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
    const failures: string[] = [];
    const failed = (what: string, errors: readonly { readonly message: string }[] = []): void => {
      counts.failed++;
      failures.push(`${what}: ${errors[0]?.message.split('\n', 1)[0] ?? 'no error'}`);
    };
    for (const error of unhandledErrors) failed('outside a test', [error]);
    for (const module of modules) {
      for (const error of module.errors()) failed(module.relativeModuleId, [error]);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === 'passed') counts.passed++;
        else if (state === 'skipped') counts.skipped++;
        else failed(`${module.relativeModuleId} > ${test.fullName}`, errors);
      }
    }
    const file = process.env[COUNTS_FILE];
    if (file) writeFileSync(file, JSON.stringify({ ...counts, failures } satisfies RunResult));
    else process.stdout.write(`${countsLine(counts)}\n`);
  }
}
