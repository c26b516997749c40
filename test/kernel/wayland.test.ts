import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { expectPictureSoon } from '../rig/picture.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';
import { dmabufCount, skipWithoutUdmabuf } from './machine.ts';

const [WIDTH, HEIGHT] = [320, 200];
const CARDS = '/dev/dri';

describe.skipIf(skipWithoutUdmabuf() || skipWithoutWeston())('WaylandOutput on a Weston that imports dma-bufs', () => {
  let weston: Weston;
  let guest: FakeGuest;
  let windows: WaylandWindows;
  let bridge: Bridge;
  let log: string[];
  let dmabufs: number;

  beforeAll(async () => {
    // Mesa's software renderer maps a udmabuf itself; beside a card it would have that map it, in vain.
    if (existsSync(CARDS)) execFileSync('mount', ['-t', 'tmpfs', 'none', CARDS]);
    weston = await startWeston({ renderer: 'gl', size: [WIDTH, HEIGHT] });
  });
  afterAll(async () => {
    await weston[Symbol.asyncDispose]();
    if (existsSync(CARDS)) execFileSync('umount', [CARDS]);
  });

  beforeEach(async () => {
    dmabufs = dmabufCount();
    log = [];
    guest = new FakeGuest();
    bridge = new Bridge(guest, { log: (_, message) => log.push(message) });
    windows = await WaylandWindows.open({ socket: weston.socket });
    bridge.show(0, windows.openOutputs(1)[0]!);
  });
  afterEach(() => {
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
  });

  test('shows guest pages without a copy, and imports each framebuffer once', async () => {
    using a = new GuestPicture(WIDTH, HEIGHT);
    using b = new GuestPicture(WIDTH, HEIGHT);
    for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) a.fill(x, y, 1, 1, (x << 16) | (y << 8) | (x ^ y));
    b.fill(0, 0, WIDTH, HEIGHT, 0x00204060);
    b.fill(13, 17, 40, 30, 0x00ffcc00);
    for (let i = 0; i < 10; i++) {
      for (const shown of [a, b]) {
        guest.show(shown.framebuffer);
        await guest.flush(0, 0, WIDTH, HEIGHT);
      }
    }
    // A compositor that is busy for a while counts as one that hides the window, whose frames end without it.
    await expectPictureSoon(() => weston.screenshot(), b.rgb, 'kernel-wayland-b');
    guest.show(a.framebuffer);
    await guest.flush(0, 0, WIDTH, HEIGHT);
    await expectPictureSoon(() => weston.screenshot(), a.rgb, 'kernel-wayland-a');

    a.fill(100, 100, 50, 50, 0x00ff00ff);
    await guest.flush(100, 100, 50, 50);
    await expectPictureSoon(() => weston.screenshot(), a.rgb, 'kernel-wayland-damage');

    expect(log).toEqual(["wayland:0 shows the guest by rung 'udmabuf'"]);
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ imports: 2, copiedBytes: 0, rung: 'udmabuf' });
    guest.sink.destroyed(a.framebuffer);
    guest.sink.destroyed(b.framebuffer);
  });

  test('imports again on the next compositor', async () => {
    using shown = new GuestPicture(WIDTH, HEIGHT);
    shown.fill(0, 0, WIDTH, HEIGHT, 0x00112233);
    guest.show(shown.framebuffer);
    await guest.flush(0, 0, WIDTH, HEIGHT);
    await weston.kill();
    shown.fill(5, 5, 10, 10, 0x00445566);
    await guest.flush(5, 5, 10, 10);
    await weston.start();
    await expectPictureSoon(() => weston.screenshot(), shown.rgb, 'kernel-wayland-next');
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ imports: 2, copiedBytes: 0, rung: 'udmabuf' });
    guest.sink.destroyed(shown.framebuffer);
  });

  test('is not blocked by a compositor that is killed during an import, and imports on the next one', async () => {
    using a = new GuestPicture(WIDTH, HEIGHT);
    using b = new GuestPicture(WIDTH, HEIGHT);
    b.fill(0, 0, WIDTH, HEIGHT, 0x00665544);
    guest.show(a.framebuffer);
    await guest.flush(0, 0, WIDTH, HEIGHT);
    process.kill(weston.pid, 'SIGSTOP');
    guest.show(b.framebuffer);
    // The flush is done although the import was never answered.
    await guest.flush(0, 0, WIDTH, HEIGHT);
    await weston.kill();
    await weston.start();
    await expectPictureSoon(() => weston.screenshot(), b.rgb, 'kernel-wayland-mid-import');
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ copiedBytes: 0, rung: 'udmabuf' });
    guest.sink.destroyed(a.framebuffer);
    guest.sink.destroyed(b.framebuffer);
  });

  test('leaves no dma-bufs behind', async () => {
    using shown = new GuestPicture(WIDTH, HEIGHT);
    guest.show(shown.framebuffer);
    await guest.flush(0, 0, WIDTH, HEIGHT);
    guest.sink.destroyed(shown.framebuffer);
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
    await weston.kill();
    expect(dmabufCount()).toBeLessThanOrEqual(dmabufs);
    await weston.start();
  });
});
