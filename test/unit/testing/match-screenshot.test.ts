import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { decodePng, encodePng, PngError } from '../../../display/picture/png.ts';
import { UsageError } from '../../../src/core/errors.ts';
import type { Picture } from '../../../src/core/picture.ts';
import { assertScreenshot, matchScreenshot, ScreenshotMismatch } from '../../../src/testing/match-screenshot.ts';
import { clearResults, writeReport } from '../../../src/testing/results.ts';

let directory: string;
let golden: string;

beforeEach(() => {
  vi.stubEnv('CI', '');
  directory = mkdtempSync(join(tmpdir(), 'scanout-match-'));
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

test('the first picture becomes the golden one, the next is compared with it', async () => {
  const first = await matchScreenshot(picture(10), golden);
  const second = await matchScreenshot(picture(10), golden);

  expect(first).toMatchObject({ status: 'created', passes: true, expectedPath: golden });
  expect(second).toMatchObject({ status: 'matched', passes: true, explanation: '', actualPath: null });
  expect(read(golden)).toEqual(picture(10));
});

test('in CI no golden picture is made: a missing one fails and the picture is kept', async () => {
  vi.stubEnv('CI', 'true');

  const match = await matchScreenshot(picture(10), golden);

  expect(match).toMatchObject({ status: 'missing', passes: false, expectedPath: null, diffPath: null });
  expect(match.explanation).toContain('CI makes none');
  expect(existsSync(golden)).toBe(false);
  expect(read(match.actualPath)).toEqual(picture(10));
});

test('a difference leaves the actual picture and the differences beside the golden one, which stays', async () => {
  await matchScreenshot(picture(10), golden);

  const match = await matchScreenshot(picture(20), golden);

  expect(match).toMatchObject({ status: 'different', passes: false, expectedPath: golden, videoPath: null });
  expect(match.explanation).toContain('32 of 32 pixels');
  expect(readdirSync(join(directory, 'golden')).sort()).toEqual(['login-actual.png', 'login-diff.png', 'login.png']);
  expect(read(match.actualPath)).toEqual(picture(20));
  expect(read(golden)).toEqual(picture(10));
});

test('what an earlier run left is gone once the picture matches', async () => {
  await matchScreenshot(picture(10), golden);
  await matchScreenshot(picture(20), golden);

  await matchScreenshot(picture(10), golden);

  expect(readdirSync(join(directory, 'golden'))).toEqual(['login.png']);
});

test('update: all makes the golden picture anew, but not where it matches as it is', async () => {
  await matchScreenshot(picture(10), golden);

  const tolerated = await matchScreenshot(picture(11), golden, { update: 'all', threshold: 0.1 });
  expect(tolerated.status).toBe('matched');
  expect(read(golden)).toEqual(picture(10));

  const updated = await matchScreenshot(picture(20), golden, { update: 'all' });
  expect(updated).toMatchObject({ status: 'updated', passes: true });
  expect(read(golden)).toEqual(picture(20));
});

test('a golden picture that is no PNG is an error, not a difference', async () => {
  await matchScreenshot(picture(10), golden);
  writeFileSync(golden, 'no picture');

  await expect(matchScreenshot(picture(10), golden)).rejects.toThrow(PngError);
});

test('assertScreenshot throws what differs and where to look', async () => {
  await assertScreenshot(picture(10), golden);

  const error = await assertScreenshot(picture(20), golden).catch((caught: unknown) => caught);

  expect(error).toBeInstanceOf(ScreenshotMismatch);
  expect(error).toMatchObject({ code: 'different', match: { status: 'different' } });
  expect((error as Error).message).toContain('32 of 32 pixels');
  expect((error as Error).message).toContain(join(directory, 'golden/login-diff.png'));
});

test('a run with a results folder becomes a report of all its comparisons, failed or not', async () => {
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

test('a new run forgets what comparisons left, and nothing else', async () => {
  const results = { directory: join(directory, 'results'), test: 'boot.test.ts > it fails' };
  await matchScreenshot(picture(10), golden, { results });
  await matchScreenshot(picture(99), golden, { results });
  writeFileSync(join(results.directory, 'mine.png'), encodePng(picture(3)));

  await clearResults(results.directory);

  expect(readdirSync(results.directory).sort()).toEqual(['boot.test.ts-it-fails', 'mine.png']);
  expect(readdirSync(join(results.directory, 'boot.test.ts-it-fails'))).toEqual([]);
});

test('a folder without comparisons has no report', async () => {
  await clearResults(join(directory, 'nothing'));

  await expect(writeReport(join(directory, 'nothing'), join(directory, 'report.html'))).rejects.toThrow(UsageError);
});
