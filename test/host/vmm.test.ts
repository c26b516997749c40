/** QEMU's own display as an output, captured by QMP's `screendump`: QEMU 10 refuses VNC together with a vhost-user GPU. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Session } from '../../src/cli/session.ts';
import type { Picture } from '../../src/core/picture.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, drawPart, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { pictureShownWhen, rebindDriver, resources, resourcesBefore, expectPicture } from '../rig/our-gpu.ts';
import { expectPictureSoon, pictureWhen } from '../rig/picture.ts';

/** Retries until QEMU shows the picture, because nothing reports when QEMU has read what we sent. */
async function expectOnConsole(guest: Guest, expected: Picture, name: string): Promise<void> {
  await expectPictureSoon(() => guest.screendump(), expected, name);
}

describe.skipIf(skipWithoutGuest())("a guest shown on QEMU's own display", () => {
  const vmm = { kind: 'vmm', dmabuf: false } as const;
  const headless = { kind: 'headless', width: 1280, height: 800, refreshMhz: 60_000 } as const;
  let before: ReturnType<typeof resources>;
  let dir: string;
  let socket: string;
  const log: string[] = [];

  const open = (outputs: Parameters<typeof Session.open>[0]['outputs']) =>
    Session.open({
      guest: { socket },
      outputs,
      maxGuestMemory: 2 ** 29,
      zeroCopy: 'auto',
      latency: 'safe',
      log: (level, message) => void log.push(`${level}: ${message}`),
    });

  beforeAll(async () => {
    before = await resourcesBefore();
    dir = mkdtempSync(join(tmpdir(), 'scanout-vmm-'));
    socket = join(dir, 'socket');
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  describe('and on a headless output', () => {
    let session: Session;
    let guest: Guest;

    beforeAll(async () => {
      session = await open([headless, vmm]);
      guest = await bootGuest({ gpu: { kind: 'vhost-user', socket } });
    });
    afterAll(async () => {
      await guest[Symbol.asyncDispose]();
      session[Symbol.dispose]();
    });

    async function expectTextOnBoth(name: string): Promise<void> {
      // An earlier text must not be mistaken for the next one.
      await guest.run("printf '\\033[2J' >/dev/tty1");
      await pictureShownWhen(session.headless[0]!, (picture) => !isWholeText(picture));
      await showText(guest);
      await expectOnConsole(guest, await pictureShownWhen(session.headless[0]!, isWholeText), name);
    }

    async function expectOnBoth(expected: Picture, name: string): Promise<void> {
      await expectPicture(session.headless[0]!, expected, `${name}-headless`);
      await expectOnConsole(guest, expected, name);
    }

    test('shows the same console on both', () => expectTextOnBoth('vmm-text'));

    test('shows the same changed parts, modes and flips on both', async () => {
      const draw = await startDrawing(guest);
      await draw('mode 1001 333');
      const expected = drawnPicture(1001, 333, 0);
      await expectOnBoth(expected, 'vmm-mode');
      for (const [seed, x, y, width, height] of [
        [1, 0, 0, 1, 1],
        [2, 999, 300, 2, 33],
        [3, 333, 1, 500, 200],
      ] as const) {
        await draw(`damage ${seed} ${x} ${y} ${width} ${height}`);
        drawPart(expected, seed, x, y, width, height);
        await expectOnBoth(expected, `vmm-damage-${seed}`);
      }
      await draw('mode 1920 1080');
      await draw('cursor 1 100 100 0 0');
      await draw('flip 31 plain');
      await expectOnBoth(drawnPicture(1920, 1080, 31 % 3), 'vmm-flips');
      await draw('quit');
    });

    test('shows the same text on both after a pause, a new driver and a reboot, each of which opens a new socket', async () => {
      await guest.qmp('stop');
      await guest.qmp('cont');
      await expectTextOnBoth('vmm-continued');
      await rebindDriver(guest);
      await expectTextOnBoth('vmm-rebound');
      await guest.reboot();
      await expectTextOnBoth('vmm-rebooted');
    });

    test('leaves no descriptor or mapping open', async () => {
      await guest[Symbol.asyncDispose]();
      session[Symbol.dispose]();
      expect(resources()).toEqual(before);
    });
  });

  describe('alone', () => {
    let session: Session;
    let guest: Guest;

    beforeAll(async () => {
      session = await open([vmm]);
      guest = await bootGuest({ gpu: { kind: 'vhost-user', socket }, size: [1024, 768] });
    });
    afterAll(async () => {
      await guest[Symbol.asyncDispose]();
      session[Symbol.dispose]();
    });

    test("gets its mode from QEMU's monitor", async () => {
      expect(await guest.run('head -qn1 /sys/class/drm/card0-*/modes')).toBe('1024x768\n');
    });

    test('shows its console and a picture it draws', async () => {
      await showText(guest);
      const text = await pictureWhen(() => guest.screendump(), isWholeText);
      expect([text.width, text.height]).toEqual([1024, 768]);
      const draw = await startDrawing(guest);
      await draw('mode 801 601');
      await expectOnConsole(guest, drawnPicture(801, 601, 0), 'vmm-alone');
      await draw('quit');
    });

    test('leaves no descriptor or mapping open', async () => {
      await guest[Symbol.asyncDispose]();
      session[Symbol.dispose]();
      expect(resources()).toEqual(before);
      expect(log.filter((line) => line.startsWith('error'))).toEqual([]);
    });
  });
});
