import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { replaceFile } from './png.ts';
import { renderReport, type ReportEntry } from './report.ts';
import { UsageError } from '../../src/core/errors.ts';

/** Where a run of tests keeps a record of each comparison, and the pictures of those that failed. */
export interface ResultsFolder {
  readonly directory: string;
  /** The full name of the test that compares, unique in the run: `login.test.ts > the prompt appears`. */
  readonly test: string;
  /** Counts up when a test is retried: the comparisons of an attempt replace those of the attempt before. */
  readonly attempt?: number;
}

/** The folder that the vitest matcher, its reporter and `scanout report` share: SCANOUT_RESULTS, or `test-results/scanout`. */
export function resultsDirectory(): string {
  return process.env.SCANOUT_RESULTS ?? 'test-results/scanout';
}

const EVIDENCE = ['actual', 'diff', 'video'] as const;
type Evidence = (typeof EVIDENCE)[number];
type Pictures = 'expected' | Evidence;

/** A comparison on file. Pictures are paths relative to the record. */
type MatchRecord = Omit<ReportEntry, Pictures> & Record<Pictures, string | null>;

const RECORD = 'match.json';
/** Bytes of a name that are kept in the name of a folder, which can have 255. */
const MAX_NAME = 120;

/** What this process has compared in the folder of one test. */
interface TestFolder {
  /** Resolves when what an earlier run left there is removed. */
  ready: Promise<void>;
  comparisons: number;
  attempt: number;
  /** Folders of the comparisons of that attempt. */
  ofAttempt: string[];
}

const testFolders = new Map<string, TestFolder>();

/**
 * The folder of one comparison, which nothing else writes to:
 * `DIRECTORY/login.test.ts-the-prompt-appears-2fd4e1c67a/1-login`. It is made when something is kept in it.
 */
export class ComparisonFolder {
  readonly #path: string;
  readonly #goldenPath: string;
  readonly #test: string;
  readonly #kept: Record<Evidence, string | null> = { actual: null, diff: null, video: null };

  private constructor(path: string, goldenPath: string, test: string) {
    this.#path = path;
    this.#goldenPath = goldenPath;
    this.#test = test;
  }

  /** The next comparison of a test. The first one removes what an earlier run, or attempt, recorded for this test. */
  static async open({ directory, test, attempt = 0 }: ResultsFolder, goldenPath: string): Promise<ComparisonFolder> {
    const folder = join(directory, `${nameFor(test)}-${createHash('sha256').update(test).digest('hex').slice(0, 10)}`);
    let used = testFolders.get(folder);
    if (!used)
      testFolders.set(folder, (used = { ready: clearResults(folder), comparisons: 0, attempt, ofAttempt: [] }));
    if (attempt !== used.attempt) {
      // A lower number is that of another test with the same name.
      const replaced = attempt > used.attempt ? used.ofAttempt : [];
      used.ready = used.ready.then(async () => {
        for (const path of replaced) await removeComparison(path);
      });
      Object.assign(used, { attempt, ofAttempt: [] });
    }
    const path = join(folder, `${++used.comparisons}-${nameFor(basename(goldenPath, '.png'))}`);
    used.ofAttempt.push(path);
    await used.ready;
    return new ComparisonFolder(path, goldenPath, test);
  }

  /** Writes a PNG; its path. */
  async keep(kind: Evidence, png: Uint8Array): Promise<string> {
    const path = join(this.#path, `${kind}.png`);
    await mkdir(this.#path, { recursive: true });
    await writeFile(path, png);
    this.#kept[kind] = basename(path);
    return path;
  }

  /** Writes the record, which makes the comparison a part of the report. */
  async record(
    outcome: Pick<ReportEntry, 'status' | 'isNegated' | 'explanation' | 'rung' | 'frames'>,
    hasGolden: boolean,
  ): Promise<void> {
    const expected = hasGolden ? relative(this.#path, this.#goldenPath) : null;
    const record: MatchRecord = {
      test: this.#test,
      name: basename(this.#goldenPath),
      ...outcome,
      expected,
      ...this.#kept,
    };
    await mkdir(this.#path, { recursive: true });
    await writeFile(join(this.#path, RECORD), JSON.stringify(record));
  }
}

/** Removes the records of an earlier run and the pictures they name. Other files in the folder stay. */
export async function clearResults(directory: string): Promise<void> {
  for (const name of await recordsIn(directory)) await removeComparison(dirname(join(directory, name)));
}

/**
 * Writes one HTML file with all comparisons recorded in a folder, and resolves with their number. Rejects with
 * UsageError if there are none.
 */
export async function writeReport(directory: string, file: string): Promise<number> {
  const entries = await Promise.all((await recordsIn(directory)).map((name) => readEntry(join(directory, name))));
  if (entries.length === 0) throw new UsageError(`${directory}: no comparison is recorded in this folder`);
  await mkdir(dirname(file), { recursive: true });
  await replaceFile(file, Buffer.from(renderReport(entries, 'Screenshots')));
  return entries.length;
}

/** The paths of all records, relative to the directory; none if it does not exist. */
async function recordsIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory, { recursive: true })).filter((name) => basename(name) === RECORD).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function readEntry(path: string): Promise<ReportEntry> {
  const record = JSON.parse(await readFile(path, 'utf8')) as MatchRecord;
  const picture = (file: string | null): Promise<Uint8Array> | null =>
    file === null ? null : readFile(join(dirname(path), file));
  const [expected, actual, diff, video] = await Promise.all([
    picture(record.expected),
    picture(record.actual),
    picture(record.diff),
    picture(record.video),
  ]);
  return { ...record, expected, actual, diff, video };
}

/** Removes what a comparison wrote, and its folder and the test's if nothing else is in them. */
async function removeComparison(folder: string): Promise<void> {
  const record = await readRecord(join(folder, RECORD));
  if (record === null) return;
  for (const kind of EVIDENCE)
    if (record[kind] === `${kind}.png`) await rm(join(folder, `${kind}.png`), { force: true });
  await rm(join(folder, RECORD), { force: true });
  await removeIfEmpty(folder);
  await removeIfEmpty(dirname(folder));
}

/** Null for a file that no comparison wrote. */
async function readRecord(path: string): Promise<MatchRecord | null> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as Partial<MatchRecord> | null;
    return typeof record?.test === 'string' && typeof record.status === 'string' ? (record as MatchRecord) : null;
  } catch {
    return null;
  }
}

async function removeIfEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch(() => undefined);
}

/** Text as part of a file name: letters, digits, `.`, `_` and `-`, of a length that leaves room for more. */
function nameFor(text: string): string {
  const name = text.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[.-]+/, '');
  let kept = '';
  let bytes = 0;
  for (const character of name) {
    bytes += Buffer.byteLength(character);
    if (bytes > MAX_NAME) break;
    kept += character;
  }
  return kept;
}
