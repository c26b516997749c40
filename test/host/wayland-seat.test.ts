/** The seats of sway, with a virtual keyboard and a virtual pointer. */
import { readSync, writeSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  WaylandDisplay,
  type WlBuffer,
  WlCompositor,
  WlSeat,
  WlShm,
  WlShmFormat,
  type WlSurface,
  XdgWmBase,
} from '../../display/wayland/client/index.ts';
import type { CursorImage } from '../../display/wayland/seat/attached-surface.ts';
import { WaylandSeats } from '../../display/wayland/seat/seats.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { openFds } from '../rig/process-resources.ts';
import { pixel } from '../rig/picture.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { SinkLog } from '../unit/display/wayland/sink-log.ts';

const WIDTH = 640;
const HEIGHT = 480;
const GREY = 0xff808080;
const RED = 0xffff0000;

const A = 30;
const G = 34;
const X = 45;
/** Z on a German keyboard. */
const Y = 21;
const LEFT_CTRL = 29;
const LEFT_ALT = 56;
const LEFT = 0x110;

function solid(shm: WlShm, width: number, height: number, colour: number): WlBuffer {
  using memfd = createMemfd('buffer', width * height * 4);
  writeSync(memfd.fd, new Uint8Array(new Uint32Array(width * height).fill(colour).buffer));
  using pool = shm.createPool(memfd, width * height * 4);
  return pool.createBuffer(0, width, height, width * 4, WlShmFormat.argb8888);
}

/** Positions are in screen pixels; the guest's picture has half as many in each direction. */
describe.skipIf(skipWithoutSway()).each([1, 2])('WaylandSeats on sway at scale %i', (scale) => {
  let fds: ReturnType<typeof openFds>;
  let sway: Sway;
  let compositor: WlCompositor;
  let display: WaylandDisplay;
  let shm: WlShm;
  let surface: WlSurface;
  let seats: WaylandSeats;
  let input: VirtualInput;
  const sink = new SinkLog();
  const grabs: boolean[] = [];

  beforeAll(async () => {
    fds = openFds();
    grabs.length = 0;
    sway = await Sway.start(WIDTH, HEIGHT, `bindsym x nop\noutput * scale ${scale}\nseat * pointer_constraint enable`);
    display = await WaylandDisplay.connect({ socket: sway.socket });
    compositor = display.bind(WlCompositor, 6)!;
    shm = display.bind(WlShm, 1)!;
    seats = new WaylandSeats(display);
    surface = compositor.createSurface();
    const target = {
      scanout: 0,
      input: sink,
      toGuest: (x: number, y: number, out: { x: number; y: number }) =>
        void Object.assign(out, { x: (x * scale) / 2, y: (y * scale) / 2 }),
      grabChanged: (isGrabbed: boolean) => void grabs.push(isGrabbed),
      toggleFullscreen: () => false,
      copyPicture: () => false,
    };
    seats.attach(surface, target);
    input = await VirtualInput.plug(sway.socket);
    await mapWindow(surface);
  });

  afterAll(async () => {
    input[Symbol.dispose]();
    seats[Symbol.dispose]();
    display[Symbol.dispose]();
    await sway[Symbol.asyncDispose]();
    expect(openFds()).toEqual(fds);
  });

  beforeEach(async () => {
    input.pointer.moveTo(100, 50, WIDTH, HEIGHT);
    await heard();
  });

  /** Maps the surface as a window; resolves when it is on screen and in focus. */
  async function mapWindow(surface: WlSurface): Promise<void> {
    const shell = display.bind(XdgWmBase, 1)!;
    shell.listener = { ping: (serial) => shell.pong(serial) };
    const xdgSurface = shell.getXdgSurface(surface);
    xdgSurface.getToplevel();
    const shown = new Promise<void>((resolve) => {
      xdgSurface.listener = {
        configure: (serial) => {
          xdgSurface.ackConfigure(serial);
          surface.attach(solid(shm, WIDTH / scale, HEIGHT / scale, GREY), 0, 0);
          surface.damage(0, 0, WIDTH, HEIGHT);
          surface.frame().listener = { done: () => resolve() };
          surface.commit();
        },
      };
    });
    surface.commit();
    await shown;
  }

  /** What the guest was sent since the last call. */
  async function heard(): Promise<string[]> {
    await input.sent();
    await display.roundtrip();
    return sink.lines.splice(0);
  }

  /** A red cursor, committed: 16 of the screen's pixels in each direction, pointing at 4, 6. */
  function redCursor(buffer: WlBuffer): CursorImage {
    const surface = compositor.createSurface();
    surface.setBufferScale(scale);
    surface.attach(buffer, 0, 0);
    surface.damage(0, 0, 16, 16);
    surface.commit();
    return { surface, hotspotX: 4 / scale, hotspotY: 6 / scale };
  }

  function press(...codes: number[]): void {
    for (const code of codes) input.keyboard.key(code, true);
  }

  function release(...codes: number[]): void {
    for (const code of codes) input.keyboard.key(code, false);
  }

  function shortcut(): void {
    press(LEFT_CTRL, LEFT_ALT, G);
    release(G, LEFT_ALT, LEFT_CTRL);
  }

  test('send keys with the kernel’s codes', async () => {
    press(A);
    release(A);
    expect(await heard()).toEqual(['key 30 down', 'frame', 'key 30 up', 'frame']);
  });

  test('send the kernel’s codes whatever the keymap of the desktop', async () => {
    let keymap = '';
    using seat = display.bind(WlSeat, 1)!;
    using keyboard = seat.getKeyboard();
    keyboard.listener = {
      keymap: (_format, fd, size) => {
        using file = fd;
        const text = Buffer.alloc(size);
        readSync(file.fd, text, 0, size, 0);
        keymap = text.toString('latin1');
      },
    };
    using german = await VirtualInput.plug(sway.socket, { layout: 'de' });
    for (const isPressed of [true, false]) german.keyboard.key(Y, isPressed);
    await german.sent();
    expect(await heard()).toEqual(['key 21 down', 'frame', 'key 21 up', 'frame']);
    expect(keymap).toMatch(/name\[\w+\]="German"/);
  });

  test('send the compositor’s pointer position, and clicks', async () => {
    input.pointer.moveTo(200, 120, WIDTH, HEIGHT);
    input.pointer.button(LEFT, true);
    input.pointer.button(LEFT, false);
    expect(await heard()).toEqual(['to 0 100 60', 'frame', 'button 272 down', 'frame', 'button 272 up', 'frame']);
  });

  test('send notches of the wheel, not the compositor’s distances', async () => {
    input.pointer.wheel(0, 15, 1);
    input.pointer.wheel(1, -30, -2);
    expect(await heard()).toEqual(['wheel vertical 120', 'frame', 'wheel horizontal -240', 'frame']);
  });

  test('send the compositor’s shortcuts and motion beyond the edge during a grab', async () => {
    press(X);
    release(X);
    const before = await heard();
    shortcut();
    await heard();
    press(X);
    release(X);
    input.pointer.moveBy(-1000, 3);
    const grabbed = await heard();
    shortcut();
    await heard();
    press(X);
    release(X);
    input.pointer.moveBy(10 / scale, 4 / scale);
    expect(before).toEqual([]);
    expect(grabbed).toEqual(['key 45 down', 'frame', 'key 45 up', 'frame', 'by -1000 3', 'frame']);
    expect(await heard()).toEqual(['to 0 55 27', 'frame']);
    expect(grabs).toEqual([true, false]);
  });

  test('show the guest’s cursor as the pointer’s image, with its hotspot, until the guest hides it', async () => {
    using buffer = solid(shm, 16, 16, RED);
    seats.setCursor(surface, redCursor(buffer));
    await heard();
    const shown = sway.screenshot();
    seats.setCursor(surface, null);
    await heard();
    const hidden = sway.screenshot();
    const isRed = (x: number, y: number): boolean => pixel(shown, x, y) === (RED & 0xffffff);
    expect([isRed(96, 44), isRed(111, 59)]).toEqual([true, true]);
    expect([isRed(95, 44), isRed(96, 43), isRed(112, 59), isRed(111, 60)]).toEqual([false, false, false, false]);
    expect(pixel(hidden, 100, 50)).toBe(GREY & 0xffffff);
  });

  test('show the image of a locked pointer at the guest’s cursor, from which it goes on when it is free', async () => {
    using buffer = solid(shm, 16, 16, RED);
    seats.setCursor(surface, redCursor(buffer));
    seats.moveCursor(surface, 100 / scale, 50 / scale);
    shortcut();
    await heard();
    seats.moveCursor(surface, 300 / scale, 200 / scale);
    await heard();
    const locked = sway.screenshot();
    shortcut();
    await heard();
    const unlocked = sway.screenshot();
    seats.setCursor(surface, null);
    const places = [
      [100, 50],
      [300, 200],
    ] as const;
    expect(places.map(([x, y]) => pixel(locked, x, y))).toEqual([GREY & 0xffffff, RED & 0xffffff]);
    expect(places.map(([x, y]) => pixel(unlocked, x, y))).toEqual([GREY & 0xffffff, RED & 0xffffff]);
    sink.lines.length = 0;
    input.pointer.moveBy(2 / scale, 4 / scale);
    expect(await heard()).toEqual(['to 0 151 102', 'frame']);
  });

  test('release keys and end the grab when another window takes the focus', async () => {
    grabs.length = 0;
    shortcut();
    press(A);
    await heard();
    await mapWindow(compositor.createSurface());
    const taken = await heard();
    release(A);
    expect(taken).toEqual(['key 30 up', 'frame']);
    expect(grabs).toEqual([true, false]);
    expect(await heard()).toEqual([]);
  });
});
