/** `scanout replay --output wayland`: recorded guests in a window of a real Weston, whose screenshots are compared. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { expectSamePicture, isSamePicture, pictureWhen } from '../rig/picture.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { ended, start } from '../unit/cli/scanout.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures');
const BOOT = join(FIXTURES, 'console-boot.scanout');

describe.skipIf(skipWithoutWeston())('scanout replay --output wayland', () => {
  let golden: Picture;
  let weston: Weston;
  let empty: Picture;

  beforeAll(async () => {
    golden = decodePng(readFileSync(join(FIXTURES, 'console.png')));
    weston = await startWeston({ size: [golden.width, golden.height] });
    empty = await weston.screenshot();
  });
  afterAll(() => weston[Symbol.asyncDispose]());

  test('shows the whole recording, and its last picture until the window is closed', async () => {
    const child = start(['replay', BOOT, '--fast', '--output', `wayland:${weston.socket}`]);
    const outcome = ended(child);
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on('data', (text: Buffer) => String(text).includes('played console-boot.scanout') && resolve());
      void outcome.then(({ stderr }) => reject(new Error(stderr)));
    });
    const shown = await pictureWhen(
      () => weston.screenshot(),
      (picture) => isSamePicture(picture, golden),
    );
    expectSamePicture(shown, golden, 'wayland-replay');
    child.kill('SIGTERM');
    const { code, stdout } = await outcome;
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^played console-boot.scanout: \d+ commands, \d+ flushes, 0 refused/) as string,
    });
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('closes its window on %s and dies of that signal', async (signal) => {
    const child = start(['replay', BOOT, '--output', `wayland:${weston.socket}`, '--log-level', 'info']);
    const closed = once(child, 'close');
    await new Promise<void>((resolve) =>
      child.stderr!.on('data', (text: Buffer) => String(text).includes('shows the guest by rung') && resolve()),
    );
    child.kill(signal);
    expect(await closed).toEqual([null, signal]);
    await pictureWhen(
      () => weston.screenshot(),
      (picture) => isSamePicture(picture, empty),
    );
  });
});
