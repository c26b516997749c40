import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { manPage } from '../../../src/cli/man-page.ts';
import { packageFile } from '../../../src/sys/package-file.ts';
import { createProgram } from '../../../src/cli/program.ts';
import { skipWithoutProgram } from '../../rig/skip.ts';

/** The page as a terminal shows it, without bold and underlining, and what groff warns about. */
function format(page: string): { text: string; warnings: string } {
  const { stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-P-cbou', '-rLL=200n'], {
    input: page,
    encoding: 'utf8',
  });
  return { text: stdout, warnings: stderr };
}

test.skipIf(skipWithoutProgram('groff'))(
  'man page: has every command and option, and groff warns about nothing',
  async () => {
    const { text, warnings } = format(await manPage());

    expect(warnings).toBe('');
    for (const command of (await createProgram()).commands) {
      expect(text).toContain(`scanout ${command.name()} [options]`);
      for (const { flags } of command.options) expect(text).toContain(flags);
    }
    expect(text).toContain('$ scanout replay --fast --png /tmp/screen.png');
  },
);

test('man page: does not depend on the machine or environment that makes it', async () => {
  const before = { ...process.env };
  const page = await manPage();

  expect(page).not.toContain(packageFile('').slice(0, -1));
  expect(page).toContain('$XDG_RUNTIME_DIR/scanout\\-bridge.sock');
  expect({ ...process.env }).toEqual(before);
});
