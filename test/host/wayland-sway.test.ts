/** Pictures on sway, a compositor on wlroots and pixman: what it shows of a window, by its own screencopy. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { writePng } from '../../display/picture/png.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { Picture } from '../../src/core/picture.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { expectSamePicture, isSamePicture, pictureWhen, pixel } from '../rig/picture.ts';
import { Sway, swayMissing } from '../rig/sway.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

/** A whole number at each scale. */
const [WIDTH, HEIGHT] = [600, 480];
const LAST = 0xff8000;

const missing = swayMissing();
if (missing !== null && process.env['CI']) throw new Error(missing);
if (missing !== null) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== null)('WaylandOutput on sway', () => {
  let before: { fds: number; mappings: number };
  let sway: Sway;
  let empty: Picture;
  let windows: WaylandWindows;
  let guest: FakeGuest;
  let bridge: Bridge;
  let shown: GuestPicture;

  beforeEach(() => {
    before = { fds: openFds().size, mappings: mappingCount() };
  });

  afterEach(async () => {
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
    shown[Symbol.dispose]();
    await sway[Symbol.asyncDispose]();
    expect({ fds: openFds().size, mappings: mappingCount() }).toEqual(before);
  });

  /** A guest that shows as many pixels as its window says it has. */
  async function open(scale: number): Promise<void> {
    sway = await Sway.start(WIDTH, HEIGHT, `output * scale ${scale}`);
    empty = sway.screenshot();
    guest = new FakeGuest();
    bridge = new Bridge(guest, { zeroCopy: 'off' });
    windows = await WaylandWindows.open({ socket: sway.socket });
    const told = guest.nextMonitor();
    bridge.show(0, windows.openOutputs(1)[0]!);
    if ((await told)!.width === 1280) await guest.nextMonitor();
    const { width, height } = guest.monitors[0]!;
    shown = new GuestPicture(width, height);
    shown.noise();
    guest.show(shown.framebuffer);
    await guest.flush(0, 0, width, height);
    // In pieces, at odd places.
    for (const [x, y, w, h] of [
      [11, 7, 101, 53],
      [300, 201, 33, 77],
      [width - 9, height - 5, 9, 5],
    ] as const) {
      shown.fill(x, y, w, h, LAST);
      await guest.flush(x, y, w, h);
    }
  }

  async function screenshot(): Promise<Picture> {
    // Taking a screenshot blocks this process.
    await setImmediate();
    return sway.screenshot();
  }

  /** The screen when it shows the piece that was drawn last. */
  const lastPicture = (): Promise<Picture> =>
    pictureWhen(screenshot, (picture) => pixel(picture, WIDTH - 1, HEIGHT - 1) === LAST);

  test.each([1, 2])('shows each guest pixel as one screen pixel at scale %i', async (scale) => {
    await open(scale);
    expect(guest.monitors[0]).toMatchObject({ width: WIDTH, height: HEIGHT });
    expectSamePicture(await lastPicture(), shown.rgb, `sway-${scale}`);
  });

  test('at scale 1.5 looks as the same picture of another client, which sway scales down from scale 2', async () => {
    await open(1.5);
    // This sway knows whole scales only, the next larger one.
    expect(guest.monitors[0]).toMatchObject({ width: (WIDTH / 1.5) * 2, height: (HEIGHT / 1.5) * 2 });
    const taken = await lastPicture();
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
    await pictureWhen(screenshot, (picture) => isSamePicture(picture, empty));
    expectSamePicture(taken, await swaybg(shown.rgb, taken), 'sway-1.5');
  });

  /** The screen with this picture as its wallpaper, which is not drawn at once: when it is as `expected`, or after many looks. */
  async function swaybg(picture: Picture, expected: Picture): Promise<Picture> {
    let looks = 0;
    const file = `${sway.socket}.png`;
    await writePng(file, picture);
    const child = spawn('swaybg', ['-i', file, '-m', 'stretch'], {
      env: { ...process.env, WAYLAND_DISPLAY: sway.socket },
      stdio: 'ignore',
    });
    const ended = once(child, 'close');
    try {
      return await pictureWhen(screenshot, (taken) => isSamePicture(taken, expected) || ++looks === 50);
    } finally {
      child.kill();
      await ended;
    }
  }
});
