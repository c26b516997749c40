import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { decodePng, encodePng, PngError } from '../../../display/picture/png.ts';
import { UsageError } from '../../../src/core/errors.ts';
import type { Picture } from '../../../src/core/picture.ts';
import { assertScreenshot, matchScreenshot, ScreenshotMismatch } from '../../../src/testing/match-screenshot.ts';
import { clearResults, writeReport } from '../../../display/picture/results.ts';

let directory: string;
let golden: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-match-'));
  vi.stubEnv('CI', '');
  vi.stubEnv('SCANOUT_RESULTS', join(directory, 'results'));
  golden = join(directory, 'golden/login.png');
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

function picture(grey: number): Picture {
  const data = new Uint8Array(8 * 4 * 4).fill(grey);
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  return { width: 8, height: 4, data };
}

const read = (path: string | null) => decodePng(readFileSync(path!));

/** The files below a folder, by their paths in it. */
function files(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
    .sort();
}

test('matchScreenshot: makes a missing golden picture and compares the next picture with it', async () => {
  const first = await matchScreenshot(picture(10), golden);
  const second = await matchScreenshot(picture(10), golden);

  expect(first).toMatchObject({ status: 'created', passes: true, expectedPath: golden });
  expect(second).toMatchObject({ status: 'matched', passes: true, explanation: '', actualPath: null });
  expect(read(golden)).toEqual(picture(10));
});

test('matchScreenshot: fails in CI without a golden picture, keeps the actual one and makes no golden one', async () => {
  vi.stubEnv('CI', 'true');

  const match = await matchScreenshot(picture(10), golden);

  expect(match).toMatchObject({ status: 'missing', passes: false, expectedPath: null, diffPath: null });
  expect(match.explanation).toContain('none is made in CI');
  expect(existsSync(golden)).toBe(false);
  expect(read(match.actualPath)).toEqual(picture(10));
});

test('matchScreenshot: takes CI=false as no CI', async () => {
  vi.stubEnv('CI', 'false');

  expect(await matchScreenshot(picture(10), golden)).toMatchObject({ status: 'created', passes: true });
});

test('matchScreenshot: lets the umask decide who reads a golden picture, and the owner only the evidence', async () => {
  const umask = process.umask(0o022);
  try {
    await matchScreenshot(picture(10), golden);
    const { actualPath } = await matchScreenshot(picture(20), golden);

    expect([golden, actualPath!].map((path) => statSync(path).mode & 0o777)).toEqual([0o644, 0o600]);
  } finally {
    process.umask(umask);
  }
});

test('matchScreenshot: on a difference writes the actual and the diff picture to the results folder and leaves the golden one', async () => {
  await matchScreenshot(picture(10), golden);

  const match = await matchScreenshot(picture(20), golden);

  expect(match).toMatchObject({ status: 'different', passes: false, expectedPath: golden, videoPath: null });
  expect(match.explanation).toContain('32 of 32 pixels');
  expect(files(join(directory, 'golden'))).toEqual(['login.png']);
  expect(files(dirname(match.actualPath!))).toEqual(['actual.png', 'diff.png', 'expected.png', 'match.json']);
  expect(read(join(dirname(match.actualPath!), 'expected.png'))).toEqual(picture(10));
  expect(match.actualPath!.startsWith(join(directory, 'results/'))).toBe(true);
  expect(read(match.actualPath)).toEqual(picture(20));
  expect(read(golden)).toEqual(picture(10));
});

test('matchScreenshot: removes no golden picture whose name looks like evidence', async () => {
  const neighbours = ['login-actual.png', 'login-diff.png', 'login-video.png'].map((name) =>
    join(directory, 'golden', name),
  );
  for (const path of neighbours) await matchScreenshot(picture(1), path);
  await matchScreenshot(picture(10), golden);

  await matchScreenshot(picture(10), golden);
  await matchScreenshot(picture(20), golden);

  for (const path of neighbours) expect(read(path)).toEqual(picture(1));
});

test('matchScreenshot: the first comparison of a run removes the evidence of an earlier run for the same test', async () => {
  await matchScreenshot(picture(10), golden);
  await matchScreenshot(picture(20), golden);

  vi.resetModules();
  const laterRun = await import('../../../src/testing/match-screenshot.ts');
  await laterRun.matchScreenshot(picture(10), golden);

  expect(files(join(directory, 'results'))).toEqual([]);
});

test('matchScreenshot: a comparison that matches keeps the evidence of an earlier one in the same run', async () => {
  await matchScreenshot(picture(10), golden);
  const failed = await matchScreenshot(picture(20), golden);

  await matchScreenshot(picture(10), golden);

  expect(read(failed.actualPath)).toEqual(picture(20));
});

test('matchScreenshot: update: all replaces a golden picture that differs, and none that matches', async () => {
  await matchScreenshot(picture(10), golden);

  const tolerated = await matchScreenshot(picture(11), golden, { update: 'all', threshold: 0.1 });
  expect(tolerated.status).toBe('matched');
  expect(read(golden)).toEqual(picture(10));

  const updated = await matchScreenshot(picture(20), golden, { update: 'all' });
  expect(updated).toMatchObject({ status: 'updated', passes: true });
  expect(read(golden)).toEqual(picture(20));
});

test('matchScreenshot: rejects with PngError for a golden picture that is not a PNG', async () => {
  await matchScreenshot(picture(10), golden);
  writeFileSync(golden, 'no picture');

  await expect(matchScreenshot(picture(10), golden)).rejects.toThrow(PngError);
  await expect(matchScreenshot(picture(10), golden)).rejects.toThrow(`${golden}: not a PNG`);
});

test('assertScreenshot: rejects with what differs and the path of the diff picture', async () => {
  await assertScreenshot(picture(10), golden);

  const error = await assertScreenshot(picture(20), golden).catch((caught: unknown) => caught);

  expect(error).toBeInstanceOf(ScreenshotMismatch);
  expect(error).toMatchObject({ code: 'different', match: { status: 'different' } });
  expect((error as Error).message).toContain('32 of 32 pixels');
  expect((error as Error).message).toContain(`diff     ${(error as ScreenshotMismatch).match.diffPath!}`);
});

test('writeReport: includes all comparisons of a run, failed or not', async () => {
  const results = { directory: join(directory, 'results'), test: 'boot.test.ts > it boots' };
  writeFileSync(join(directory, 'other.png'), encodePng(picture(3)));
  await matchScreenshot(picture(10), golden, { results });
  await matchScreenshot(picture(99), golden, { results: { ...results, test: 'boot.test.ts > it fails' } });
  await matchScreenshot(picture(3), join(directory, 'other.png'), { results });

  const count = await writeReport(results.directory, join(directory, 'out/report.html'));

  const html = readFileSync(join(directory, 'out/report.html'), 'utf8');
  expect(count).toBe(3);
  expect(html).toContain('boot.test.ts &gt; it fails: login.png');
  expect(html).toContain('boot.test.ts &gt; it boots: other.png');
  for (const grey of [10, 99, 3]) expect(html).toContain(Buffer.from(encodePng(picture(grey))).toString('base64'));
  expect(readdirSync(join(directory, 'golden'))).toEqual(['login.png']);
});

describe('matchScreenshot, results of tests with similar names', () => {
  const title = 'x'.repeat(320);

  test.each([
    ['titles without an ASCII letter', 'names.test.ts > 日本語', 'names.test.ts > 中文'],
    ['titles that differ in punctuation', 'names.test.ts > a, b', 'names.test.ts > a; b'],
    ['files of one name in two folders', 'bios/boot.test.ts > it boots', 'uefi/boot.test.ts > it boots'],
    ['titles longer than a file name can be', `names.test.ts > ${title}1`, `names.test.ts > ${title}2`],
    [
      'titles of 320 characters of 4 bytes',
      `names.test.ts > ${'𝒳'.repeat(320)}1`,
      `names.test.ts > ${'𝒳'.repeat(320)}2`,
    ],
  ])('%s have evidence and a record each', async (_what, failing, passing) => {
    const results = join(directory, 'results');
    await matchScreenshot(picture(10), golden);

    const failed = await matchScreenshot(picture(20), golden, { results: { directory: results, test: failing } });
    await matchScreenshot(picture(10), golden, { results: { directory: results, test: passing } });

    expect(read(failed.actualPath)).toEqual(picture(20));
    expect(await writeReport(results, join(directory, 'report.html'))).toBe(2);
  });

  test('two comparisons with one golden picture in one test have evidence and a record each', async () => {
    const results = { directory: join(directory, 'results'), test: 'twice.test.ts > it boots' };
    await matchScreenshot(picture(10), golden);

    const failed = await matchScreenshot(picture(20), golden, { results });
    await matchScreenshot(picture(10), golden, { results });

    expect(read(failed.actualPath)).toEqual(picture(20));
    expect(await writeReport(results.directory, join(directory, 'report.html'))).toBe(2);
  });

  test('a golden picture whose name is as long as a file name can be has evidence', async () => {
    const long = join(directory, `${'g'.repeat(251)}.png`);
    writeFileSync(long, encodePng(picture(10)));

    const failed = await matchScreenshot(picture(20), long, {
      results: { directory: join(directory, 'results'), test: 'long.test.ts > it boots' },
    });

    expect(read(failed.actualPath)).toEqual(picture(20));
  });

  test('the evidence of a retried test replaces that of its previous attempt', async () => {
    const results = { directory: join(directory, 'results'), test: 'retry.test.ts > it boots' };
    await matchScreenshot(picture(10), golden);
    const first = await matchScreenshot(picture(20), golden, { results: { ...results, attempt: 0 } });

    await matchScreenshot(picture(10), golden, { results: { ...results, attempt: 1 } });

    expect(existsSync(first.actualPath!)).toBe(false);
    expect(await writeReport(results.directory, join(directory, 'report.html'))).toBe(1);
  });
});

describe('clearResults', () => {
  test('removes what comparisons left and nothing else', async () => {
    const results = { directory: join(directory, 'results'), test: 'boot.test.ts > it fails' };
    await matchScreenshot(picture(10), golden, { results });
    const failed = await matchScreenshot(picture(99), golden, { results });
    const mine = [join(results.directory, 'mine.png'), join(dirname(failed.actualPath!), 'video.png')];
    for (const path of mine) writeFileSync(path, encodePng(picture(3)));

    await clearResults(results.directory);

    expect(files(results.directory).map((name) => join(results.directory, name))).toEqual(mine.toSorted());
  });

  test('leaves a file that has the name of a record but is not one', async () => {
    mkdirSync(join(directory, 'results/other'), { recursive: true });
    for (const text of ['not JSON', '7', '{"actual":"actual.png"}']) {
      writeFileSync(join(directory, 'results/other/match.json'), text);
      writeFileSync(join(directory, 'results/other/actual.png'), encodePng(picture(3)));

      await clearResults(join(directory, 'results'));

      expect(files(join(directory, 'results'))).toEqual(['other/actual.png', 'other/match.json']);
    }
  });
});

test('writeReport: rejects with UsageError for a folder without comparisons', async () => {
  await clearResults(join(directory, 'nothing'));

  await expect(writeReport(join(directory, 'nothing'), join(directory, 'report.html'))).rejects.toThrow(UsageError);
});
