import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { PngError, pngSize } from './png.ts';
import { type MatchStatus, renderReport, type ReportEntry } from './report.ts';
import { UsageError } from '../../src/core/errors.ts';
import { ScanoutError } from '../../src/sys/errors.ts';
import { replaceFile } from '../../src/sys/replace-file.ts';

/** A record in a results folder, or a picture it names, that no comparison wrote. */
export class ResultsError extends ScanoutError<'format'> {}

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

/** The pictures that a comparison may keep, each in a file `KIND.png` beside its record. */
const KINDS = ['expected', 'actual', 'diff', 'video'] as const;
type Kind = (typeof KINDS)[number];

/** A comparison on file. For pictures that were not kept it has null. */
type MatchRecord = Omit<ReportEntry, Kind> & Record<Kind, string | null>;

const RECORD = 'match.json';
const MAX_RECORD_BYTES = 2 ** 20;
/** All pictures of a report. The report is one string, which could not be much longer. */
const MAX_REPORT_BYTES = 2 ** 28;
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
  readonly #kept: Record<Kind, string | null> = { expected: null, actual: null, diff: null, video: null };

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
  async keep(kind: Kind, png: Uint8Array): Promise<string> {
    const path = join(this.#path, `${kind}.png`);
    await mkdir(this.#path, { recursive: true });
    await replaceFile(path, png);
    this.#kept[kind] = basename(path);
    return path;
  }

  /** Writes the record, which makes the comparison a part of the report. */
  async record(outcome: Pick<ReportEntry, 'status' | 'isNegated' | 'explanation' | 'rung' | 'frames'>): Promise<void> {
    const record: MatchRecord = { test: this.#test, name: basename(this.#goldenPath), ...outcome, ...this.#kept };
    await mkdir(this.#path, { recursive: true });
    await replaceFile(join(this.#path, RECORD), Buffer.from(JSON.stringify(record)));
  }
}

/** Removes the records of an earlier run and the pictures they name. Other files in the folder stay. */
export async function clearResults(directory: string): Promise<void> {
  for (const path of await recordsIn(directory)) await removeComparison(dirname(path));
}

/**
 * Writes one HTML file, for its owner only, with all comparisons recorded in a folder, and resolves with their number.
 * The folder may come from elsewhere: only regular files in it are read, and no symlink is followed. Rejects with
 * UsageError if it has no comparison, ResultsError if a file in it is malformed or the pictures are too large.
 */
export async function writeReport(directory: string, file: string): Promise<number> {
  const entries: ReportEntry[] = [];
  let left = MAX_REPORT_BYTES;
  for (const path of await recordsIn(directory)) {
    const entry = await readEntry(path, left);
    entries.push(entry);
    for (const kind of KINDS) left -= entry[kind]?.length ?? 0;
  }
  if (entries.length === 0) throw new UsageError(`${directory}: no comparison is recorded in this folder`);
  await mkdir(dirname(file), { recursive: true });
  await replaceFile(file, Buffer.from(renderReport(entries, 'Screenshots')));
  return entries.length;
}

/** The paths of all records in a directory; none if it does not exist. */
async function recordsIn(directory: string): Promise<string[]> {
  try {
    return (await entriesNamed(RECORD, directory)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Of a directory and those below it. Follows no symlink; the recursive `readdir` of Node 26 does. */
async function entriesNamed(name: string, directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.name === name) found.push(path);
    else if (entry.isDirectory()) found.push(...(await entriesNamed(name, path)));
  }
  return found;
}

/** `most` is how many bytes its pictures may have. */
async function readEntry(path: string, most: number): Promise<ReportEntry> {
  const record = await readRecord(path);
  if (record === null) throw new ResultsError('format', `${path}: not the record of a comparison: remove the file`);
  const pictures: Record<Kind, Uint8Array | null> = { expected: null, actual: null, diff: null, video: null };
  let left = most;
  for (const kind of KINDS) {
    if (record[kind] === null) continue;
    const picture = await readPicture(join(dirname(path), record[kind]), left);
    pictures[kind] = picture;
    left -= picture.length;
  }
  return { ...record, ...pictures };
}

/** The bytes of a PNG: a report must not carry away any other file. */
async function readPicture(path: string, most: number): Promise<Uint8Array> {
  try {
    const bytes = await readRegularFile(path, most);
    pngSize(bytes);
    return bytes;
  } catch (cause) {
    if (cause instanceof PngError) throw new ResultsError('format', `${path}: ${cause.message}`, { cause });
    throw cause;
  }
}

/**
 * The contents of a file of a results folder. Does not wait for the other end of a fifo. Rejects with ResultsError for
 * what is not a regular file, such as a symlink, or has more than `most` bytes.
 */
async function readRegularFile(path: string, most: number): Promise<Uint8Array> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile()) throw new ResultsError('format', `${path}: not a regular file`);
    if (found.size > most) throw new ResultsError('format', `${path}: ${found.size} bytes are too many`);
    const bytes = Buffer.alloc(found.size);
    const { bytesRead } = await file.read(bytes);
    return bytes.subarray(0, bytesRead);
  } catch (cause) {
    if (cause instanceof ResultsError) throw cause;
    throw new ResultsError('format', `${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Removes what a comparison wrote, and its folder and the test's if nothing else is in them. */
async function removeComparison(folder: string): Promise<void> {
  const record = await readRecord(join(folder, RECORD));
  if (record === null) return;
  for (const kind of KINDS) if (record[kind] !== null) await rm(join(folder, record[kind]), { force: true });
  await rm(join(folder, RECORD), { force: true });
  await removeIfEmpty(folder);
  await removeIfEmpty(dirname(folder));
}

/** Null for a file that no comparison wrote. */
async function readRecord(path: string): Promise<MatchRecord | null> {
  let record: unknown;
  try {
    record = JSON.parse(Buffer.from(await readRegularFile(path, MAX_RECORD_BYTES)).toString());
  } catch {
    return null;
  }
  return isRecord(record) ? record : null;
}

const STATUSES: Readonly<Record<MatchStatus, true>> = {
  matched: true,
  different: true,
  missing: true,
  created: true,
  updated: true,
};

function isRecord(value: unknown): value is MatchRecord {
  if (typeof value !== 'object' || value === null) return false;
  const {
    test,
    name,
    status,
    isNegated = false,
    explanation,
    rung,
    frames,
    ...pictures
  } = value as Partial<Record<keyof MatchRecord, unknown>>;
  return (
    [test, name, explanation].every((text) => typeof text === 'string') &&
    (rung === null || typeof rung === 'string') &&
    typeof status === 'string' &&
    Object.hasOwn(STATUSES, status) &&
    typeof isNegated === 'boolean' &&
    Array.isArray(frames) &&
    frames.every(isFrame) &&
    KINDS.every((kind) => pictures[kind] === null || pictures[kind] === `${kind}.png`)
  );
}

function isFrame(value: unknown): boolean {
  const { timeMs, changed } = (value ?? {}) as { timeMs?: unknown; changed?: unknown };
  return isBetween(timeMs, Number.MAX_VALUE) && isBetween(changed, 1);
}

function isBetween(value: unknown, most: number): boolean {
  return typeof value === 'number' && value >= 0 && value <= most;
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
