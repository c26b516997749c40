import { basename } from 'node:path';
import { describe, expect, test } from 'vitest';
import { KmsDevice, probeCard } from '../../display/kms/device.ts';
import type { Prospect } from '../../src/cli/doctor.ts';
import { type Card, type Check, readCards } from '../../src/cli/machine.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { startScanout } from '../rig/scanout-run.ts';
import { ScatteredPicture } from '../rig/scattered-picture.ts';
import { ended } from '../unit/cli/scanout.ts';
import { kernelObjects, skipWithoutVkms, TestScreen, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft, expectSettled } from './machine.ts';

const card = vkmsCard() ?? '';
const name = basename(card);

describe.skipIf(skipWithoutVkms())('doctor', () => {
  expectNothingLeft();

  test('reports the driver, abilities and connectors of a real card, and the rung it would get', async () => {
    const { code, stdout } = await ended(startScanout(['doctor', '--json']));

    const { checks, cards, rungs } = JSON.parse(stdout) as { checks: Check[]; cards: Card[]; rungs: Prospect[] };
    expect(code).toBe(0);
    expect(cards.find((one) => one.name === name)).toEqual({
      name,
      abilities: { driver: 'vkms', isAtomic: true, importsDmabufs: true, isFree: true },
      connectors: [{ name: 'Virtual-1', isConnected: true, monitor: null, preferredMode: '1024x768' }],
    });
    expect(checks.find((check) => check.name === `KMS ${name}`)).toMatchObject({
      ok: true,
      detail: expect.stringContaining('Virtual-1 (') as string,
    });
    expect(rungs.find(({ output }) => output === `kms:${name}`)).toMatchObject({ rung: 'udmabuf' });
  });

  test('leaves a free card free for the next program', async () => {
    const before = kernelObjects(card);

    expect(probeCard(card).isFree).toBe(true);

    using device = KmsDevice.open(card);
    await expectSettled(() => kernelObjects(card), before);
    expect(device.driver).toBe('vkms');
  });

  test('reports a card with a master as not free, and the master continues to show frames', async () => {
    using screen = new TestScreen();
    using picture = new ScatteredPicture(screen.udmabuf, 640, 480).fillNoise(1);
    using next = new ScatteredPicture(screen.udmabuf, 640, 480).fillNoise(2);
    using handle = screen.import(picture.framebuffer);
    using nextHandle = screen.import(next.framebuffer);
    screen.setPicture(handle, 640, 480);
    await screen.show();

    const [found] = readCards().filter((one) => one.name === name);

    expect(found!.abilities).toMatchObject({ isFree: false, isAtomic: true, importsDmabufs: true });
    expectSamePicture(await screen.writeback.take(), picture.onScreen(640, 480), 'doctor-before');
    screen.setPicture(nextHandle, 640, 480);
    await screen.show();
    expectSamePicture(await screen.writeback.take(), next.onScreen(640, 480), 'doctor-after');
  });
});
