import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { VfioGuest } from '../../src/guest/vfio/guest.ts';
import { Bochs, kernelComplaints, Mdev, OpenMdev, skipWithoutMdev } from '../rig/mdev.ts';
import { expectPictureSoon } from '../rig/picture.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';
import { skipWithoutUdmabuf } from './machine.ts';

/** Each picture is a number of pages. */
const [WIDTH, HEIGHT] = [256, 192];
const CARDS = '/dev/dri';

describe.skipIf(skipWithoutMdev() || skipWithoutUdmabuf() || skipWithoutWeston())(
  'VfioGuest on a Weston that draws with GL',
  () => {
    let weston: Weston;

    beforeAll(async () => {
      // Mesa's software renderer maps a dma-buf itself; beside a card it would have that map it, in vain.
      if (existsSync(CARDS)) execFileSync('mount', ['-t', 'tmpfs', 'none', CARDS]);
      weston = await startWeston({ renderer: 'gl', size: [WIDTH, HEIGHT] });
    });
    afterAll(async () => {
      await weston[Symbol.asyncDispose]();
      if (existsSync(CARDS)) execFileSync('umount', [CARDS]);
    });

    expectNoLeaks();

    test('is shown by its dma-bufs, without copying a byte', { timeout: 300_000 }, async () => {
      const complaints = kernelComplaints();
      using mdev = new Mdev('mbochs-medium');
      using open = new OpenMdev(mdev);
      using driver = new Bochs(open.fd);
      driver.setMode(WIDTH, HEIGHT);
      driver.draw(1);
      using windows = await WaylandWindows.open({ socket: weston.socket });
      using guest = VfioGuest.open({ device: { fd: open.fd.dup() } });
      using bridge = new Bridge(guest);
      bridge.show(0, windows.openOutputs(1)[0]!);
      for (let flip = 0; flip < 4; flip++) {
        driver.flip(flip % 3);
        driver.draw(flip + 2);
        await expectPictureSoon(() => weston.screenshot(), driver.picture, `vfio-wayland-${flip}`);
      }
      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0, imports: 3 });
      expect(kernelComplaints(complaints)).toEqual([]);
    });
  },
);
