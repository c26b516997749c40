/**
 * Guests, drivers, front ends and back ends that start and end independently of each other.
 *
 * What the protocol allows when a back end is restarted under a running QEMU: if QEMU's socket is
 * the server (`-chardev socket,server=on,wait=on`), another back end may connect after the first.
 * QEMU sends it nothing until the device is started again, and then neither features nor owner, only
 * the memory table and the rings. So the device must be stopped before the old back end goes: by the
 * guest's driver, a reset, or QMP `stop`. A driver that starts again, or a guest that boots, creates
 * all its resources again and is shown. After `cont` the driver continues with resources that only
 * the old back end knew, and its commands are refused until it starts over. If a back end goes while
 * the device runs, the guest waits for answers that never come; only a reset helps.
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
import {
  expectShown,
  OurGpu,
  pictureShownWhen,
  rebindDriver,
  resources,
  resourcesBefore,
  expectPicture,
  shownWhen,
} from '../rig/our-gpu.ts';

async function textShown(guest: Guest, ours: OurGpu): Promise<Picture> {
  await showText(guest);
  await pictureShownWhen(ours.output, isWholeText);
  // The guest may write while a frame is copied, so the end of the text may appear before the rest.
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
  await expectPicture(ours.output, drawnPicture(1024, 768, 10 % 3), name);
  await draw('quit');
}

describe.skipIf(skipWithoutGuest())('a GPU that keeps running', () => {
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

  test('shows a guest that was paused and continues', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1280 800');
    await draw('pattern 4');
    await guest.qmp('stop');
    await expectPicture(ours.output, drawnPicture(1280, 800, 4), 'stopped');
    await guest.qmp('cont');
    await draw('damage 4 0 0 1 1');
    await expectPicture(ours.output, drawnPicture(1280, 800, 4), 'continued');
    await draw('flip 20 plain');
    await expectPicture(ours.output, drawnPicture(1280, 800, 20 % 3), 'continued-flips');
    await draw('quit');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test("turns the screen off while the guest's driver is unbound, and shows the guest again once it is bound", async () => {
    await rebindDriver(guest, async () => {
      await shownWhen(ours.output, (picture) => picture === null);
      expect(ours.guest.stats.resources).toBe(0);
    });
    await expectTextShown(guest, ours, text, 'rebound-text');
    await expectDrawingShown(guest, ours, 'rebound');
  });

  test('shows a guest again after it reboots', async () => {
    await guest.reboot();
    await expectTextShown(guest, ours, text, 'rebooted-text');
    await expectDrawingShown(guest, ours, 'rebooted');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test('turns the screen off once QEMU was killed, and keeps no resources of it', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1024 768');
    await draw('cursor 1 10 10 0 0');
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    expect(ours.guest.isConnected).toBe(false);
    expect(ours.guest.stats).toMatchObject({ resources: 0, storeBytes: 0 });
    expect(resources()).toEqual(whileListening);
  });

  test('shows the next QEMU on the same socket', async () => {
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: ours.socket } });
    await expectTextShown(guest, ours, text, 'second-text');
    await expectDrawingShown(guest, ours, 'second');
  });

  test('turns the screen off when the guest powers off, and leaves nothing open', async () => {
    await guest.powerOff();
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    expect(resources()).toEqual(whileListening);
    expect(ours.log.filter((line) => line.startsWith('error'))).toEqual([]);
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});

describe.skipIf(skipWithoutGuest())('a GPU that replaces another one under a running QEMU', () => {
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
      extraQemuArgs: [
        '-chardev',
        `socket,id=vhost,path=${socket},server=on,wait=on`,
        '-device',
        'vhost-user-gpu-pci,chardev=vhost,id=gpu',
      ],
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

  test('shows a guest whose driver starts after the replacement', async () => {
    await rebindDriver(guest, () => {
      ours[Symbol.dispose]();
      ours = next();
    });
    await expectTextShown(guest, ours, text, 'restarted-text');
    await expectDrawingShown(guest, ours, 'restarted');
    expect(ours.guest.stats.errors).toBe(0);
  });

  test('shows a guest that continued over the replacement only once it has rebooted', async () => {
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

  test('turns the screen off once QEMU has ended, and leaves nothing open', async () => {
    await guest[Symbol.asyncDispose]();
    await shownWhen(ours.output, (picture) => picture === null);
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});
