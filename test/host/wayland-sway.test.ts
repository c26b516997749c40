/** Pictures on sway, a compositor on wlroots and pixman: what it shows of a window, by its own screencopy. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { crop } from '../../display/picture/difference.ts';
import { readPng } from '../../display/picture/png.ts';
import { BAR_HEIGHT } from '../../display/wayland/decoration.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { expectSamePicture, pictureWhen, pixel } from '../rig/picture.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

/** Where the colour of the last piece is on a screen, and how many pixels have it. */
interface Bounds {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly count: number;
}

function boundsOf(picture: Picture): Bounds {
  const words = new Uint32Array(picture.data.buffer, picture.data.byteOffset, picture.width * picture.height);
  let [left, top, right, bottom, count] = [picture.width, picture.height, 0, 0, 0];
  words.forEach((word, at) => {
    if ((word & 0xff_ff_ff) !== 0x00_80_ff) return;
    const [x, y] = [at % picture.width, Math.floor(at / picture.width)];
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
    count++;
  });
  return { x: left, y: top, width: right - left, height: bottom - top, count };
}

/** A whole number at each scale. */
const [WIDTH, HEIGHT] = [600, 480];
const LAST = 0xff8000;
const BUTTONS_WIDTH = 96;
/** The Windows key, as a modifier. */
const MOD4 = 64;

describe.skipIf(skipWithoutSway())('WaylandOutput on sway', () => {
  let before: { fds: number; mappings: number };
  let sway: Sway;
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

  /** A guest that shows as many pixels as its window says it has, which is to be so many rows. `config` is added to sway's. */
  async function open(scale: number, rows = HEIGHT, config = '', title = ''): Promise<void> {
    sway = await Sway.start(WIDTH, HEIGHT, `output * scale ${scale}\n${config}`);
    guest = new FakeGuest();
    bridge = new Bridge(guest, { zeroCopy: 'off' });
    windows = await WaylandWindows.open({ socket: sway.socket, title });
    let told = guest.nextMonitor();
    bridge.show(0, windows.openOutputs(1)[0]!);
    for (; (await told)!.height !== rows; told = guest.nextMonitor());
    await show(guest.monitors[0]!);
  }

  async function show({ width, height }: Size): Promise<void> {
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

  test.each([1, 1.5, 2])('shows each guest pixel as one screen pixel at scale %d', async (scale) => {
    await open(scale);
    expect(guest.monitors[0]).toMatchObject({ width: WIDTH, height: HEIGHT });
    expectSamePicture(await lastPicture(), shown.rgb, `sway-${scale}`);
  });

  describe('with decorations refused', () => {
    const CSD = 'for_window [app_id=".*"] border csd';

    /** The title bar that `open` comes to. The guest's pixels below it are checked. */
    async function titleBar(scale: number, title: string): Promise<Picture> {
      const high = BAR_HEIGHT * scale;
      await open(scale, HEIGHT - high, CSD, title);
      const screen = await lastPicture();
      const below = { x: 0, y: high, width: WIDTH, height: HEIGHT - high };
      expectSamePicture(crop(screen, below), shown.rgb, `sway-below-bar-${scale}`);
      return crop(screen, { x: 0, y: 0, width: WIDTH, height: high });
    }

    test.each([1, 1.5, 2])('draws its own title bar as in the golden picture at scale %d', async (scale) => {
      const golden = join(import.meta.dirname, `golden/title-bar-${scale}.png`);
      expectSamePicture(await titleBar(scale, ''), await readPng(golden), `sway-title-bar-${scale}`);
    });

    test('has the title in the middle of the bar', async () => {
      const bar = await titleBar(1, 'MMMMMMMM');
      const ink = Array.from({ length: WIDTH - 2 * BUTTONS_WIDTH }, (_, x) => x + BUTTONS_WIDTH).filter((x) =>
        Array.from({ length: BAR_HEIGHT }, (_, y) => pixel(bar, x, y)).some((colour) => colour !== pixel(bar, 0, 0)),
      );
      expect(ink.length).toBeGreaterThan(8);
      expect(Math.abs((ink[0]! + ink.at(-1)! + 1) / 2 - WIDTH / 2)).toBeLessThanOrEqual(2);
    });

    test('is full of its picture while it is dragged to another shape, and has it in its own shape afterwards', async () => {
      sway = await Sway.start(
        WIDTH,
        HEIGHT,
        `${CSD}\nfor_window [app_id=".*"] floating enable\nfloating_modifier Mod4`,
      );
      guest = new FakeGuest();
      bridge = new Bridge(guest, { zeroCopy: 'off' });
      windows = await WaylandWindows.open({ socket: sway.socket });
      bridge.show(0, windows.openOutputs(1)[0]!);
      shown = new GuestPicture(200, 150);
      shown.fill(0, 0, 200, 150, LAST);
      guest.show(shown.framebuffer);
      await guest.flush(0, 0, 200, 150);
      // Sway gives the window the size of the picture, title bar included.
      const [left, high] = [(WIDTH - 200) / 2, 150 - BAR_HEIGHT];
      const coloured = async (width: number, height: number): Promise<Bounds> =>
        boundsOf(
          await pictureWhen(screenshot, (picture) => {
            const bounds = boundsOf(picture);
            return bounds.width === width && bounds.height === height;
          }),
        );
      const before = await coloured(Math.round((high * 4) / 3), high);

      // Sway's own way to drag a corner.
      using input = await VirtualInput.plug(sway.socket);
      const [right, bottom] = [left + 200, before.y + before.height];
      input.pointer.moveTo(right - 10, bottom - 10, WIDTH, HEIGHT);
      input.keyboard.modifiers(MOD4);
      input.pointer.button(BTN.RIGHT, true);
      input.pointer.moveTo(right + 90, bottom + 10, WIDTH, HEIGHT);
      await input.sent();
      const dragged = await coloured(300, high + 20);
      // But for the pointer.
      expect(dragged.count).toBeGreaterThan(300 * (high + 20) - 500);
      input.pointer.button(BTN.RIGHT, false);
      input.keyboard.modifiers(0);
      await input.sent();
      await coloured(Math.round(((high + 20) * 4) / 3), high + 20);
    });
  });
});
