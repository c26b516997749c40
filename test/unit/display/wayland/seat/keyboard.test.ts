import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { KEYBOARD, type FakeSeat, type FakeWindow, SeatRig, keys } from './seat-rig.ts';

expectNoLeaks();

const A = 30;
const S = 31;
const ENTER = 28;
const LEFT_CTRL = 29;
const LEFT_ALT = 56;

let rig: SeatRig;
let window: FakeWindow;
beforeEach(async () => {
  rig = await SeatRig.open();
  window = await rig.addWindow();
});
afterEach(() => rig[Symbol.dispose]());

async function focused(version = 9): Promise<FakeSeat> {
  const seat = await rig.addSeat(version, KEYBOARD);
  seat.keyboard.send('enter', 1, window.far, keys());
  return seat;
}

test.each([1, 5, 8, 9])('Keyboard: sends keys with the kernel’s codes, wl_seat version %i', async (version) => {
  const { keyboard } = await focused(version);
  keyboard.send('key', 2, 0, A, 1);
  keyboard.send('key', 3, 0, A, 0);
  expect(await rig.heard()).toEqual(['key 30 down', 'frame', 'key 30 up', 'frame']);
});

test('Keyboard: ignores the compositor’s repeats', async () => {
  const { keyboard } = await focused();
  keyboard.send('key', 2, 0, A, 1);
  keyboard.send('key', 3, 0, A, 2);
  keyboard.send('key', 4, 0, A, 0);
  expect(await rig.heard()).toEqual(['key 30 down', 'frame', 'key 30 up', 'frame']);
});

test('Keyboard: releases keys on leave, once', async () => {
  const { keyboard } = await focused();
  keyboard.send('key', 2, 0, A, 1);
  keyboard.send('key', 3, 0, S, 1);
  keyboard.send('leave', 4, window.far);
  keyboard.send('enter', 5, window.far, keys());
  keyboard.send('key', 6, 0, A, 0);
  expect((await rig.heard()).slice(4)).toEqual(['key 30 up', 'key 31 up', 'frame']);
});

test('Keyboard: of the keys that are down on enter, presses the modifiers only', async () => {
  const { keyboard } = await rig.addSeat(9, KEYBOARD);
  keyboard.send('enter', 1, window.far, keys(ENTER, LEFT_CTRL));
  keyboard.send('key', 2, 0, ENTER, 0);
  keyboard.send('key', 3, 0, LEFT_CTRL, 0);
  expect(await rig.heard()).toEqual(['key 29 down', 'frame', 'key 29 up', 'frame']);
});

test('Keyboard: a key that two seats hold goes up when the last releases it', async () => {
  const first = await focused();
  const second = await focused();
  first.keyboard.send('key', 2, 0, A, 1);
  second.keyboard.send('key', 2, 0, A, 1);
  first.keyboard.send('leave', 3, window.far);
  const before = await rig.heard();
  second.keyboard.send('key', 3, 0, A, 0);
  expect(before).toEqual(['key 30 down', 'frame']);
  expect(await rig.heard()).toEqual(['key 30 up', 'frame']);
});

test('Keyboard: releases keys when the focus moves to another window, which gets the modifiers', async () => {
  const other = await rig.addWindow();
  const { keyboard } = await focused();
  keyboard.send('key', 2, 0, LEFT_ALT, 1);
  keyboard.send('key', 3, 0, A, 1);
  keyboard.send('leave', 4, window.far);
  keyboard.send('enter', 5, other.far, keys(A, LEFT_ALT));
  expect((await rig.heard()).slice(4)).toEqual(['key 30 up', 'key 56 up', 'frame', 'key 56 down', 'frame']);
});

test('Keyboard: detaching a window releases the keys held there, and no other window’s', async () => {
  const other = await rig.addWindow();
  const first = await focused();
  const second = await rig.addSeat(9, KEYBOARD);
  second.keyboard.send('enter', 1, other.far, keys());
  first.keyboard.send('key', 2, 0, A, 1);
  first.keyboard.send('key', 2, 0, S, 1);
  second.keyboard.send('key', 2, 0, S, 1);
  await rig.heard();
  rig.seats.detach(window.surface);
  expect(await rig.heard()).toEqual(['key 30 up', 'frame']);
  second.keyboard.send('key', 3, 0, S, 0);
  expect(await rig.heard()).toEqual(['key 31 up', 'frame']);
});

test('Keyboard: attaching a window that has the focus presses the modifiers that are down', async () => {
  const surface = rig.compositor.createSurface();
  await rig.settle();
  const { keyboard } = await rig.addSeat(9, KEYBOARD);
  keyboard.send('enter', 1, rig.far(surface), keys(LEFT_CTRL, A));
  keyboard.send('key', 2, 0, LEFT_ALT, 1);
  keyboard.send('key', 2, 0, LEFT_CTRL, 0);
  expect(await rig.heard()).toEqual([]);
  rig.seats.attach(surface, {
    scanout: 0,
    input: rig.sink,
    toGuest: () => undefined,
    grabChanged: () => undefined,
    toggleFullscreen: () => false,
    copyPicture: () => false,
  });
  expect(await rig.heard()).toEqual(['key 56 down', 'frame']);
});

describe('Keyboard: a guest that opens menus when Alt is pressed alone', () => {
  const CTRL_TAP = ['key 29 down', 'frame', 'key 29 up', 'frame'];

  test('sees Ctrl between when Alt+Tab takes the focus away', async () => {
    const { keyboard } = await focused();
    keyboard.send('key', 2, 0, LEFT_ALT, 1);
    keyboard.send('leave', 3, window.far);
    expect(await rig.heard()).toEqual(['key 56 down', 'frame', ...CTRL_TAP, 'key 56 up', 'frame']);
  });

  test('sees Ctrl between when Alt+Tab brings the focus and Alt goes up', async () => {
    const { keyboard } = await rig.addSeat(9, KEYBOARD);
    keyboard.send('enter', 1, window.far, keys(LEFT_ALT));
    keyboard.send('key', 2, 0, LEFT_ALT, 0);
    expect(await rig.heard()).toEqual(['key 56 down', 'frame', ...CTRL_TAP, 'key 56 up', 'frame']);
  });

  test('gets an Alt that the user presses alone', async () => {
    const { keyboard } = await focused();
    keyboard.send('key', 2, 0, LEFT_ALT, 1);
    keyboard.send('key', 3, 0, LEFT_ALT, 0);
    keyboard.send('leave', 4, window.far);
    expect(await rig.heard()).toEqual(['key 56 down', 'frame', 'key 56 up', 'frame']);
  });

  test('sees nothing more when another key was pressed, or Ctrl is down', async () => {
    const { keyboard } = await focused();
    keyboard.send('key', 2, 0, LEFT_ALT, 1);
    keyboard.send('key', 3, 0, A, 1);
    keyboard.send('leave', 4, window.far);
    keyboard.send('enter', 5, window.far, keys());
    keyboard.send('key', 6, 0, LEFT_CTRL, 1);
    keyboard.send('key', 7, 0, LEFT_ALT, 1);
    keyboard.send('leave', 8, window.far);
    expect((await rig.heard()).filter((line) => line !== 'frame')).toEqual([
      ...['key 56 down', 'key 30 down', 'key 30 up', 'key 56 up'],
      ...['key 29 down', 'key 56 down', 'key 29 up', 'key 56 up'],
    ]);
  });
});

describe('Keyboard: keys go up when', () => {
  let seat: FakeSeat;
  beforeEach(async () => {
    seat = await focused();
    seat.keyboard.send('key', 2, 0, A, 1);
    await rig.heard();
  });

  test('the window is detached', () => {
    rig.seats.detach(window.surface);
    expect(rig.sink.lines).toEqual(['key 30 up', 'frame']);
  });

  test('the window is attached again, and keys pressed after that go down', async () => {
    rig.seats.attach(window.surface, {
      scanout: 0,
      input: rig.sink,
      toGuest: () => undefined,
      grabChanged: () => undefined,
      toggleFullscreen: () => false,
      copyPicture: () => false,
    });
    seat.keyboard.send('key', 3, 0, S, 1);
    expect(await rig.heard()).toEqual(['key 30 up', 'frame', 'key 31 down', 'frame']);
  });

  test('the seat loses its keyboard', async () => {
    seat.seat.send('capabilities', 0);
    expect(await rig.heard()).toEqual(['key 30 up', 'frame']);
    expect(await rig.asked()).toContain('wl_keyboard.release');
  });

  test('the seat is removed', async () => {
    rig.server.removeGlobal(seat.name);
    expect(await rig.heard()).toEqual(['key 30 up', 'frame']);
    expect((await rig.asked()).slice(-2)).toEqual(['wl_keyboard.release', 'wl_seat.release']);
  });

  test('the connection is lost', async () => {
    const closed = new Promise((resolve) => rig.display.onClosed(resolve));
    rig.server.client[Symbol.dispose]();
    await closed;
    rig.seats[Symbol.dispose]();
    expect(rig.sink.lines).toEqual(['key 30 up', 'frame']);
  });
});

describe('Keyboard: on a compositor that breaks the protocol', () => {
  test('ignores keys without focus', async () => {
    const { keyboard } = await rig.addSeat(9, KEYBOARD);
    keyboard.send('key', 1, 0, A, 1);
    keyboard.send('leave', 2, window.far);
    keyboard.send('key', 3, 0, A, 0);
    expect(await rig.heard()).toEqual([]);
  });

  test('takes a second enter as a leave and an enter', async () => {
    const { keyboard } = await focused();
    keyboard.send('key', 2, 0, A, 1);
    keyboard.send('enter', 3, window.far, keys());
    keyboard.send('key', 4, 0, A, 1);
    expect(await rig.heard()).toEqual(['key 30 down', 'frame', 'key 30 up', 'frame', 'key 30 down', 'frame']);
  });

  test('ignores keys that go down twice, go up without having been down, or have no code of the kernel’s', async () => {
    const { keyboard } = await focused();
    for (const code of [S, 0x300, 0xffffffff]) keyboard.send('key', 2, 0, code, 0);
    for (const code of [0x300, 0xffffffff, A, A]) keyboard.send('key', 3, 0, code, 1);
    keyboard.send('leave', 4, window.far);
    expect(await rig.heard()).toEqual(['key 30 down', 'frame', 'key 30 up', 'frame']);
  });

  test('ignores the incomplete last key of an array', async () => {
    const { keyboard } = await rig.addSeat(9, KEYBOARD);
    keyboard.send('enter', 1, window.far, keys(LEFT_CTRL, 0xffffffff).subarray(0, 7));
    expect(await rig.heard()).toEqual(['key 29 down', 'frame']);
  });

  test('ignores the focus on a destroyed surface and on one that is not attached', async () => {
    const { keyboard } = await rig.addSeat(9, KEYBOARD);
    const stranger = rig.compositor.createSurface();
    rig.server.confirmsDestructors = false;
    rig.seats.detach(window.surface);
    window.surface.destroy();
    await rig.settle();
    for (const far of [window.far, rig.far(stranger)]) {
      keyboard.send('enter', 1, far, keys(LEFT_CTRL));
      keyboard.send('key', 2, 0, A, 1);
      keyboard.send('leave', 3, far);
    }
    expect(await rig.heard()).toEqual([]);
  });
});

test('Keyboard: sends nothing for a window without input', async () => {
  const deaf = await rig.addWindow(null);
  const { keyboard } = await rig.addSeat(9, KEYBOARD);
  keyboard.send('enter', 1, deaf.far, keys(LEFT_CTRL));
  keyboard.send('key', 2, 0, A, 1);
  keyboard.send('leave', 3, deaf.far);
  expect(await rig.heard()).toEqual([]);
});

test('WaylandSeats: does not bind a seat that is added after dispose', async () => {
  const before = rig.server.requests.filter(({ name }) => name === 'wl_registry.bind');
  rig.seats[Symbol.dispose]();
  rig.server.addGlobal('wl_seat', 9);
  await rig.settle();
  expect(rig.server.requests.filter(({ name }) => name === 'wl_registry.bind')).toEqual(before);
});

test('WaylandSeats: sends no release to a seat of version 1, which has none', async () => {
  const seat = await rig.addSeat(1, KEYBOARD);
  await rig.asked();
  seat.seat.send('capabilities', 0);
  expect(await rig.asked()).toEqual([]);
});
