import { execFileSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openReplacement, replaceFile } from '../../../src/sys/replace-file.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-replace-'));
  path = join(directory, 'file');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const REGULAR = 0o100000;
const modeOf = (name: string): number => lstatSync(name).mode;
const TEXT = Buffer.from('new');

describe.each<[string, (to: string) => Promise<void>]>([
  ['replaceFile', (to) => replaceFile(to, TEXT)],
  [
    'openReplacement',
    // oxlint-disable-next-line typescript/require-await
    async (to) => {
      const fd = openReplacement(to);
      writeSync(fd, TEXT);
      closeSync(fd);
    },
  ],
])('%s', (_name, write) => {
  test('makes a file that only its owner can read, whatever the umask', async () => {
    const umask = process.umask(0);
    await write(path).finally(() => process.umask(umask));

    expect(modeOf(path)).toBe(REGULAR | 0o600);
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(readdirSync(directory)).toEqual(['file']);
  });

  test('replaces a file, and leaves its other names alone', async () => {
    writeFileSync(path, 'old', { mode: 0o666 });
    execFileSync('ln', [path, join(directory, 'other')]);

    await write(path);

    expect(modeOf(path)).toBe(REGULAR | 0o600);
    expect(readFileSync(join(directory, 'other'), 'utf8')).toBe('old');
  });

  test.each(['precious', 'missing'])(
    'replaces a symlink to a file that is %s and does not follow it',
    async (target) => {
      writeFileSync(join(directory, 'precious'), 'old');
      symlinkSync(join(directory, target), path);

      await write(path);

      expect(modeOf(path)).toBe(REGULAR | 0o600);
      expect(readFileSync(join(directory, 'precious'), 'utf8')).toBe('old');
      expect(readdirSync(directory).sort()).toEqual(['file', 'precious']);
    },
  );

  test.each<[string, () => void]>([
    ['a directory', () => mkdirSync(path)],
    ['a fifo', () => execFileSync('mkfifo', [path])],
    ['a symlink to a device', () => symlinkSync('/dev/null', path)],
  ])('refuses to replace %s, and leaves it as it is', async (_what, make) => {
    make();
    const before = modeOf(path);

    await expect(write(path)).rejects.toMatchObject({ code: 'EEXIST' });

    expect(modeOf(path)).toBe(before);
    expect(readdirSync(directory)).toEqual(['file']);
  });

  test('takes a name as long as names can be', async () => {
    const long = join(directory, 'n'.repeat(255));

    await write(long);

    expect(readFileSync(long, 'utf8')).toBe('new');
  });

  test('fails for a directory that does not exist', async () => {
    await expect(write(join(directory, 'none/file'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

test('replaceFile: gives the file another mode if asked, without the umask', async () => {
  const umask = process.umask(0o027);
  await replaceFile(path, TEXT, 0o666).finally(() => process.umask(umask));

  expect(modeOf(path)).toBe(REGULAR | 0o640);
});
