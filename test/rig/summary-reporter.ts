import { writeFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';
import { COUNTS_FILE, type Counts, countsLine, type RunResult } from './counts.ts';

const SUMMARY_LENGTH = 500;
/** After how long without a result it is said what runs, and then again. */
const SILENCE_MINUTES = 5;

/**
 * Ends a run with one plain line of counts, taken from the runner's own results, which is easy to
 * parse. A run that is part of a larger one writes its result to the file in COUNTS_FILE instead.
 * Until then it names the tests that are running when none has ended for minutes.
 */
export default class SummaryReporter implements Reporter {
  /** By module, the test that is known to run in it. */
  readonly #running = new Map<string, string>();
  #silentMinutes = 0;
  readonly #eachMinute = setInterval(() => {
    if (++this.#silentMinutes % SILENCE_MINUTES > 0) return;
    const running = [...this.#running].map(([module, test]) => `${module}${test}`).join(', ');
    console.log(`no test has ended for ${this.#silentMinutes} minutes; under way: ${running || 'none'}`);
  }, 60_000).unref();

  onTestModuleStart({ relativeModuleId }: TestModule): void {
    this.#running.set(relativeModuleId, '');
  }

  onTestCaseReady({ module, fullName }: TestCase): void {
    this.#running.set(module.relativeModuleId, ` > ${fullName}`);
  }

  onTestCaseResult({ module, fullName }: TestCase): void {
    this.#silentMinutes = 0;
    this.#running.set(module.relativeModuleId, `, after ${fullName}`);
  }

  onTestModuleEnd({ relativeModuleId }: TestModule): void {
    this.#silentMinutes = 0;
    this.#running.delete(relativeModuleId);
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    clearInterval(this.#eachMinute);
    const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
    const failures: string[] = [];
    const failed = (what: string, error?: SerializedError): void => {
      counts.failed++;
      failures.push(`${what}: ${error === undefined ? 'no error' : summaryOf(error)}`);
    };
    for (const error of unhandledErrors) failed('outside a test', error);
    for (const module of modules) {
      for (const error of module.errors()) failed(module.relativeModuleId, error);
      // Of the hooks around a group of tests, such as the one that checks what they have left behind.
      for (const suite of module.children.allSuites())
        for (const error of suite.errors()) failed(`${module.relativeModuleId} > ${suite.fullName}`, error);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === 'passed') counts.passed++;
        else if (state === 'skipped') counts.skipped++;
        else failed(`${module.relativeModuleId} > ${test.fullName}`, errors?.[0]);
      }
    }
    const file = process.env[COUNTS_FILE];
    if (file) writeFileSync(file, JSON.stringify({ ...counts, failures } satisfies RunResult));
    else process.stdout.write(`${countsLine(counts)}\n`);
  }
}

/** The first line of an error, and what differed, which that line often abbreviates. */
function summaryOf({ message, diff }: Pick<SerializedError, 'message'> & { readonly diff?: string }): string {
  const differences = stripVTControlCharacters(diff ?? '')
    .split('\n')
    .filter((line) => /^[-+] /.test(line) && !/^[-+] (Expected|Received)/.test(line));
  return [message.split('\n', 1)[0], ...differences].join(' ').slice(0, SUMMARY_LENGTH);
}
