/**
 * Guests, drivers, front ends and back ends that come and go, none of them asking the others.
 *
 * What the protocol allows a back end that is restarted under a running QEMU: with QEMU's socket
 * as the server (`-chardev socket,server=on,wait=on`) another back end may connect after the first.
 * QEMU tells it nothing until the device is started anew, and then neither features nor owner, only
 * the memory table and the rings. So the device has to be stopped before the old one goes: by the
 * guest's driver, a reset, or QMP `stop`. A driver that starts again, or a guest that boots, makes
 * all its resources anew and is shown; after `cont` the driver goes on with resources that only
 * the old back end knew, and its commands are refused until the driver starts over. A back end that
 * goes while it runs leaves the guest waiting for answers that never come: only a reset helps.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Picture } from '../../src/core/picture.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { listening } from '../rig/listening.ts';
import { expectShown, OurGpu, pictureShownWhen, rebindDriver, resources, resourcesBefore, settledPicture, shownWhen } from '../rig/our-gpu.ts';
import { expectSamePicture } from '../rig/picture.ts';

async function textShown(guest: Guest, ours: OurGpu): Promise<Picture> {
  await showText(guest);
  await pictureShownWhen(ours.output, isWholeText);
  // The guest may have written while a frame was copied, and its end may be there before the rest.
  return ours.display.waitForStable();
}

async function expectTextShown(guest: Guest, ours: OurGpu, text: Picture, name: string): Promise<void> {
  await showText(guest);
  await expectShown(ours.display, text, name);
}

async function expectDrawingShown(guest: Guest, ours: OurGpu, name: string): Promise<void> {
  const draw = await startDrawing(guest);
  await draw('mode 1024 768');
  await draw('flip 10 plain');
  expectSamePicture(await settledPicture(ours.output), drawnPicture(1024, 768, 10 % 3), name);
  await draw('quit');
}

describe.skipIf(skipWithoutGuest())('one GPU of ours shows', () => {
  let before: ReturnType<typeof resources>;
  let whileListening: ReturnType<typeof resources>;
  let ours: OurGpu;
  let guest: Guest;
  let text: Picture;

  beforeAll(async () => {
    before = await resourcesBefore();
    ours = OurGpu.open();
    whileListening = resources();
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: ours.socket } });
    text = await textShown(guest, ours);
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
  });

  test('a guest that was paused and goes on', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1280 800');
    await draw('pattern 4');
    await guest.qmp('stop');
    expectSamePicture(await settledPicture(ours.output), drawnPicture(1280, 800, 4), 'stopped');
    await guest.qmp('cont');
    await draw('damage 4 0 0 1 1');
    expectSamePicture(await settledPicture(ours.output), drawnPicture(1280, 800, 4), 'continued');
    await draw('flip 20 plain');
    expectSamePicture(await settledPicture(ours.output), drawnPicture(1280, 800, 20 % 3), 'continued-flips');
    await draw('quit');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test('a guest whose driver is unbound, then dark, and bound again', async () => {
    await rebindDriver(guest, async () => {
      await shownWhen(ours.output, (picture) => picture === null);
      expect(ours.guest.stats.resources).toBe(0);
    });
    await expectTextShown(guest, ours, text, 'rebound-text');
    await expectDrawingShown(guest, ours, 'rebound');
  });

  test('a guest that reboots', async () => {
    await guest.reboot();
    await expectTextShown(guest, ours, text, 'rebooted-text');
    await expectDrawingShown(guest, ours, 'rebooted');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test('nothing once QEMU was killed, and keeps nothing of it', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1024 768');
    await draw('cursor 1 10 10 0 0');
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    expect(ours.guest.isConnected).toBe(false);
    expect(ours.guest.stats).toMatchObject({ resources: 0, storeBytes: 0 });
    expect(resources()).toEqual(whileListening);
  });

  test('the next QEMU on the same socket', async () => {
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: ours.socket } });
    await expectTextShown(guest, ours, text, 'second-text');
    await expectDrawingShown(guest, ours, 'second');
  });

  test('a guest until it powers off', async () => {
    await guest.powerOff();
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    expect(resources()).toEqual(whileListening);
    expect(ours.log.filter((line) => line.startsWith('error'))).toEqual([]);
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});

describe.skipIf(skipWithoutGuest())('GPUs of ours, one after another under one running QEMU, show', () => {
  let before: ReturnType<typeof resources>;
  let dir: string;
  let ours: OurGpu;
  let guest: Guest;
  let text: Picture;

  const next = () => OurGpu.open({ socket: connectUnix(join(dir, 'socket')) });

  beforeAll(async () => {
    before = await resourcesBefore();
    dir = mkdtempSync(join(tmpdir(), 'scanout-restart-'));
    const socket = join(dir, 'socket');
    const booting = bootGuest({
      gpu: { kind: 'none' },
      memoryMiB: 4096,
      extraQemuArgs: ['-chardev', `socket,id=vhost,path=${socket},server=on,wait=on`, '-device', 'vhost-user-gpu-pci,chardev=vhost,id=gpu'],
    });
    await listening(socket, booting);
    ours = next();
    guest = await booting;
    text = await textShown(guest, ours);
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  test('a guest whose driver starts under the new one', async () => {
    await rebindDriver(guest, () => {
      ours[Symbol.dispose]();
      ours = next();
    });
    await expectTextShown(guest, ours, text, 'restarted-text');
    await expectDrawingShown(guest, ours, 'restarted');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test('a guest that goes on under the new one, once it has rebooted', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1280 800');
    await guest.qmp('stop');
    ours[Symbol.dispose]();
    ours = next();
    await guest.qmp('cont');
    await draw('pattern 1');
    expect(ours.guest.stats.errors).toBeGreaterThan(0);
    expect(ours.output.capture()).toBeNull();
    await guest.reboot();
    await expectTextShown(guest, ours, text, 'restarted-reboot-text');
    await expectDrawingShown(guest, ours, 'restarted-reboot');
  });

  test('nothing in the end, and leave nothing open', async () => {
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});
