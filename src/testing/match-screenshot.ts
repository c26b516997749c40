import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { comparePictures, type CompareOptions, diffPicture } from '../../display/picture/compare.ts';
import { encodePng, readPng, writePng } from '../../display/picture/png.ts';
import type { MatchStatus, ReportFrame } from '../../display/picture/report.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { Picture } from '../core/picture.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { ComparisonFolder, type ResultsFolder, resultsDirectory } from '../../display/picture/results.ts';
import { TestDisplay } from './open-display.ts';

export interface ScreenshotOptions extends CompareOptions {
  /** How long a display may take to show the golden picture. Default 30000. */
  readonly timeoutMs?: number;
  /** How long nothing on a display may change before a golden picture is made of it. Default 500. */
  readonly quietMs?: number;
  /** Include the hardware cursor. Default false. */
  readonly cursor?: boolean;
  /** Which golden pictures are written: `new` those that are missing, `all` also those that differ. Default `new`, or `none` if the environment variable CI is set and not `false`. */
  readonly update?: 'all' | 'new' | 'none';
  /**
   * Where a run keeps all its comparisons, for `scanout report`. Default: only those that fail are kept, in
   * SCANOUT_RESULTS or `test-results/scanout`, under the golden picture's path.
   */
  readonly results?: ResultsFolder;
}

/** The outcome of a comparison. A path is null if there is no such file. */
export interface Match {
  readonly status: MatchStatus;
  /** It matched, or became the golden picture. */
  readonly passes: boolean;
  /** What differs; empty if nothing does. */
  readonly explanation: string;
  /** The golden picture. */
  readonly expectedPath: string | null;
  readonly actualPath: string | null;
  readonly diffPath: string | null;
  /** An animated PNG, if the display was opened with `video`. */
  readonly videoPath: string | null;
}

/** A display does not show the golden picture. `match` has the evidence. */
export class ScreenshotMismatch extends ScanoutError<'different' | 'missing'> {
  readonly match: Match;

  constructor(match: Match, name: string) {
    super(match.status === 'missing' ? 'missing' : 'different', describeMatch(match, name));
    this.match = match;
  }
}

/**
 * `matchScreenshot` as an assertion for any test runner: rejects with ScreenshotMismatch unless it passes.
 *
 *     await assertScreenshot(display, 'golden/login.png', { allowed: 20 });
 */
export async function assertScreenshot(
  shown: TestDisplay | Picture,
  goldenPath: string,
  options: ScreenshotOptions = {},
): Promise<void> {
  const match = await matchScreenshot(shown, goldenPath, options);
  if (!match.passes) throw new ScreenshotMismatch(match, goldenPath);
}

/**
 * Compares a display, or a picture, with the golden picture in a file. Of a display each frame is compared until one
 * matches or time is up. A missing golden picture is made once the display stands still.
 *
 * Rejects with DisplayError `timeout` if a display does not stand still to make a golden picture of, DisplayError
 * `closed` if it or its guest is gone, PngError for an invalid golden picture, and errors of the file system. Only
 * the owner can read the evidence.
 */
export async function matchScreenshot(
  shown: TestDisplay | Picture,
  goldenPath: string,
  options: ScreenshotOptions = {},
): Promise<Match> {
  const { update = isCi() ? 'none' : 'new' } = options;
  const folder = await openFolder(goldenPath, options);
  const golden = await readGolden(goldenPath);
  const actual =
    golden && update !== 'all' ? await matchingOrLast(shown, golden, options) : await still(shown, options);
  const found = await judge(shown, golden, actual, goldenPath, folder, update, options);
  const match = {
    expectedPath: golden || found.passes ? goldenPath : null,
    actualPath: null,
    diffPath: null,
    videoPath: null,
    ...found,
  };
  await record(folder, shown, match, options);
  return match;
}

function isCi(): boolean {
  const { CI = '' } = process.env;
  return CI !== '' && CI !== 'false';
}

/**
 * The opposite of `matchScreenshot`: passes if the golden picture exists and a display differs from it once the
 * display stands still. Makes no golden picture and no evidence.
 */
export async function matchOtherScreenshot(
  shown: TestDisplay | Picture,
  goldenPath: string,
  options: Omit<ScreenshotOptions, 'update'> = {},
): Promise<Match> {
  const folder = await openFolder(goldenPath, options);
  const golden = await readGolden(goldenPath);
  const paths = { expectedPath: golden && goldenPath, actualPath: null, diffPath: null, videoPath: null };
  let match: Match;
  if (golden) {
    const { matches, explanation } = comparePictures(golden, await still(shown, options), options);
    match = {
      status: matches ? 'matched' : 'different',
      passes: !matches,
      explanation: matches ? 'the display shows it' : explanation,
      ...paths,
    };
  } else {
    match = {
      status: 'missing',
      passes: false,
      explanation: 'there is no golden picture to differ from: check its name',
      ...paths,
    };
  }
  await record(folder, shown, match, options, true);
  return match;
}

function openFolder(
  goldenPath: string,
  { results = { directory: resultsDirectory(), test: goldenPath } }: ScreenshotOptions,
): Promise<ComparisonFolder> {
  return ComparisonFolder.open(results, goldenPath);
}

async function record(
  folder: ComparisonFolder,
  shown: TestDisplay | Picture,
  match: Match,
  { results }: ScreenshotOptions,
  isNegated = false,
): Promise<void> {
  if (!results && match.passes) return;
  const { status, explanation, expectedPath } = match;
  const { rung, frames } =
    shown instanceof TestDisplay ? { rung: shown.rung, frames: reportFrames(shown) } : { rung: null, frames: [] };
  // A copy: the folder can be looked at elsewhere, and later, when the golden picture may be another.
  if (expectedPath !== null) await folder.keep('expected', await readFile(expectedPath));
  await folder.record({ status, ...(isNegated && { isNegated }), explanation, rung, frames });
}

function reportFrames({ frames }: TestDisplay): ReportFrame[] {
  const largest = frames.reduce((most, { damagedPixels }) => Math.max(most, damagedPixels), 1);
  return frames.map(({ timeMs, damagedPixels }) => ({
    timeMs: timeMs - frames[0]!.timeMs,
    changed: damagedPixels / largest,
  }));
}

/** A golden picture belongs to the sources of a test: its permissions are those of the umask. */
const SOURCE_FILE = 0o666;

type Verdict = Pick<Match, 'status' | 'passes' | 'explanation'> & Partial<Match>;

async function judge(
  shown: TestDisplay | Picture,
  golden: Picture | null,
  actual: Picture | null,
  goldenPath: string,
  folder: ComparisonFolder,
  update: 'all' | 'new' | 'none',
  options: ScreenshotOptions,
): Promise<Verdict> {
  const comparison = golden && actual ? comparePictures(golden, actual, options) : null;
  if (comparison?.matches) return { status: 'matched', passes: true, explanation: '' };
  const mayWrite = golden ? update === 'all' : update !== 'none';
  if (mayWrite && actual) {
    await mkdir(dirname(goldenPath), { recursive: true });
    await writePng(goldenPath, actual, SOURCE_FILE);
    return { status: golden ? 'updated' : 'created', passes: true, explanation: '' };
  }
  const video = shown instanceof TestDisplay ? shown.video() : null;
  return {
    status: golden ? 'different' : 'missing',
    passes: false,
    explanation: golden
      ? (comparison?.explanation ?? 'the display shows nothing')
      : 'there is no golden picture, and none is made in CI: run the test without CI in the environment, look at the picture and commit it',
    actualPath: actual && (await folder.keep('actual', encodePng(actual))),
    diffPath: golden && actual && (await folder.keep('diff', encodePng(diffPicture(golden, actual, options)))),
    videoPath: video && (await folder.keep('video', video)),
  };
}

/** Several lines of text: what differs, and the files. */
export function describeMatch(
  { status, explanation, expectedPath, actualPath, diffPath, videoPath }: Match,
  name: string,
): string {
  const files = Object.entries({ expected: expectedPath, actual: actualPath, diff: diffPath, video: videoPath });
  return [
    `${name}: ${explanation || status}`,
    ...files.filter(([, path]) => path !== null).map(([kind, path]) => `  ${kind.padEnd(8)} ${path}`),
  ].join('\n');
}

/** Null if there is no such file. */
async function readGolden(path: string): Promise<Picture | null> {
  try {
    return await readPng(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** The picture that matches, or the last one when time is up; null if nothing was shown. */
async function matchingOrLast(
  shown: TestDisplay | Picture,
  golden: Picture,
  options: ScreenshotOptions,
): Promise<Picture | null> {
  if (!(shown instanceof TestDisplay)) return shown;
  try {
    return await shown.waitForMatch(golden, options);
  } catch (error) {
    if (error instanceof DisplayError && error.code === 'timeout') return error.picture;
    throw error;
  }
}

/** A display's picture once it stands still. */
async function still(shown: TestDisplay | Picture, options: ScreenshotOptions): Promise<Picture> {
  return shown instanceof TestDisplay ? shown.waitForStable(options) : shown;
}
