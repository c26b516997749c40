import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { decodePng, encodePng } from '../../../display/picture/png.ts';
import { colourAt, draw, noisePicture } from '../display/picture/pictures.ts';
import { scanout } from './scanout.ts';

const picture = noisePicture(40, 30, 3);
const swapped = draw(40, 30, (x, y) => {
  const [r, g, b] = colourAt(picture, x, y);
  return [b, g, r];
});

let directory: string;
let expected: string;
let actual: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-compare-'));
  expected = join(directory, 'expected.png');
  actual = join(directory, 'actual.png');
  writeFileSync(expected, encodePng(picture));
  writeFileSync(actual, encodePng(swapped));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

test('scanout compare: the example in its help runs', async () => {
  const { stdout } = await scanout('compare', '--help');
  const example = /\$ scanout (compare .*)\n/.exec(stdout)![1]!.replace('/tmp/diff.png', join(directory, 'diff.png'));

  expect(await scanout(...example.split(' '))).toMatchObject({
    code: 0,
    stderr: '',
    stdout: expect.stringContaining('1020800 pixels are equal') as string,
  });
  expect(readdirSync(directory)).toContain('diff.png');
});

test('scanout compare: for different pictures exits with 1, describes the difference and writes the diff picture', async () => {
  const diff = join(directory, 'diff.png');

  const { code, stdout, stderr } = await scanout('compare', expected, actual, '--diff', diff);

  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  expect(stdout).toBe(`${actual}: 1198 of 1200 pixels differ: looks like red and blue are swapped\n`);
  expect(colourAt(decodePng(readFileSync(diff)), 0, 0)).toEqual([255, 0, 0]);
});

test('scanout compare: applies region, masks, threshold and allowance, and prints the whole result as JSON', async () => {
  const options = [
    '--region',
    '20x10+0+0',
    '--mask',
    '5x10+0+0',
    '--mask',
    '5x10+3+0',
    '--threshold',
    '0.02',
    '--allowed',
    '0.999',
    '--ignore-antialiasing',
    '--json',
  ];

  const { code, stdout } = await scanout('compare', expected, actual, ...options);
  const found = JSON.parse(stdout) as Record<string, unknown>;

  expect(code).toBe(0);
  expect(found).toMatchObject({ expected, actual, diff: null, matches: true, comparedPixels: 120 });
  expect(found['differentPixels']).toBeGreaterThan(0);
  expect(found['explanation']).toContain('of 120 pixels differ');
});

test.each([
  ['a missing file', ['/nonexistent.png', '/nonexistent.png'], 'cannot read /nonexistent.png'],
  ['a file that is not a PNG', ['/etc/passwd', '/etc/passwd'], '/etc/passwd: not a PNG'],
  [
    'a diff that cannot be written',
    ['EXPECTED', 'ACTUAL', '--diff', '/nonexistent/diff.png'],
    '--diff: cannot write /nonexistent/diff.png',
  ],
  ['a region beyond the picture', ['EXPECTED', 'ACTUAL', '--region', '41x30+0+0'], 'give one inside it'],
  ['an invalid region', ['EXPECTED', 'ACTUAL', '--region', '40x30'], 'WIDTHxHEIGHT+X+Y'],
  ['an invalid threshold', ['EXPECTED', 'ACTUAL', '--threshold', '2'], 'from 0 (exact) to 1'],
  ['a missing argument', ['EXPECTED'], "missing required argument 'actual.png'"],
])('scanout compare: exits with 2 for %s', async (_what, args, message) => {
  const { code, stdout, stderr } = await scanout(
    'compare',
    ...args.map((arg) => (arg === 'EXPECTED' ? expected : arg === 'ACTUAL' ? actual : arg)),
  );

  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});
