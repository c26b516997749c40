/** Runs the examples in the help of the commands, with /tmp replaced by a temporary directory. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { matchScreenshot } from '../../../src/testing/match-screenshot.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { play } from '../guest/replay/play.ts';
import { syntheticSession } from '../guest/replay/synthetic-guest.ts';
import { ended, type Outcome, scanout, start } from './scanout.ts';

/** May be below /tmp itself. */
const PROJECT = fileURLToPath(new URL('../../../', import.meta.url));

const LOW = { guestAddress: 0x10_0000, size: 8 * 2 ** 20 };
const HIGH = { guestAddress: 5 * 2 ** 30, size: 8 * 2 ** 20 };

let directory: string;
let children: ChildProcess[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-examples-'));
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

/** The arguments of the example in the help of a command. */
async function example(command: string): Promise<string[]> {
  const { stdout } = await scanout(command, '--help');
  return /\nExample:\n {2}\$ scanout (.*)\n/
    .exec(stdout)![1]!
    .replace(/(?<=[ :])\/tmp\//g, (found, at: number, line: string) =>
      line.startsWith(PROJECT, at) ? found : `${directory}/`,
    )
    .split(' ');
}

function startExample(args: readonly string[]): ChildProcess {
  const child = start(args, { env: { XDG_RUNTIME_DIR: directory }, cwd: directory });
  children.push(child);
  return child;
}

async function runExample(command: string): Promise<Outcome> {
  return ended(startExample(await example(command)));
}

test.each(['run', 'record'])(
  'scanout %s: the example shows a guest until it is interrupted, and those of stats and screenshot then work',
  async (command) => {
    const bridge = startExample(await example(command));
    await once(bridge.stdout!, 'data');
    using guest = FrontEnd.create({ socket: connectUnix(join(directory, 'gpu.sock')), memory: [LOW, HIGH] });
    await guest.connect();
    await play(guest, syntheticSession(LOW.guestAddress, HIGH.guestAddress, 3));

    expect(await runExample('stats')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('"connected": true') as string,
    });
    expect(await runExample('screenshot')).toMatchObject({ code: 0, stderr: '' });
    expect(existsSync(join(directory, 'screen.png'))).toBe(true);
    const exit = ended(bridge);
    bridge.kill('SIGINT');
    expect((await exit).code).toBe(0);
    expect(existsSync(join(directory, 'session.scanout'))).toBe(command === 'record');
  },
);

test('scanout grab: the example films a guest that is exported', async () => {
  const bridge = startExample([
    ...['run', '--guest', `vhost-user:${join(directory, 'gpu.sock')}`],
    ...['--output', `export:${join(directory, 'export.sock')}`],
  ]);
  await once(bridge.stdout!, 'data');
  using guest = FrontEnd.create({ socket: connectUnix(join(directory, 'gpu.sock')), memory: [LOW, HIGH] });
  await guest.connect();
  await play(guest, syntheticSession(LOW.guestAddress, HIGH.guestAddress, 3));

  expect(await runExample('grab')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^YUV4MPEG2 W/) as string,
    stderr: '',
  });
});

test('scanout report: the example writes a report of the results of a test run', async () => {
  const golden = join(directory, 'golden.png');
  const picture = { width: 1, height: 1, data: Uint8Array.of(1, 2, 3, 255) };
  mkdirSync(join(directory, 'test-results/scanout'), { recursive: true });
  await matchScreenshot(picture, golden, {
    update: 'new',
    results: { directory: join(directory, 'test-results/scanout'), test: 'boot.test.ts > it boots' },
  });

  expect(await runExample('report')).toMatchObject({
    code: 0,
    stdout: `${join(directory, 'report.html')}: 1 screenshots\n`,
  });
});

test.each([
  ['replay', 'screen.png'],
  ['compare', 'diff.png'],
  ['doctor', null],
  ['qemu-args', null],
  ['completions', null],
])('scanout %s: the example exits with 0', async (command, file) => {
  expect(await runExample(command)).toMatchObject({
    code: 0,
    stderr: expect.not.stringContaining('scanout:') as string,
  });
  if (file !== null) expect(existsSync(join(directory, file))).toBe(true);
});
