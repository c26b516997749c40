import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FakeObject } from '../fake-server.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { KEYBOARD, POINTER, type FakeSeat, type FakeWindow, SeatRig, keys } from './seat-rig.ts';

expectNoLeaks();

const CONSTRAINTS = ['zwp_pointer_constraints_v1', 'zwp_relative_pointer_manager_v1'];
const INHIBITORS = 'zwp_keyboard_shortcuts_inhibit_manager_v1';
const ONESHOT = 1;

const LEFT_CTRL = 29;
const LEFT_SHIFT = 42;
const RIGHT_ALT = 100;
const A = 30;
const F = 33;
const G = 34;

let rig: SeatRig;
let window: FakeWindow;
let seat: FakeSeat;
let lock: FakeObject;
let relative: FakeObject;
let inhibitor: FakeObject;
afterEach(() => rig[Symbol.dispose]());

/** A window with the pointer at 10, 0 and the keyboard in it. Drops what was requested and heard before. */
async function open(globals: readonly string[]): Promise<void> {
  rig = await SeatRig.open(globals);
  rig.server.on('zwp_pointer_constraints_v1.lock_pointer', ({ args }) => {
    lock = args.id as FakeObject;
  });
  rig.server.on('zwp_relative_pointer_manager_v1.get_relative_pointer', ({ args }) => {
    relative = args.id as FakeObject;
  });
  rig.server.on(`${INHIBITORS}.inhibit_shortcuts`, ({ args }) => {
    inhibitor = args.id as FakeObject;
  });
  window = await rig.addWindow();
  seat = await rig.addSeat(9, POINTER | KEYBOARD);
  seat.pointer.send('enter', 1, window.far, 10, 0);
  seat.pointer.send('frame');
  seat.keyboard.send('enter', 2, window.far, keys());
  await rig.heard();
  await rig.asked();
}

function press(...codes: number[]): void {
  for (const code of codes) seat.keyboard.send('key', 3, 0, code, 1);
}

function release(...codes: number[]): void {
  for (const code of codes) seat.keyboard.send('key', 4, 0, code, 0);
}

function shortcut(): void {
  press(LEFT_CTRL, RIGHT_ALT, G);
  release(G, RIGHT_ALT, LEFT_CTRL);
}

/** Grabs, and has the compositor confirm it. */
async function grab(): Promise<void> {
  shortcut();
  await rig.settle();
  lock.send('locked');
  inhibitor.send('active');
  await rig.heard();
  await rig.asked();
}

test('WaylandSeat: the grab shortcut locks the pointer and inhibits shortcuts, once each, and tells the window', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  expect(await rig.asked()).toEqual([
    `zwp_pointer_constraints_v1.lock_pointer null ${ONESHOT}`,
    'zwp_relative_pointer_manager_v1.get_relative_pointer',
    `${INHIBITORS}.inhibit_shortcuts`,
  ]);
  expect(window.grabs).toEqual([]);
  lock.send('locked');
  inhibitor.send('active');
  await rig.settle();
  expect(window.grabs).toEqual([true]);
});

describe('WaylandSeat: on a compositor that asks the user, in a dialog that takes the focus', () => {
  /** As GNOME does: the pointer is locked until the dialog is there. */
  async function ask(): Promise<void> {
    await open([...CONSTRAINTS, INHIBITORS]);
    shortcut();
    await rig.settle();
    lock.send('locked');
    lock.send('unlocked');
    seat.keyboard.send('leave', 5, window.far);
    seat.pointer.send('leave', 6, window.far);
    await rig.asked();
  }

  function comeBack(): void {
    seat.keyboard.send('enter', 7, window.far, keys());
    seat.pointer.send('enter', 8, window.far, 10, 0);
    seat.pointer.send('frame');
  }

  test('the request outlives the dialog', async () => {
    await ask();
    expect(window.grabs).toEqual([true, false]);
    expect(await rig.asked()).not.toContain('zwp_keyboard_shortcuts_inhibitor_v1.destroy');
  });

  test('who agrees has the grab when the focus is back, and the pointer is locked again', async () => {
    await ask();
    inhibitor.send('active');
    comeBack();
    expect(await rig.asked()).toEqual([
      `zwp_pointer_constraints_v1.lock_pointer null ${ONESHOT}`,
      'zwp_relative_pointer_manager_v1.get_relative_pointer',
    ]);
    lock.send('locked');
    relative.send('relative_motion', 0, 0, 9, 9, 1, 2);
    expect(await rig.heard()).toContain('by 1 2');
    expect(window.grabs).toEqual([true, false, true]);
  });

  test('who refuses has no grab, and the next shortcut asks again', async () => {
    await ask();
    comeBack();
    expect(await rig.asked()).toEqual(['zwp_keyboard_shortcuts_inhibitor_v1.destroy']);
    expect(window.grabs).toEqual([true, false]);
    shortcut();
    expect(await rig.asked()).toContain(`${INHIBITORS}.inhibit_shortcuts`);
  });

  test('the window that comes back may be another one, which gets no grab', async () => {
    const other = (await ask(), await rig.addWindow());
    inhibitor.send('active');
    seat.keyboard.send('enter', 7, other.far, keys());
    expect(await rig.asked()).toContain('zwp_keyboard_shortcuts_inhibitor_v1.destroy');
    expect([window.grabs, other.grabs]).toEqual([[true, false, true, false], []]);
  });
});

test('WaylandSeat: a compositor that refuses by `inactive` leaves no grab', async () => {
  await open([INHIBITORS]);
  shortcut();
  await rig.settle();
  inhibitor.send('inactive');
  expect(await rig.asked()).toContain('zwp_keyboard_shortcuts_inhibitor_v1.destroy');
  expect(window.grabs).toEqual([]);
});

test('WaylandSeat: the full-screen shortcut goes to the window, and no key of it stays down in the guest', async () => {
  await open([]);
  press(LEFT_CTRL, RIGHT_ALT, F);
  release(F);
  expect((await rig.heard()).filter((line) => line !== 'frame')).toEqual([
    'key 29 down',
    'key 100 down',
    'key 29 up',
    'key 100 up',
  ]);
  expect(window.toggles).toBe(1);
});

test('WaylandSeat: the guest gets the full-screen shortcut if the compositor has no full screen', async () => {
  await open([]);
  window.hasFullscreen = false;
  press(LEFT_CTRL, RIGHT_ALT, F);
  expect(await rig.heard()).toContain('key 33 down');
});

test('WaylandSeat: no key of the grab shortcut stays down in the guest, and it does not get G', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  expect(await rig.heard()).toEqual([
    'key 29 down',
    'frame',
    'key 100 down',
    'frame',
    'key 29 up',
    'key 100 up',
    'frame',
  ]);
});

test('WaylandSeat: G again with the modifiers held all the time ends the grab', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(LEFT_CTRL, RIGHT_ALT, G);
  release(G);
  await rig.asked();
  inhibitor.send('active');
  await rig.settle();
  press(G);
  expect(await rig.asked()).toEqual([
    'zwp_locked_pointer_v1.destroy',
    'zwp_relative_pointer_v1.destroy',
    'zwp_keyboard_shortcuts_inhibitor_v1.destroy',
  ]);
  expect(window.grabs).toEqual([true, false]);
});

test('WaylandSeat: a grabbed pointer moves the guest’s by the unaccelerated distance', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  await grab();
  relative.send('relative_motion', 0, 0, 9, 9, 1.5, -2.25);
  expect(await rig.heard()).toEqual(['by 1.5 -2.25', 'frame']);
});

test('WaylandSeat: relative motion is ignored before the pointer is locked and after', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  await rig.settle();
  relative.send('relative_motion', 0, 0, 9, 9, 9, 9);
  lock.send('locked');
  lock.send('unlocked');
  relative.send('relative_motion', 0, 0, 9, 9, 9, 9);
  expect((await rig.heard()).filter((line) => line.startsWith('by'))).toEqual([]);
});

describe('WaylandSeat: a grab ends when', () => {
  const ENDED = [
    'zwp_locked_pointer_v1.destroy',
    'zwp_relative_pointer_v1.destroy',
    'zwp_keyboard_shortcuts_inhibitor_v1.destroy',
  ];

  test.each<[string, () => void]>([
    ['the keyboard leaves the window', () => seat.keyboard.send('leave', 5, window.far)],
    ['the compositor unlocks the pointer', () => lock.send('unlocked')],
    ['the user has ended the inhibition of shortcuts', () => inhibitor.send('inactive')],
    ['the seat loses its pointer', () => seat.seat.send('capabilities', KEYBOARD)],
    ['the seat loses its keyboard', () => seat.seat.send('capabilities', POINTER)],
    ['the seat is removed', () => rig.server.removeGlobal(seat.name)],
    ['the window is detached', () => rig.seats.detach(window.surface)],
  ])('%s', async (_, end) => {
    await open([...CONSTRAINTS, INHIBITORS]);
    await grab();
    end();
    expect((await rig.asked()).filter((request) => ENDED.includes(request))).toEqual(ENDED);
    expect(window.grabs).toEqual([true, false]);
  });
});

test('WaylandSeat: a grab ends without requests when the connection is lost', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  rig.seats.setCursor(window.surface, null);
  await grab();
  const closed = new Promise((resolve) => rig.display.onClosed(resolve));
  rig.server.client[Symbol.dispose]();
  await closed;
  rig.seats[Symbol.dispose]();
  expect(window.grabs).toEqual([true, false]);
});

test('WaylandSeat: keys that are down are released when a grab begins', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(A);
  shortcut();
  expect((await rig.heard()).slice(-4)).toEqual(['key 29 up', 'key 30 up', 'key 100 up', 'frame']);
});

test.each([
  ['Ctrl and Alt alone', [LEFT_CTRL, RIGHT_ALT]],
  ['G after nothing', [G]],
  ['G first', [G, LEFT_CTRL, RIGHT_ALT]],
  ['Shift held too', [LEFT_SHIFT, LEFT_CTRL, RIGHT_ALT, G]],
])('WaylandSeat: the guest gets the keys, without a grab: %s', async (_, codes) => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(...codes);
  expect((await rig.heard()).filter((line) => line !== 'frame')).toEqual(codes.map((code) => `key ${code} down`));
  expect(window.grabs).toEqual([]);
});

test('WaylandSeat: modifiers that were down on enter count for the grab shortcut', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  seat.keyboard.send('leave', 5, window.far);
  seat.keyboard.send('enter', 6, window.far, keys(LEFT_CTRL, RIGHT_ALT));
  press(G);
  expect(await rig.asked()).toContain(`${INHIBITORS}.inhibit_shortcuts`);
});

test('WaylandSeat: modifiers that were released in another window do not count for the grab shortcut', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(LEFT_CTRL, RIGHT_ALT);
  seat.keyboard.send('leave', 5, window.far);
  seat.keyboard.send('enter', 6, window.far, keys());
  press(G);
  await rig.settle();
  expect(window.grabs).toEqual([]);
});

test('WaylandSeat: the guest gets the grab shortcut if the compositor can grab nothing', async () => {
  await open(['zwp_pointer_constraints_v1']);
  press(LEFT_CTRL, RIGHT_ALT, G);
  expect(await rig.heard()).toContain('key 34 down');
  expect(await rig.asked()).toEqual([]);
});

test('WaylandSeat: if only the keyboard can be grabbed, the pointer keeps sending positions', async () => {
  await open([INHIBITORS]);
  shortcut();
  await rig.settle();
  inhibitor.send('active');
  seat.pointer.send('motion', 0, 30, 40);
  seat.pointer.send('frame');
  expect((await rig.heard()).slice(-2)).toEqual(['to 0 10 20', 'frame']);
  expect(window.grabs).toEqual([true]);
});

test('WaylandSeat: a guest’s cursor at the ends of 32 bits leaves the image of a locked pointer far away', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  rig.setCursor(window, rig.image());
  await grab();
  rig.seats.moveCursor(window.surface, 2 ** 33, -(2 ** 33));
  expect((await rig.asked()).at(-1)).toMatch(/^wl_pointer\.set_cursor 1 -8388\d{3} 8388\d{3}$/);
});

test('WaylandSeat: the image of a locked pointer follows the guest’s cursor, without a commit', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  rig.setCursor(window, rig.image());
  rig.seats.moveCursor(window.surface, 10, 0);
  await grab();
  rig.seats.moveCursor(window.surface, 40, 20.4);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 1 -25 -13']);
  shortcut();
  expect(await rig.asked()).toContain('wl_pointer.set_cursor 1 5 7');
});

describe('WaylandSeat: the compositor is told where the guest has its cursor when a grab ends', () => {
  const hints = async (): Promise<string[]> =>
    (await rig.asked()).filter((line) => /set_cursor_position_hint|wl_surface|locked_pointer/.test(line));

  beforeEach(async () => {
    await open([...CONSTRAINTS, INHIBITORS]);
    rig.setCursor(window, rig.image());
    await grab();
    rig.seats.moveCursor(window.surface, 40, 20.5);
    await rig.asked();
  });

  test('by the grab shortcut', async () => {
    shortcut();
    expect(await hints()).toEqual([
      'zwp_locked_pointer_v1.set_cursor_position_hint 40 20.5',
      'wl_surface.commit',
      'zwp_locked_pointer_v1.destroy',
    ]);
  });

  test('unless the guest hides it', async () => {
    rig.setCursor(window, null);
    await rig.asked();
    shortcut();
    expect(await hints()).toEqual(['zwp_locked_pointer_v1.destroy']);
  });

  test('unless the compositor has ended it', async () => {
    lock.send('unlocked');
    expect(await hints()).toEqual(['zwp_locked_pointer_v1.destroy']);
  });

  test('however far away that is', async () => {
    rig.seats.moveCursor(window.surface, 2 ** 40, -(2 ** 40));
    await rig.asked();
    shortcut();
    expect(await hints()).toContain('zwp_locked_pointer_v1.set_cursor_position_hint 8388607 -8388607');
  });
});
