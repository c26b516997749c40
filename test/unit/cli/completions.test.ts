import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { completionScript } from '../../../src/cli/completions.ts';
import { createProgram } from '../../../src/cli/program.ts';
import { skipWithoutProgram } from '../../rig/skip.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-completions-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** What an interactive bash makes of a line when Tab is pressed at its end. */
async function completedInBash(line: string): Promise<string> {
  writeFileSync(join(directory, 'completions'), completionScript('bash', await createProgram()));
  // Ctrl-A moves to the start of the completed line, where `echo` turns it into output.
  const typed = `PS1= ; source ./completions\n${line}\t\x01echo "<" \x05">"\nexit\n`;
  const output = execFileSync('script', ['-qec', 'bash --norc --noprofile', '/dev/null'], {
    cwd: directory,
    input: typed,
    encoding: 'utf8',
    env: { ...process.env, TERM: 'dumb', INPUTRC: '/dev/null' },
  });
  return /^< (.*) >\r?$/m.exec(output)![1]!.trim();
}

describe.skipIf(skipWithoutProgram('bash') || skipWithoutProgram('script'))('completions in bash', () => {
  test.each([
    ['scanout st', 'scanout stats'],
    ['scanout qemu', 'scanout qemu-args'],
    ['scanout help do', 'scanout help doctor'],
    ['scanout run --when', 'scanout run --when-off'],
    ['scanout run --zero-copy al', 'scanout run --zero-copy all'],
    ['scanout replay --fast --log-level w', 'scanout replay --fast --log-level warn'],
    ['scanout completions f', 'scanout completions fish'],
    ['scanout replay boot', 'scanout replay boot.scanout'],
    ['scanout compare --diff boot', 'scanout compare --diff boot.scanout'],
  ])('complete %j to %j', async (line, expected) => {
    writeFileSync(join(directory, 'boot.scanout'), '');

    expect(await completedInBash(line)).toBe(expected);
  });
});

test.each(['bash', 'zsh', 'fish'] as const)('completions for %s name every command and every option', async (shell) => {
  const program = await createProgram();

  const script = completionScript(shell, program);

  for (const command of program.commands) {
    expect(script).toContain(command.name());
    for (const { long } of command.options) expect(script).toContain(shell === 'fish' ? `-l ${long!.slice(2)}` : long);
  }
});

for (const [shell, option] of [
  ['bash', '-n'],
  ['zsh', '-n'],
  ['fish', '--no-execute'],
] as const) {
  test.skipIf(skipWithoutProgram(shell))(`completions for ${shell} have no syntax error`, async () => {
    const path = join(directory, 'completions');
    writeFileSync(path, completionScript(shell, await createProgram()));

    expect(spawnSync(shell, [option, path], { encoding: 'utf8' }).stderr).toBe('');
  });
}
