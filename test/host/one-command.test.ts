/** `scanout run -- qemu-system-x86_64 …` with a real guest in a window, as a user runs it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { filledScreen, fillingGuest, saidSize } from '../rig/filling-guest.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { expectPictureSoon, expectSamePicture, pictureWhen } from '../rig/picture.ts';
import { buildScanout, MAIN } from '../rig/scanout-run.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';

describe.skipIf(skipWithoutGuest() || skipWithoutSway())('scanout run -- QEMU with a real guest', () => {
  let dir: string;
  let sway: Sway;
  let running: ChildProcess;
  let said = '';
  let log = '';
  const file = (name: string) => join(dir, name);

  async function screenshot(...options: string[]): Promise<Picture> {
    const args = [MAIN, 'screenshot', '--control', file('control'), ...options, file('screen.png')];
    await promisify(execFile)(process.execPath, args);
    return decodePng(readFileSync(file('screen.png')));
  }

  beforeAll(async () => {
    buildScanout();
    dir = mkdtempSync(join(tmpdir(), 'scanout-one-'));
    const { kernel, initrd, append } = fillingGuest();
    writeFileSync(file('initrd'), initrd);
    sway = await Sway.start(1024, 768, '');
    running = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', process.execPath, MAIN, 'run', '--output', `wayland:${sway.socket}`, '--input'],
        ...['--control', file('control'), '--', 'qemu-system-x86_64', '-nodefaults', '-no-user-config', '-m', '256'],
        ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-serial', 'stdio'],
        ...['-kernel', kernel, '-initrd', file('initrd'), '-append', append],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    running.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
    running.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
    const gone = once(running, 'close').then(() => Promise.reject(new Error(`it ended\n${said}\n${log}`)));
    gone.catch(() => undefined);
    while (!saidSize(said)) await Promise.race([once(running.stdout!, 'data'), gone]);
  });
  afterAll(async () => {
    running.kill('SIGKILL');
    await sway[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  test("screenshot saves the guest's picture in a window, whole or a region, pixel for pixel", async () => {
    const expected = filledScreen(saidSize(said)!);
    const picture = await pictureWhen(
      () => screenshot(),
      ({ data }) => data[0] === expected.data[0] && data.at(-2) === expected.data.at(-2),
    );
    expectSamePicture(picture, expected, 'one-command');
    const region = { x: 0, y: 1, width: 600, height: 500 };
    expectSamePicture(await screenshot('--region', '600x500+0+1'), crop(expected, region), 'one-command-region');
    // Large enough to be read in several turns.
    expect(expected.width * expected.height).toBeGreaterThan(512 * 512);
    await expectPictureSoon(() => Promise.resolve(sway.screenshot()), expected, 'one-command-window');
  });

  test('closing the window presses the power button, and the command ends with 0 when the guest is off', async () => {
    const ended = once(running, 'close');
    sway.closeWindows();

    expect(await ended).toEqual([0, null]);
    expect(said).toContain('pressed');
    expect(log).toContain('the last window was closed: the guest is asked to shut down');
    expect(log).not.toMatch(/did not shut down| error /);
    expect(readdirSync(dir).sort()).toEqual(['initrd', 'screen.png']);
  });
});
