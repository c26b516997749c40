/** A guest inside the guest: QEMU with a mediated device, on which the guest's bochs driver draws. */
import { rmSync, writeFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { Picture } from '../../src/core/picture.ts';
import { VfioGuest } from '../../src/guest/vfio/guest.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { NESTED_MIB, skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, guestDraw, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectPictureSoon, expectSamePicture, pictureOfBgrx, pictureWhen } from '../rig/picture.ts';
import { skipWithoutVkms, TestScreen, WatchedOutput } from './kms-rig.ts';
import { kernelComplaints, Mdev, skipWithoutMdev, vfioFds } from '../rig/mdev.ts';
import { eventually } from '../rig/eventually.ts';

/** A machine in an emulated machine, on a busy machine. */
const BOOT_MS = 600_000;
/** Not the driver's default, so that it must come from the monitor. */
const [WIDTH, HEIGHT] = [640, 480];
const PID_FILE = `${process.env['TMPDIR'] ?? '/tmp'}/vfio-guest.pid`;

describe.skipIf(skipWithoutMdev() || skipWithoutVkms() || skipWithoutGuest())(
  'a guest whose GPU is a mediated device',
  () => {
    const stack = new DisposableStack();
    const log: string[] = [];
    let complaints: string[];
    let mdev: Mdev;
    let vm: Guest;
    let output: HeadlessOutput;
    let guest: VfioGuest;
    let bridge: Bridge;

    async function boot(): Promise<void> {
      vm = await bootGuest({
        programs: [guestDraw()],
        modules: ['bochs'],
        memoryMiB: NESTED_MIB,
        gpu: { kind: 'none' },
        patienceMs: BOOT_MS / 2,
        extraQemuArgs: ['-device', `vfio-pci,sysfsdev=${mdev.directory},display=off`],
      });
      writeFileSync(PID_FILE, String(vm.pid));
    }

    /** Has the guest's driver read the EDID of the monitor. */
    async function restartDriver(): Promise<void> {
      await vm.run(
        'cd /sys/bus/pci/drivers/bochs-drm && device=$(echo 0*) && echo $device >unbind && echo $device >bind; cd /',
      );
    }

    /** What is shown after the next look at the device, if there is one. */
    async function capture(): Promise<Picture> {
      const { looks } = guest.stats;
      if (guest.isConnected) await eventually(() => expect(guest.stats.looks).toBeGreaterThan(looks));
      return output.capture() ?? drawnPicture(1, 1, 0);
    }

    /** What the guest's console has in its framebuffer. */
    async function consolePicture(): Promise<Picture> {
      const packed = await vm.run(`head -c ${WIDTH * HEIGHT * 4} /dev/fb0 | gzip -1c | base64 -w0`);
      return pictureOfBgrx(WIDTH, HEIGHT, gunzipSync(Buffer.from(packed, 'base64')));
    }

    beforeAll(async () => {
      complaints = kernelComplaints();
      mdev = stack.use(new Mdev('mbochs-medium'));
      await boot();
      output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
      guest = stack.use(VfioGuest.open({ device: { pid: PID_FILE }, log: (_, message) => log.push(message) }));
      bridge = stack.use(new Bridge(guest, { log: (_, message) => log.push(message) }));
      bridge.show(0, output);
      await restartDriver();
    }, BOOT_MS);

    afterAll(async () => {
      await vm[Symbol.asyncDispose]();
      stack[Symbol.dispose]();
      rmSync(PID_FILE);
      expect(vfioFds()).toEqual([]);
      expect(kernelComplaints(complaints)).toEqual([]);
    });

    test('its console has the mode of the monitor, and its text is shown', { timeout: BOOT_MS }, async () => {
      expect((await vm.run('cat /sys/class/graphics/fb0/virtual_size')).trim()).toBe(`${WIDTH},${HEIGHT}`);
      await showText(vm);
      await pictureWhen(capture, isWholeText, 'vfio-text');
      await expectPictureSoon(capture, await consolePicture(), 'vfio-text');
      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0 });
    });

    test('another mode and page flips are shown, and each buffer is opened once', { timeout: BOOT_MS }, async () => {
      const draw = await startDrawing(vm);
      await draw('mode 640 480');
      await draw('pattern 5');
      await expectPictureSoon(capture, drawnPicture(640, 480, 5), 'vfio-pattern');
      await draw('mode 512 384');
      await expectPictureSoon(capture, drawnPicture(512, 384, 0), 'vfio-mode');
      const { opened } = guest.stats;
      await draw('flip 31 plain');
      await expectPictureSoon(capture, drawnPicture(512, 384, 31 % 3), 'vfio-flips');
      expect(guest.stats.opened).toBeLessThanOrEqual(opened + 2);
      await draw('quit');
    });

    test('switching consoles is shown', { timeout: BOOT_MS }, async () => {
      await vm.run("chvt 2; printf '\\033[2J\\033[44m second \\033[0m' >/dev/tty2");
      await expectPictureSoon(capture, await consolePicture(), 'vfio-console-2');
      await vm.run('chvt 1');
      await expectPictureSoon(capture, await consolePicture(), 'vfio-console-1');
    });

    test('a plane of a card shows it, too, without copying a byte', { timeout: BOOT_MS }, async () => {
      const draw = await startDrawing(vm);
      await draw('mode 640 480');
      await draw('pattern 9');
      const expected = drawnPicture(640, 480, 9);
      await expectPictureSoon(capture, expected, 'vfio-before-kms');
      using screen = new TestScreen();
      const watched = new WatchedOutput(screen.output);
      bridge.show(0, watched);
      await eventually(() => expect(watched.zeroCopyFrames).toBeGreaterThan(3));
      guest.setMonitor(0, null);
      await watched.settled();
      expectSamePicture(await screen.writeback.take(), expected, 'vfio-nested-kms');
      expect(bridge.stats[0]!.screens[1]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0, imports: 1 });
      guest.setMonitor(0, output.monitor);
      bridge.hide(watched);
      await draw('quit');
    });

    test('its last picture stays when QEMU is killed, and the next QEMU is shown', { timeout: BOOT_MS }, async () => {
      const draw = await startDrawing(vm);
      await draw('mode 640 480');
      await draw('pattern 7');
      const expected = drawnPicture(640, 480, 7);
      await expectPictureSoon(capture, expected, 'vfio-before-kill');
      await vm[Symbol.asyncDispose]();
      await eventually(() => expect(guest.isConnected).toBe(false));
      expect(vfioFds()).toEqual([]);
      await expectPictureSoon(capture, expected, 'vfio-killed');

      await boot();
      await eventually(() => expect(guest.isConnected).toBe(true));
      await expectPictureSoon(capture, expected, 'vfio-booted');
      await restartDriver();
      await showText(vm);
      await pictureWhen(capture, isWholeText, 'vfio-text-again');
      // Its descriptors are closed before it has ended, so either may be noticed first.
      expect(log.filter((line) => line.includes('the last picture stays'))).toHaveLength(1);
    });
  },
);
