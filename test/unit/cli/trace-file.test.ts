import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TraceFile } from '../../../src/cli/trace-file.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'trace-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

interface Event {
  readonly name: string;
  readonly ph: string;
  readonly id?: number;
  readonly pid: number;
  readonly ts?: number;
}

/** As viewers read it: the end of the array may be missing. */
function events(path: string): Event[] {
  return JSON.parse(readFileSync(path, 'utf8').replace(/,\n$/, ']')) as Event[];
}

test('TraceFile: is private, takes the place of a symlink, and has a part for each stage of a frame', () => {
  const path = join(directory, 'trace.json');
  writeFileSync(join(directory, 'other'), 'other');
  symlinkSync('other', path);
  const frame = { output: 'one', flushed: 1, staged: 2, presented: 4, onScreen: 8, released: 16 };
  using file = new TraceFile(path);
  file.write([frame, { ...frame, output: 'two', released: null }]);
  file.write([{ ...frame, flushed: 20, staged: 20, presented: 21, onScreen: 22, released: 21.5 }]);

  expect(file.frames).toBe(3);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(directory, 'other'), 'utf8')).toBe('other');
  const all = events(path);
  expect(all.filter(({ ph }) => ph === 'M').map(({ pid }) => pid)).toEqual([1, 2]);
  const parts = (id: number): unknown[] =>
    all.filter((event) => event.id === id && event.ph === 'b').map(({ name, ts }) => [name, ts]);
  expect(parts(1)).toEqual([
    ['frame', 1000],
    ['copy', 1000],
    ['wait for the output', 2000],
    ['on the way to the screen', 4000],
    ['on screen', 8000],
  ]);
  expect(parts(2)).toHaveLength(4);
  expect(parts(3)).toHaveLength(4);
  const open = all.filter(({ ph }) => ph === 'b').length;
  expect(all.filter(({ ph }) => ph === 'e')).toHaveLength(open);
});
