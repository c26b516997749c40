/** The built command with a real guest, as a user runs it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import type { SessionStats } from '../../src/control/stats.ts';
import type { Picture } from '../../src/core/picture.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { type Draw, drawnPicture, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectPictureSoon, expectSamePicture, isSamePicture, pictureWhen } from '../rig/picture.ts';
import { buildScanout, MAIN } from '../rig/scanout-run.ts';

async function scanout(...args: string[]): Promise<string> {
  return (await promisify(execFile)(process.execPath, [MAIN, ...args])).stdout;
}

describe.skipIf(skipWithoutGuest())('scanout run with a real guest', () => {
  let dir: string;
  let bridge: ChildProcess;
  let guest: Guest;
  let draw: Draw;
  let said = '';
  const file = (name: string) => join(dir, name);

  async function screenshot(...options: string[]): Promise<Picture> {
    await scanout('screenshot', '--control', file('control'), ...options, file('screen.png'));
    return decodePng(readFileSync(file('screen.png')));
  }

  beforeAll(async () => {
    buildScanout();
    dir = mkdtempSync(join(tmpdir(), 'scanout-command-'));
    const options = [
      '--output',
      'headless:1280x800',
      '--output',
      'vmm',
      '--control',
      file('control'),
      '--record',
      file('session'),
    ];
    bridge = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', process.execPath, MAIN, 'run', '--guest', `vhost-user:${file('gpu')}`, ...options],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    bridge.stderr!.setEncoding('utf8').on('data', (text: string) => (said += text));
    await once(bridge.stdout!, 'data');
    guest = await bootGuest({ gpu: { kind: 'none' }, extraQemuArgs: await deviceFlags() });
  });
  afterAll(async () => {
    bridge.kill('SIGKILL');
    await guest[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The flags of the device from `scanout qemu-args`; the rig sets the machine and its memory. */
  async function deviceFlags(): Promise<string[]> {
    const flags = JSON.parse(
      await scanout('qemu-args', '--socket', file('gpu'), '--memory', '512M', '--json'),
    ) as string[];
    return flags.flatMap((flag, i) =>
      flag === '-chardev' ? [flag, flags[i + 1]!] : flag === '-device' ? [flag, `${flags[i + 1]!},id=gpu`] : [],
    );
  }

  test("scanout screenshot saves the same picture of the console as QEMU's screendump", async () => {
    await showText(guest);
    expectSamePicture(
      await pictureWhen(() => screenshot(), isWholeText),
      await pictureWhen(() => guest.screendump(), isWholeText),
      'command-text',
    );
  });

  test('scanout screenshot includes the cursor unless told otherwise', async () => {
    draw = await startDrawing(guest);
    await draw('mode 1024 768');
    await draw('pattern 2');
    await draw('cursor 1 300 200 0 0');
    const bare = drawnPicture(1024, 768, 2);
    const picture = await pictureWhen(
      () => screenshot(),
      (shown) => !isSamePicture(shown, bare),
    );
    expectSamePicture(await screenshot('--no-cursor'), bare, 'command-no-cursor');
    expect([picture.width, picture.height]).toEqual([1024, 768]);
  });

  test('scanout stats prints the guest and its scanouts, also as JSON', async () => {
    const stats = JSON.parse(await scanout('stats', '--control', file('control'), '--json')) as SessionStats;
    expect(stats.guest).toMatchObject({ connected: true, errors: 0 });
    expect(stats.scanouts).toMatchObject([
      { scanout: 0, picture: '1024x768', screens: [{ output: 'headless' }, { output: 'vmm:0' }] },
    ]);
    expect(await scanout('stats', '--control', file('control'))).toContain('scanout 0: 1024x768');
  });

  test('exits with 0 on SIGTERM while the guest runs and removes its sockets', async () => {
    await draw('hide');
    await expectPictureSoon(() => screenshot(), drawnPicture(1024, 768, 2), 'command-no-cursor');
    const ended = once(bridge, 'close');
    bridge.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(readdirSync(dir).sort()).toEqual(['screen.png', 'session']);
    expect(said).not.toMatch(/error/i);
  });

  test('the recording replays to the same picture', async () => {
    await guest[Symbol.asyncDispose]();
    await scanout('replay', '--fast', '--png', file('replayed.png'), file('session'));
    expectSamePicture(decodePng(readFileSync(file('replayed.png'))), drawnPicture(1024, 768, 2), 'command-replayed');
  });
});
