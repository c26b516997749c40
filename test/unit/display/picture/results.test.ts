/** Results folders with records that no comparison wrote; test/unit/testing covers those of matchScreenshot. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodePng } from '../../../../display/picture/png.ts';
import { clearResults, ComparisonFolder, ResultsError, writeReport } from '../../../../display/picture/results.ts';
import { type MatchStatus, renderReport } from '../../../../display/picture/report.ts';
import { noisePicture } from './pictures.ts';

const RECORD = {
  test: 'boot.test.ts > it boots',
  name: 'login.png',
  status: 'different',
  explanation: 'all of it',
  rung: 'shadow',
  frames: [{ timeMs: 0, changed: 1 }],
  expected: 'expected.png',
  actual: 'actual.png',
  diff: null,
  video: null,
};

let directory: string;
let report: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-results-'));
  report = join(directory, 'report.html');
  mkdirSync(join(directory, 'comparison'));
  for (const name of ['golden.png', 'comparison/expected.png', 'comparison/actual.png'])
    writeFileSync(join(directory, name), encodePng(noisePicture(8, 4, 1)));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function record(text: string): void {
  writeFileSync(join(directory, 'comparison/match.json'), text);
}

test('writeReport: shows a recorded comparison with its pictures', async () => {
  record(JSON.stringify(RECORD));

  expect(await writeReport(directory, report)).toBe(1);
  expect(readFileSync(report, 'utf8').match(/src="data:image\/png/g)).toHaveLength(2);
  expect(lstatSync(report).mode & 0o777).toBe(0o600);
});

describe('writeReport, of a folder that comes from elsewhere', () => {
  test.each([
    ['that is not JSON', 'status: different'],
    ['that is not an object', '7'],
    ['without a test', JSON.stringify({ ...RECORD, test: undefined })],
    ['with markup as its status', JSON.stringify({ ...RECORD, status: '"><script>alert(1)</script>' })],
    ['without a list of frames', JSON.stringify({ ...RECORD, frames: { length: 1 } })],
    ['with a frame whose time is text', JSON.stringify({ ...RECORD, frames: [{ timeMs: '"/>', changed: 1 }] })],
    ['with a change beyond the screen', JSON.stringify({ ...RECORD, frames: [{ timeMs: 0, changed: 1e308 }] })],
    ['with a frame before the first', JSON.stringify({ ...RECORD, frames: [{ timeMs: -1, changed: 1 }] })],
    ['with evidence outside its folder', JSON.stringify({ ...RECORD, actual: '../golden.png' })],
    ['with a golden picture outside its folder', JSON.stringify({ ...RECORD, expected: '../golden.png' })],
    ['that is a list', '[]'],
    ['that is null', 'null'],
    ['of a megabyte', JSON.stringify({ ...RECORD, explanation: 'x'.repeat(2 ** 20) })],
  ])('refuses a record %s, and writes nothing', async (_what, text) => {
    record(text);

    await expect(writeReport(directory, report)).rejects.toThrow(ResultsError);
    await expect(writeReport(directory, report)).rejects.toThrow('comparison/match.json: not the record');
    expect(existsSync(report)).toBe(false);
  });

  const picture = (): string => join(directory, 'comparison/actual.png');

  test.each<[string, () => void, string]>([
    ['another kind of file', () => writeFileSync(picture(), 'root:x:0:0:root:/root:/bin/bash'), 'not a PNG'],
    [
      'a folder',
      () => {
        rmSync(picture());
        mkdirSync(picture());
      },
      'not a regular file',
    ],
    [
      'a fifo that nothing writes to',
      () => {
        rmSync(picture());
        execFileSync('mkfifo', [picture()]);
      },
      'not a regular file',
    ],
    [
      'a symlink',
      () => {
        rmSync(picture());
        symlinkSync(join(directory, 'golden.png'), picture());
      },
      'ELOOP',
    ],
    ['a file without end', () => truncateSync(picture(), 2 ** 40), 'bytes are too many'],
    ['no file', () => rmSync(picture()), 'ENOENT'],
  ])('refuses %s as a picture, and writes nothing', async (_what, make, message) => {
    record(JSON.stringify(RECORD));
    make();

    await expect(writeReport(directory, report)).rejects.toThrow(ResultsError);
    await expect(writeReport(directory, report)).rejects.toThrow(message);
    expect(existsSync(report)).toBe(false);
  });

  test.each<[string, (path: string) => void]>([
    ['a fifo that nothing writes to', (path) => execFileSync('mkfifo', [path])],
    ['a symlink to a record', (path) => symlinkSync(join(directory, 'record.json'), path)],
    ['a folder', (path) => mkdirSync(path)],
  ])('refuses %s as a record, and clearResults leaves it alone', async (_what, make) => {
    const path = join(directory, 'comparison/match.json');
    writeFileSync(join(directory, 'record.json'), JSON.stringify(RECORD));
    make(path);

    await expect(writeReport(directory, report)).rejects.toThrow('comparison/match.json: not the record');
    await clearResults(directory);

    expect(existsSync(path)).toBe(true);
    expect(existsSync(picture())).toBe(true);
  });

  test('does not follow a symlink to a folder of records elsewhere', async () => {
    record(JSON.stringify(RECORD));
    const inside = join(directory, 'inside');
    mkdirSync(inside);
    renameSync(join(directory, 'comparison'), join(directory, 'elsewhere'));
    symlinkSync(join(directory, 'elsewhere'), join(inside, 'comparison'));

    await clearResults(inside);

    await expect(writeReport(inside, report)).rejects.toThrow('no comparison is recorded');
    expect(existsSync(join(directory, 'elsewhere/match.json'))).toBe(true);
  });
});

test('ComparisonFolder: writes pictures and records for their owner only, and through no symlink', async () => {
  const folder = await ComparisonFolder.open({ directory, test: 'a test' }, 'golden.png');
  const path = await folder.keep('actual', encodePng(noisePicture(8, 4, 1)));
  writeFileSync(join(directory, 'precious'), 'precious');
  rmSync(path);
  symlinkSync(join(directory, 'precious'), path);

  await folder.keep('actual', encodePng(noisePicture(8, 4, 2)));
  await folder.record({ status: 'different', explanation: '', rung: null, frames: [] });

  expect(readFileSync(join(directory, 'precious'), 'utf8')).toBe('precious');
  for (const name of ['actual.png', 'match.json'])
    expect(lstatSync(join(path, '..', name)).mode & 0o170777).toBe(0o100600);
});

test('renderReport: escapes every text of a comparison', () => {
  const markup = '"><script>alert(1)</script>';
  const entry = { test: markup, name: markup, status: markup as MatchStatus, explanation: markup, rung: markup };
  const html = renderReport(
    [{ ...entry, frames: [{ timeMs: 0, changed: 1 }], expected: null, actual: null, diff: null, video: null }],
    markup,
  );

  expect(html).not.toContain(markup);
  expect(html.match(/<script>/g)).toHaveLength(1);
});
