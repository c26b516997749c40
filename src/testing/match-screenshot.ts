import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { comparePictures, type CompareOptions, diffPicture } from '../../display/picture/compare.ts';
import { decodePng, encodePng, writePng } from '../../display/picture/png.ts';
import type { MatchStatus, ReportFrame } from '../../display/picture/report.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { Picture } from '../core/picture.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { ComparisonFolder, type ResultsFolder, resultsDirectory } from '../../display/picture/results.ts';
import { TestDisplay } from './open-display.ts';

export interface ScreenshotOptions extends CompareOptions {
  /** How long a display may take until it shows the golden picture, in milliseconds. Default 30 000. */
  readonly timeoutMs?: number;
  /** How long a display has to stand still until it is made a golden picture. Default 500. */
  readonly quietMs?: number;
  /** The hardware cursor is part of the picture. Default false. */
  readonly cursor?: boolean;
  /** Golden pictures that are written: `new` missing ones, `all` those that differ as well. Default `new`, and `none` where the environment has CI. */
  readonly update?: 'all' | 'new' | 'none';
  /**
   * Where a run keeps all its comparisons, for `scanout report`. Default: only those that fail are kept, in
   * SCANOUT_RESULTS or `test-results/scanout`, under the golden picture's path.
   */
  readonly results?: ResultsFolder;
}

/** What came of a comparison. Paths are null where there is no such file. */
export interface Match {
  readonly status: MatchStatus;
  /** It matched, or is the golden picture from now on. */
  readonly passes: boolean;
  /** What differs; empty if nothing does. */
  readonly explanation: string;
  /** The golden picture. */
  readonly expectedPath: string | null;
  readonly actualPath: string | null;
  readonly diffPath: string | null;
  /** An animated PNG, of a display that was opened with `video`. */
  readonly videoPath: string | null;
}

/** A display does not show what it is to show. `match` has the evidence. */
export class ScreenshotMismatch extends ScanoutError<'different' | 'missing'> {
  readonly match: Match;

  constructor(match: Match, name: string) {
    super(match.status === 'missing' ? 'missing' : 'different', describeMatch(match, name));
    this.match = match;
  }
}

/**
 * Throws ScreenshotMismatch unless `matchScreenshot` passes: for any test runner.
 *
 *     await assertScreenshot(display, 'golden/login.png', { allowed: 20 });
 */
export async function assertScreenshot(shown: TestDisplay | Picture, goldenPath: string, options: ScreenshotOptions = {}): Promise<void> {
  const match = await matchScreenshot(shown, goldenPath, options);
  if (!match.passes) throw new ScreenshotMismatch(match, goldenPath);
}

/**
 * Compares what a display shows, or a picture, with a golden picture on file. A display is given time: each frame
 * that comes is compared until one matches. A golden picture that is missing is made of what the display shows once
 * it stands still.
 *
 * Rejects with DisplayError `dark` or `timeout` (nothing to make a golden picture of), PngError for a golden picture
 * that cannot be read, and what the file system has to say.
 */
export async function matchScreenshot(shown: TestDisplay | Picture, goldenPath: string, options: ScreenshotOptions = {}): Promise<Match> {
  const { update = process.env.CI ? 'none' : 'new' } = options;
  const folder = await openFolder(goldenPath, options);
  const golden = await readGolden(goldenPath);
  const actual = golden && update !== 'all' ? await awaited(shown, golden, options) : await still(shown, options);
  const found = await judge(shown, golden, actual, goldenPath, folder, update, options);
  const match = { expectedPath: golden || found.passes ? goldenPath : null, actualPath: null, diffPath: null, videoPath: null, ...found };
  await record(folder, shown, match, options);
  return match;
}

/**
 * The opposite of `matchScreenshot`: passes if the golden picture exists and differs from what is shown once that
 * stands still. Never writes a golden picture, and keeps no pictures.
 */
export async function matchOtherScreenshot(shown: TestDisplay | Picture, goldenPath: string, options: Omit<ScreenshotOptions, 'update'> = {}): Promise<Match> {
  const folder = await openFolder(goldenPath, options);
  const golden = await readGolden(goldenPath);
  const paths = { expectedPath: golden && goldenPath, actualPath: null, diffPath: null, videoPath: null };
  let match: Match;
  if (golden) {
    const { matches, explanation } = comparePictures(golden, await still(shown, options), options);
    match = { status: matches ? 'matched' : 'different', passes: !matches, explanation: matches ? 'the display shows it' : explanation, ...paths };
  } else {
    match = { status: 'missing', passes: false, explanation: 'there is no golden picture that the display could differ from: check its name', ...paths };
  }
  await record(folder, shown, match, options, true);
  return match;
}

function openFolder(goldenPath: string, { results = { directory: resultsDirectory(), test: goldenPath } }: ScreenshotOptions): Promise<ComparisonFolder> {
  return ComparisonFolder.open(results, goldenPath);
}

async function record(folder: ComparisonFolder, shown: TestDisplay | Picture, match: Match, { results }: ScreenshotOptions, isNegated = false): Promise<void> {
  if (!results && match.passes) return;
  const { status, explanation, expectedPath } = match;
  const { rung, frames } = shown instanceof TestDisplay ? { rung: shown.rung, frames: reportFrames(shown) } : { rung: null, frames: [] };
  await folder.record({ status, ...(isNegated && { isNegated }), explanation, rung, frames }, expectedPath !== null);
}

function reportFrames({ frames }: TestDisplay): ReportFrame[] {
  const largest = frames.reduce((most, { damagedPixels }) => Math.max(most, damagedPixels), 1);
  return frames.map(({ timeMs, damagedPixels }) => ({ timeMs: timeMs - frames[0]!.timeMs, changed: damagedPixels / largest }));
}

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
    await writePng(goldenPath, actual);
    return { status: golden ? 'updated' : 'created', passes: true, explanation: '' };
  }
  const video = shown instanceof TestDisplay ? shown.video() : null;
  return {
    status: golden ? 'different' : 'missing',
    passes: false,
    explanation: golden ? (comparison?.explanation ?? 'the display is dark') : 'there is no golden picture, and CI makes none: run the test where CI is not set, look at the picture and commit it',
    actualPath: actual && (await folder.keep('actual', encodePng(actual))),
    diffPath: golden && actual && (await folder.keep('diff', encodePng(diffPicture(golden, actual, options)))),
    videoPath: video && (await folder.keep('video', video)),
  };
}

/** Several lines for a person. */
export function describeMatch({ status, explanation, expectedPath, actualPath, diffPath, videoPath }: Match, name: string): string {
  const files = Object.entries({ expected: expectedPath, actual: actualPath, diff: diffPath, video: videoPath });
  return [`${name}: ${explanation || status}`, ...files.filter(([, path]) => path !== null).map(([kind, path]) => `  ${kind.padEnd(8)} ${path}`)].join('\n');
}

async function readGolden(path: string): Promise<Picture | null> {
  try {
    return decodePng(await readFile(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** The frame that matches, or the last one there was when time was up; null if the display was dark. */
async function awaited(shown: TestDisplay | Picture, golden: Picture, options: ScreenshotOptions): Promise<Picture | null> {
  if (!(shown instanceof TestDisplay)) return shown;
  try {
    return await shown.waitForMatch(golden, options);
  } catch (error) {
    if (error instanceof DisplayError && error.code === 'timeout') return error.picture;
    throw error;
  }
}

async function still(shown: TestDisplay | Picture, options: ScreenshotOptions): Promise<Picture> {
  return shown instanceof TestDisplay ? shown.waitForStable(options) : shown;
}
