/** `scanout run -- qemu-system-x86_64 …` and `scanout view` with a real guest in a window, as a user runs them. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import { decodePng } from '../../display/picture/png.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import { ControlClient } from '../../src/control/client.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DISK_TOOLS, makeBootableDisk } from '../rig/bootable-disk.ts';
import { eventually } from '../rig/eventually.ts';
import { filledScreen, fillingGuest, saidSize } from '../rig/filling-guest.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { expectPictureSoon, expectSamePicture, pictureWhen } from '../rig/picture.ts';
import { buildScanout, MAIN } from '../rig/scanout-run.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';

const isSwayMissing = skipWithoutSway();

describe.skipIf(skipWithoutGuest() || isSwayMissing)('scanout run -- QEMU with a real guest', () => {
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

describe.skipIf(skipWithoutGuest(...DISK_TOOLS) || isSwayMissing)('scanout view', () => {
  test('boots a disk in a window of the desktop that the environment names, and leaves nothing', async () => {
    buildScanout();
    const dir = mkdtempSync(join(tmpdir(), 'scanout-view-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    makeBootableDisk(join(dir, 'disk.qcow2'));
    await using sway = await Sway.start(1024, 768);
    const control = join(dir, 'control');
    const args = ['view', '--accel', 'tcg', '--memory', '256M', '--cpus', '2', '--control', control, 'disk.qcow2'];
    const running = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, MAIN, ...args], {
      cwd: dir,
      env: { ...process.env, WAYLAND_DISPLAY: sway.socket },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    onTestFinished(() => void running.kill('SIGKILL'));
    const ended = once(running, 'close');
    let log = '';
    running.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
    const bridge = new ControlClient(control);
    await eventually(() => bridge.hello());
    const reader = await ScreenReader.open();
    const text = async (): Promise<string> => reader.readConsole(await bridge.screenshot())?.text ?? '';
    // It may be off again by the time it is read.
    for await (const { width } of bridge.watch())
      if (width > 0 && (await text().catch(() => '')).includes('guest login:')) break;

    await expectPictureSoon(() => Promise.resolve(sway.screenshot()), await bridge.screenshot(), 'view-window');
    expect(sway.titles()).toHaveLength(1);
    running.kill('SIGTERM');
    expect(await ended, log).toEqual([0, null]);
    expect(readdirSync(dir).toSorted()).toEqual(['disk.qcow2']);
  });
});
