import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readResources } from '../../display/kms/resources.ts';
import { PlainSeat, type KmsCard, type LoginSeatListener } from '../../display/kms/seat.ts';
import { DRM_IOCTL_DROP_MASTER, DRM_IOCTL_SET_MASTER } from '../../protocols/drm.ts';
import { DRM_PLANE_TYPE_OVERLAY } from '../../protocols/drm-mode.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { type Handle, PresentedFlags } from '../../src/core/output.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { kmsChild } from '../rig/kms-child.ts';
import { InnerQmp } from '../rig/inner-qmp.ts';
import { expectPictureSoon, expectSamePicture, pixel } from '../rig/picture.ts';
import { openUdmabuf, ScatteredPicture } from '../rig/scattered-picture.ts';
import { Writeback } from '../rig/writeback.ts';
import { FlippingGuest } from './flipping-guest.ts';
import {
  connectorsOf,
  importInto,
  kernelObjects,
  Plug,
  setPicture,
  skipWithoutVkms,
  TestScreen,
  twoHeadsCard,
  vkmsCard,
} from './kms-rig.ts';
import { expectNothingLeft, expectSettled } from './machine.ts';
import { type HeardScreen, TestDisplay } from './test-display.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
const MODE = { width: 640, height: 480 };
const CONNECTOR = 'Virtual-1';

function expectNoObjectsLeft(of: () => string): void {
  expectNothingLeft();
  let before: ReturnType<typeof kernelObjects>;
  beforeEach(() => {
    before = kernelObjects(of());
  });
  afterEach(() => expectSettled(() => kernelObjects(of()), before));
}

function noise(udmabuf: ReturnType<typeof openUdmabuf>, seed: number): ScatteredPicture {
  return new ScatteredPicture(udmabuf, 640, 480).fillNoise(seed);
}

function setWhole(screen: HeardScreen, handle: Handle): void {
  setPicture(screen.frame, handle, 640, 480);
}

describe.skipIf(isSkipped)('KmsDisplay: a monitor', () => {
  expectNoObjectsLeft(() => card);

  test('that is unplugged leaves the guest running, and shows the newest picture when it is plugged in again', async () => {
    using display = new TestDisplay({ card, mode: MODE });
    using guest = new FlippingGuest();
    using udmabuf = openUdmabuf();
    using a = noise(udmabuf, 1);
    using b = noise(udmabuf, 2);
    using bridge = new Bridge(guest);
    const output = display.display.outputs[0]!;
    bridge.show(0, output);
    const monitor = output.monitor;
    await guest.flip(a.asPages);
    using writeback = new Writeback(display.display.device, MODE);

    const unplugged = guest.replug();
    using plug = new Plug(card, CONNECTOR, 'off');
    await unplugged;
    expect(output.monitor).toBeNull();
    await guest.flip(b.asPages);
    const plugged = guest.replug();
    plug.set('detect');
    await plugged;

    expectSamePicture(await writeback.take(), b.onScreen(640, 480), 'life-replugged');
    expect(guest.monitors).toEqual([[monitor, null, monitor]]);
    await guest.flip(a.asPages);
    expectSamePicture(await writeback.take(), a.onScreen(640, 480), 'life-replugged-flip');
  });

  test('that is plugged in after the start shows the background until the guest shows something', async () => {
    using udmabuf = openUdmabuf();
    using plain = new ScatteredPicture(udmabuf, 640, 480).fill(() => 0x336699);
    using plug = new Plug(card, CONNECTOR, 'off');
    using display = new TestDisplay({ card, mode: MODE, background: 0x336699 });
    const screen = display.screens[0]!;
    expect(screen.output.monitor).toBeNull();
    expect(display.log.filter((line) => line.includes('waits for a monitor'))).toHaveLength(1);
    expect(await screen.show()).toBe(PresentedFlags.HIDDEN);

    const plugged = screen.resize();
    plug.set('detect');
    expect(await plugged).toMatchObject(MODE);
    using writeback = new Writeback(display.display.device, MODE);
    expectSamePicture(await writeback.take(), plain.onScreen(640, 480), 'life-background');
  });
});

/** Hands the card over and takes it back when a test says so, as a seat manager does. */
class FakeSeat extends PlainSeat {
  #fd: BorrowedFd | null = null;
  #listener: LoginSeatListener | null = null;

  override openCard(path: string): KmsCard {
    const opened = super.openCard(path);
    this.#fd = opened.fd;
    return opened;
  }

  override listen(listener?: LoginSeatListener): void {
    this.#listener = listener!;
  }

  pause(): void {
    this.#listener!.paused();
    ioctl(this.#fd!, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0);
  }

  resume(): void {
    ioctl(this.#fd!, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    this.#listener!.resumed();
  }
}

describe.skipIf(isSkipped)('KmsDisplay: a card', () => {
  expectNoObjectsLeft(() => card);

  test('is left alone while the seat is paused, and shows the newest picture on resume, whatever another program left', async () => {
    using seat = new FakeSeat();
    using display = new TestDisplay({ card, mode: MODE, seat });
    using udmabuf = openUdmabuf();
    using a = noise(udmabuf, 3);
    using b = noise(udmabuf, 4);
    const screen = display.screens[0]!;
    using handleA = importInto(screen.output, a.framebuffer);
    using handleB = importInto(screen.output, b.framebuffer);
    setWhole(screen, handleA);
    expect((await screen.show()) & PresentedFlags.VSYNC).not.toBe(0);

    // The other program leaves a cursor on a plane that this one does not use.
    const overlay = readResources(display.display.device).planes.findLast(
      ({ type }) => type === DRM_PLANE_TYPE_OVERLAY,
    )!;
    expect(overlay.id).not.toBe(screen.output.pipe!.overlay!.id);
    seat.pause();
    using other = new TestScreen({ change: (pipe) => ({ ...pipe, cursor: null, overlay }) });
    using theirs = noise(other.udmabuf, 5);
    using theirHandle = other.import(theirs.framebuffer);
    other.setPicture(theirHandle, 640, 480);
    other.setCursor(theirHandle, 10, 10, 64, 64);
    await other.show();
    setWhole(screen, handleB);
    expect(await screen.show()).toBe(PresentedFlags.HIDDEN);
    expect(pixel(await other.writeback.take(), 600, 400)).toBe(pixel(theirs.onScreen(640, 480), 600, 400));
    ioctl(other.device.fd, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0);
    seat.resume();

    using writeback = new Writeback(display.display.device, MODE);
    expectSamePicture(await writeback.take(), b.onScreen(640, 480), 'life-resumed');
    setWhole(screen, handleA);
    expect((await screen.show()) & PresentedFlags.VSYNC).not.toBe(0);
    expectSamePicture(await writeback.take(), a.onScreen(640, 480), 'life-resumed-flip');
  });

  test('that another program took without the seat is tried again until it is free', async () => {
    using display = new TestDisplay({ card, mode: MODE });
    using udmabuf = openUdmabuf();
    using a = noise(udmabuf, 6);
    const screen = display.screens[0]!;
    using handle = importInto(screen.output, a.framebuffer);
    setWhole(screen, handle);
    const { fd } = display.display.device;
    ioctl(fd, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0);
    expect([await screen.show(), await screen.show()]).toEqual([PresentedFlags.HIDDEN, PresentedFlags.HIDDEN]);
    expect(display.log.filter((line) => line.includes('another program is master'))).toHaveLength(1);
    ioctl(fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    while ((await screen.show()) === PresentedFlags.HIDDEN);
    using writeback = new Writeback(display.display.device, MODE);
    expectSamePicture(await writeback.take(), a.onScreen(640, 480), 'life-mastered');
  });
});

describe.skipIf(isSkipped)('KmsOutput: a driver', () => {
  expectNoObjectsLeft(() => card);

  test('that reports no flips does not hold up the guest, is logged once, and may recover', async () => {
    using display = new TestDisplay({ card, mode: MODE });
    using udmabuf = openUdmabuf();
    using a = noise(udmabuf, 7);
    const screen = display.screens[0]!;
    using handle = importInto(screen.output, a.framebuffer);
    setWhole(screen, handle);
    const { device } = display.display;
    const crtc = screen.output.pipe!.crtc.id;
    const listener = device.unlisten(crtc)!;
    expect([await screen.show(), await screen.show()]).toEqual([PresentedFlags.HIDDEN, PresentedFlags.HIDDEN]);
    expect(display.log.filter((line) => line.includes('did not say'))).toHaveLength(1);
    device.listen(crtc, listener);
    expect((await screen.show()) & PresentedFlags.VSYNC).not.toBe(0);
    using writeback = new Writeback(device, MODE);
    expectSamePicture(await writeback.take(), a.onScreen(640, 480), 'life-recovered');
  });

  // Two processes start here, one of them traced.
  test(
    'interrupted by a signal at every other ioctl is opened, enabled and given back',
    { timeout: 300_000 },
    async () => {
      const strace = [
        '-f',
        '--seccomp-bpf',
        '-o',
        '/dev/null',
        '-e',
        'trace=ioctl',
        '-e',
        'inject=ioctl:error=EINTR:when=2+2',
      ];
      const child = spawn('strace', [...strace, process.execPath, ...kmsChild(card)], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      let complaint = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
      const ended = once(child, 'close');
      const [outputs] = (await Promise.race([once(child.stdout, 'data'), ended.then(() => [complaint])])) as [
        Buffer | string,
      ];
      expect(String(outputs)).toBe('1\n');
      child.stdin.write('throw');
      await ended;
      expect(complaint).toContain('told to fail');
      expect(complaint).not.toContain('EINTR');
    },
  );
});

describe.skipIf(isSkipped)('KmsDisplay: a card with two connectors', () => {
  const heads = twoHeadsCard() ?? '';
  const [left = '', right = ''] = isSkipped ? [] : connectorsOf(heads);
  expectNoObjectsLeft(() => heads);

  function sizeOf({ output }: HeardScreen): { width: number; height: number } {
    const { width, height } = output.monitor!;
    return { width, height };
  }

  test('shows two monitors of a guest, one of them plugged in later', async () => {
    using qemu = new InnerQmp();
    using display = new TestDisplay({ card: heads });
    const [first, second] = display.screens as [HeardScreen, HeardScreen];
    expect([first.output.monitor !== null, second.output.monitor]).toEqual([true, null]);
    const plugged = second.resize();
    using plug = new Plug(heads, right, 'on');
    await plugged;
    second.detach();
    expect(first.output.pipe!.crtc.id).not.toBe(second.output.pipe!.crtc.id);

    using guest = new FlippingGuest(2);
    using udmabuf = openUdmabuf();
    using a = new ScatteredPicture(udmabuf, 320, 240).fillNoise(8);
    using b = new ScatteredPicture(udmabuf, 300, 200).fillNoise(9);
    const sizes = [sizeOf(first), sizeOf(second)];
    using bridge = new Bridge(guest);
    bridge.show(0, first.output);
    bridge.show(1, second.output);
    await Promise.all([guest.flip(a.asPages, 0), guest.flip(b.asPages, 1)]);
    expectSamePicture(qemu.screendump('two-heads', 0), a.onScreen(sizes[0]!.width, sizes[0]!.height), 'life-left');
    expectSamePicture(qemu.screendump('two-heads', 1), b.onScreen(sizes[1]!.width, sizes[1]!.height), 'life-right');
  });

  test('mirrors a monitor of the guest, which follows the screen that remains, and the next one that is plugged in', async () => {
    using qemu = new InnerQmp();
    using plug = new Plug(heads, right, 'on');
    using display = new TestDisplay({ card: heads });
    const [first, second] = display.screens as [HeardScreen, HeardScreen];
    const monitors = [first.output.monitor, second.output.monitor];
    using guest = new FlippingGuest();
    using udmabuf = openUdmabuf();
    using a = new ScatteredPicture(udmabuf, 320, 240).fillNoise(10);
    using b = new ScatteredPicture(udmabuf, 320, 240).fillNoise(11);
    const sizes = [sizeOf(first), sizeOf(second)];
    using bridge = new Bridge(guest);
    bridge.show(0, first.output);
    bridge.show(0, second.output);
    await guest.flip(a.asPages);
    sizes.forEach(({ width, height }, head) =>
      expectSamePicture(qemu.screendump('two-heads', head), a.onScreen(width, height), `life-mirror-${head}`),
    );

    const handedOver = guest.replug();
    using firstPlug = new Plug(heads, left, 'off');
    await handedOver;
    await guest.flip(b.asPages);
    expectSamePicture(
      qemu.screendump('two-heads', 1),
      b.onScreen(sizes[1]!.width, sizes[1]!.height),
      'life-mirror-alone',
    );
    // The driver discarded the EDID with the monitor, so a different one is plugged in now.
    const back = guest.replug();
    firstPlug.set('detect');
    await back;
    const { width, height } = sizeOf(first);
    // The guest sends nothing more: the bridge lights the monitor with the picture that it has.
    const look = async (): Promise<Picture> => {
      await setImmediate();
      return qemu.screendump('two-heads', 0);
    };
    await expectPictureSoon(look, b.onScreen(width, height), 'life-mirror-again');
    expect(first.output.monitor).not.toEqual(monitors[0]);
    expect(guest.monitors).toEqual([[...monitors, first.output.monitor]]);
  });
});
