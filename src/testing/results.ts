import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { replaceFile } from '../../display/picture/png.ts';
import { renderReport, type ReportEntry, type ReportFrame } from '../../display/picture/report/report.ts';
import { UsageError } from '../core/errors.ts';
import type { Match } from './match-screenshot.ts';
import type { TestDisplay } from './test-display.ts';

/** Where a run of tests keeps what it compared: a record of each comparison, and pictures of those that failed. */
export interface ResultsFolder {
  readonly directory: string;
  /** Which test compares: `login.test.ts > the prompt appears`. */
  readonly test: string;
}

/** Where the matcher of vitest and its reporter meet: the environment's SCANOUT_RESULTS, or `test-results/scanout`. */
export function resultsDirectory(): string {
  return process.env.SCANOUT_RESULTS ?? 'test-results/scanout';
}

type Pictures = 'expected' | 'actual' | 'diff' | 'video';

/** A comparison on file. Pictures are paths relative to the record. */
type MatchRecord = Omit<ReportEntry, Pictures> & Record<Pictures, string | null>;

const RECORD_END = '-match.json';

/** The path of a comparison's own files up to `-actual.png` and so on. */
export function evidencePrefix({ directory, test }: ResultsFolder, goldenPath: string): string {
  return join(directory, test.replace(/[^\w.-]+/g, '-'), basename(goldenPath, '.png'));
}

export async function recordMatch(results: ResultsFolder, goldenPath: string, match: Match, display: TestDisplay | null): Promise<void> {
  const path = `${evidencePrefix(results, goldenPath)}${RECORD_END}`;
  const near = (file: string | null): string | null => file && relative(dirname(path), file);
  const record: MatchRecord = {
    test: results.test,
    name: basename(goldenPath),
    status: match.status,
    explanation: match.explanation,
    rung: display?.rung ?? null,
    frames: display ? frames(display) : [],
    expected: near(match.expectedPath),
    actual: near(match.actualPath),
    diff: near(match.diffPath),
    video: near(match.videoPath),
  };
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, JSON.stringify(record));
}

/** What an earlier comparison left. */
export async function removeEvidence(prefix: string): Promise<void> {
  for (const end of ['-actual.png', '-diff.png', '-video.png']) await rm(`${prefix}${end}`, { force: true });
}

/** Forgets an earlier run. The folder is one somebody named: nothing goes but what comparisons left there. */
export async function clearResults(directory: string): Promise<void> {
  for (const name of await recordsIn(directory)) {
    const path = join(directory, name);
    await removeEvidence(path.slice(0, -RECORD_END.length));
    await rm(path, { force: true });
  }
}

/**
 * Makes one HTML file of all comparisons recorded in a folder; resolves with how many those are. UsageError for a
 * folder that has none.
 */
export async function writeReport(directory: string, file: string): Promise<number> {
  const records = await recordsIn(directory);
  if (records.length === 0) throw new UsageError(`${directory}: no comparison is recorded there; it is where tests with toMatchScreenshot, or with the option results, keep theirs`);
  const entries = await Promise.all(records.map((name) => readEntry(join(directory, name))));
  await mkdir(dirname(file), { recursive: true });
  await replaceFile(file, Buffer.from(renderReport(entries, 'Screenshots')));
  return entries.length;
}

/** None where there is no such directory. */
async function recordsIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory, { recursive: true })).filter((name) => name.endsWith(RECORD_END)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function readEntry(path: string): Promise<ReportEntry> {
  const record = JSON.parse(await readFile(path, 'utf8')) as MatchRecord;
  const picture = (file: string | null): Promise<Uint8Array> | null => (file === null ? null : readFile(join(dirname(path), file)));
  const [expected, actual, diff, video] = await Promise.all([picture(record.expected), picture(record.actual), picture(record.diff), picture(record.video)]);
  return { ...record, expected, actual, diff, video };
}

function frames(display: TestDisplay): ReportFrame[] {
  const all = display.frames;
  const largest = all.reduce((most, { damagedPixels }) => Math.max(most, damagedPixels), 1);
  return all.map(({ timeMs, damagedPixels }) => ({ timeMs: timeMs - all[0]!.timeMs, changed: damagedPixels / largest }));
}
