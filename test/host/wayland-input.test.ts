/** A guest in a window of sway, with virtual devices that type, point and grab. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { WaylandOutput } from '../../display/wayland/output.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { GuestInput } from '../../src/core/input.ts';
import { openFds } from '../rig/process-resources.ts';
import { pictureWhen, pixel } from '../rig/picture.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { SinkLog } from '../unit/display/wayland/sink-log.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

/** Size of the screen, which the window fills. */
const [WIDTH, HEIGHT] = [640, 480];
/** Size of the guest's picture: 640x400 on the screen, 40 from the top, two screen pixels per pixel. */
const [GUEST_WIDTH, GUEST_HEIGHT] = [320, 200];
const GREY = 0x808080;
const RED = 0xff0000;
const BLACK = 0;

const [A, G, LEFT_CTRL, LEFT_ALT, LEFT] = [30, 34, 29, 56, 0x110];

class GuestLog extends SinkLog implements GuestInput {
  scanoutSized = (): void => undefined;
}

describe.skipIf(skipWithoutSway()).each([1, 2])('WaylandOutput: input on sway at scale %i', (scale) => {
  let fds: ReturnType<typeof openFds>;
  let sway: Sway;
  let windows: WaylandWindows;
  let output: WaylandOutput;
  let bridge: Bridge;
  let person: VirtualInput;
  let picture: GuestPicture;
  let cursor: GuestPicture;
  const guest = new FakeGuest();
  const log = new GuestLog();

  beforeAll(async () => {
    fds = openFds();
    picture = new GuestPicture(GUEST_WIDTH, GUEST_HEIGHT);
    picture.fill(0, 0, GUEST_WIDTH, GUEST_HEIGHT, GREY);
    cursor = new GuestPicture(16, 16, DRM_FORMAT.ARGB8888);
    cursor.fill(0, 0, 16, 16, 0xff000000 | RED);
    sway = await Sway.start(WIDTH, HEIGHT, `output * scale ${scale}\nseat * pointer_constraint enable`);
    person = await VirtualInput.plug(sway.socket);
    windows = await WaylandWindows.open({ socket: sway.socket });
    // Attached before the window is mapped, as the command does.
    output = windows.openOutputs(1)[0]!;
    bridge = new Bridge(guest, { zeroCopy: 'off', input: log });
    bridge.show(0, output);
    guest.show(picture.framebuffer);
    await guest.flush(0, 0, GUEST_WIDTH, GUEST_HEIGHT);
    await screen((at) => at(320, 240) === GREY && at(1, 1) === BLACK);
  });

  afterAll(async () => {
    person[Symbol.dispose]();
    bridge[Symbol.dispose]();
    windows[Symbol.dispose]();
    picture[Symbol.dispose]();
    cursor[Symbol.dispose]();
    await sway[Symbol.asyncDispose]();
    expect(openFds()).toEqual(fds);
  });

  /** Resolves when a screenshot by the compositor satisfies `isSo`. */
  const screen = (isSo: (at: (x: number, y: number) => number) => boolean) =>
    pictureWhen(
      () => roundtrip().then(() => sway.screenshot()),
      (taken) => isSo((x, y) => pixel(taken, x, y)),
    );

  function roundtrip(): Promise<void> {
    return windows.roundtrip();
  }

  /** What the guest was sent since the last call. */
  async function heard(): Promise<string[]> {
    await person.sent();
    await roundtrip();
    return log.lines.splice(0).filter((line) => line !== 'frame');
  }

  test('clicks arrive at the guest pixel under the pointer', async () => {
    person.pointer.moveTo(320, 240, WIDTH, HEIGHT);
    await heard();
    person.pointer.moveTo(100, 60, WIDTH, HEIGHT);
    person.pointer.button(LEFT, true);
    person.pointer.button(LEFT, false);
    expect(await heard()).toEqual(['to 0 50 10', `button ${LEFT} down`, `button ${LEFT} up`]);
  });

  test('keys arrive, and a grab sends relative motion', async () => {
    person.keyboard.key(A, true);
    person.keyboard.key(A, false);
    expect(await heard()).toEqual([`key ${A} down`, `key ${A} up`]);
    for (const code of [LEFT_CTRL, LEFT_ALT, G]) person.keyboard.key(code, true);
    for (const code of [G, LEFT_ALT, LEFT_CTRL]) person.keyboard.key(code, false);
    await heard();
    // The compositor may confirm the lock after the keys.
    await heard();
    person.pointer.moveBy(-1000, 3);
    expect(await heard()).toEqual(['by -1000 3']);
    for (const code of [LEFT_CTRL, LEFT_ALT, G]) person.keyboard.key(code, true);
    for (const code of [G, LEFT_ALT, LEFT_CTRL]) person.keyboard.key(code, false);
    await heard();
  });

  test('the pointer has the guest’s cursor as its image, scaled as the picture is, until the guest hides it', async () => {
    person.pointer.moveTo(100, 140, WIDTH, HEIGHT);
    await heard();
    guest.sink.cursor(0, cursor.framebuffer, 4, 6, 46, 44);
    // 32x32 with the hotspot at 8, 12.
    await screen(
      (at) =>
        at(92, 128) === RED &&
        at(123, 159) === RED &&
        at(91, 128) === GREY &&
        at(92, 127) === GREY &&
        at(124, 159) === GREY &&
        at(123, 160) === GREY,
    );
    guest.sink.cursor(0, null, 0, 0, 0, 0);
    await screen((at) => at(100, 140) === GREY);
  });
});
