import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import { Needle } from '../../display/picture/needle.ts';
import { readPng } from '../../display/picture/png.ts';
import { BAR_HEIGHT } from '../../display/wayland/decoration.ts';
import type { WaylandOutput } from '../../display/wayland/output.ts';
import { WaylandWindows, type WaylandWindowsOptions } from '../../display/wayland/windows.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { Picture } from '../../src/core/picture.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { centred, expectPictureSoon, expectSamePicture, pictureWhen } from '../rig/picture.ts';
import { skipWithoutWeston, startWeston, type Weston, type WestonOptions } from '../rig/weston.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

const [WIDTH, HEIGHT] = [320, 200];

/** A guest in a window that fills a headless Weston. Its screenshots are compared with the guest's picture. */
describe.skipIf(skipWithoutWeston())('WaylandOutput on Weston', () => {
  let weston: Weston;
  let windows: WaylandWindows;
  let output: WaylandOutput;
  let guest: FakeGuest;
  let bridge: Bridge;
  let pictures: GuestPicture[];
  let before: { fds: number; mappings: number };

  beforeEach(() => {
    pictures = [];
  });

  afterEach(async () => {
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
    for (const each of pictures) each[Symbol.dispose]();
    expect(openFds().size).toBe(before.fds);
    expect(mappingCount()).toBe(before.mappings);
    await weston[Symbol.asyncDispose]();
  });

  async function open(westonOptions: WestonOptions, options: WaylandWindowsOptions = {}): Promise<void> {
    weston = await startWeston(westonOptions);
    before = { fds: openFds().size, mappings: mappingCount() };
    guest = new FakeGuest();
    bridge = new Bridge(guest, { zeroCopy: 'off' });
    windows = await WaylandWindows.open({ socket: weston.socket, ...options });
    output = windows.openOutputs(1)[0]!;
    const told = guest.nextMonitor();
    bridge.show(0, output);
    await told;
    if (guest.monitors[0]!.width === 1280) await guest.nextMonitor();
  }

  function picture(width: number, height: number, seed = 1): GuestPicture {
    const made = new GuestPicture(width, height);
    pictures.push(made);
    made.noise(seed);
    return made;
  }

  /** Resolves when the picture is on the compositor's screen, or the compositor was too busy for it. */
  async function show(shown: GuestPicture): Promise<Picture> {
    const { width, height } = shown.framebuffer;
    guest.show(shown.framebuffer);
    await guest.flush(0, 0, width, height);
    return shown.rgb;
  }

  test.each([
    ['at scale 1', { size: [WIDTH, HEIGHT] }],
    ['at scale 2', { size: [WIDTH / 2, HEIGHT / 2], scale: 2 }],
  ] satisfies [string, WestonOptions][])(
    'shows each guest pixel as one screen pixel %s, and gives the guest the window’s size',
    async (scale, options) => {
      await open(options);
      expect(guest.monitors[0]).toMatchObject({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 });
      const expected = await show(picture(WIDTH, HEIGHT));
      await expectPictureSoon(() => weston.screenshot(), expected, `wayland ${scale}`);
    },
  );

  test('shows the damage of a redraw and nothing else', async () => {
    await open({ size: [WIDTH, HEIGHT] });
    const shown = picture(WIDTH, HEIGHT);
    for (let i = 0; i < 5; i++) {
      await show(shown);
      shown.fill(10 * i, 7 * i, 20, 20, 0x00ff00 + i);
      await guest.flush(10 * i, 7 * i, 20, 20);
    }
    // The flush of a copied frame is done before it is on screen.
    await expectPictureSoon(() => weston.screenshot(), shown.rgb, 'wayland-damage');
  });

  test('letterboxes a picture of another shape', async () => {
    await open({ size: [WIDTH, HEIGHT] });
    const expected = await show(picture(WIDTH, HEIGHT / 2));
    await expectPictureSoon(() => weston.screenshot(), centred(expected, WIDTH, HEIGHT), 'wayland letterbox');
  });

  test('draws its own title bar as in the golden picture on a desktop, because Weston draws none', async () => {
    weston = await startWeston({ size: [640, 480], shell: 'desktop' });
    before = { fds: openFds().size, mappings: mappingCount() };
    guest = new FakeGuest();
    bridge = new Bridge(guest, { zeroCopy: 'off' });
    windows = await WaylandWindows.open({ socket: weston.socket, title: '' });
    bridge.show(0, windows.openOutputs(1)[0]!);
    const shown = new Needle(await show(picture(240, 150)), null);
    // Weston puts it anywhere.
    const find = (screen: Picture) => shown.find(screen, { anywhere: true });
    const screen = await pictureWhen(
      () => weston.screenshot(),
      (taken) => find(taken) !== null,
    );
    const { x, y, width } = find(screen)!;
    const bar = crop(screen, { x, y: y - BAR_HEIGHT, width, height: BAR_HEIGHT });
    const golden = join(import.meta.dirname, 'golden/title-bar-weston.png');
    expectSamePicture(bar, await readPng(golden), 'weston-title-bar');
  });

  test('survives the compositor: the next one shows the guest’s current picture', async () => {
    await open({ size: [WIDTH, HEIGHT] });
    const shown = picture(WIDTH, HEIGHT);
    await show(shown);
    await weston.kill();
    shown.fill(0, 0, 50, 50, 0x00336699);
    await guest.flush(0, 0, 50, 50);
    await weston.start();
    await expectPictureSoon(() => weston.screenshot(), shown.rgb, 'wayland-next-compositor');
  });
});
