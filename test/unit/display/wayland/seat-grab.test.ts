import { afterEach, describe, expect, test } from 'vitest';
import type { FakeObject } from './fake-server.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { KEYBOARD, POINTER, type FakeSeat, type FakeWindow, SeatRig, keys } from './seat-rig.ts';

expectNoLeaks();

const CONSTRAINTS = ['zwp_pointer_constraints_v1', 'zwp_relative_pointer_manager_v1'];
const INHIBITORS = 'zwp_keyboard_shortcuts_inhibit_manager_v1';
const ONESHOT = 1;

const LEFT_CTRL = 29;
const LEFT_SHIFT = 42;
const RIGHT_ALT = 100;
const A = 30;
const G = 34;

let rig: SeatRig;
let window: FakeWindow;
let seat: FakeSeat;
let lock: FakeObject;
let relative: FakeObject;
let inhibitor: FakeObject;
afterEach(() => rig[Symbol.dispose]());

/** A window with pointer, at 10, 0, and keyboard in it. What was asked and heard until then is forgotten. */
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

/** Grabbed, and the compositor has agreed. */
async function grab(): Promise<void> {
  shortcut();
  await rig.settle();
  lock.send('locked');
  inhibitor.send('active');
  await rig.heard();
  await rig.asked();
}

test('the shortcut asks for a lock and for the compositor\'s shortcuts, once each, and the window is told', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  expect(await rig.asked()).toEqual([`zwp_pointer_constraints_v1.lock_pointer null ${ONESHOT}`, 'zwp_relative_pointer_manager_v1.get_relative_pointer', `${INHIBITORS}.inhibit_shortcuts`]);
  expect(window.grabs).toEqual([true]);
});

test('no key of the shortcut stays down in the guest, nor does it see G', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  expect(await rig.heard()).toEqual(['key 29 down', 'frame', 'key 100 down', 'frame', 'key 29 up', 'key 100 up', 'frame']);
});

test('the shortcut again, with modifiers held all the time, releases all', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(LEFT_CTRL, RIGHT_ALT, G);
  release(G);
  await rig.asked();
  press(G);
  expect(await rig.asked()).toEqual(['zwp_locked_pointer_v1.destroy', 'zwp_relative_pointer_v1.destroy', 'zwp_keyboard_shortcuts_inhibitor_v1.destroy']);
  expect(window.grabs).toEqual([true, false]);
});

test('a grabbed pointer moves the guest\'s by its own distance, before the host\'s acceleration', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  await grab();
  relative.send('relative_motion', 0, 0, 9, 9, 1.5, -2.25);
  expect(await rig.heard()).toEqual(['by 1.5 -2.25', 'frame']);
});

test('distances do not count before the pointer is locked, or after', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  shortcut();
  await rig.settle();
  relative.send('relative_motion', 0, 0, 9, 9, 9, 9);
  lock.send('locked');
  lock.send('unlocked');
  relative.send('relative_motion', 0, 0, 9, 9, 9, 9);
  expect((await rig.heard()).filter((line) => line.startsWith('by'))).toEqual([]);
});

describe('a grab ends when', () => {
  const ENDED = ['zwp_locked_pointer_v1.destroy', 'zwp_relative_pointer_v1.destroy', 'zwp_keyboard_shortcuts_inhibitor_v1.destroy'];

  test.each<[string, () => void]>([
    ['the keyboard\'s focus goes', () => seat.keyboard.send('leave', 5, window.far)],
    ['the compositor unlocks the pointer', () => lock.send('unlocked')],
    ['the compositor has its shortcuts back', () => inhibitor.send('inactive')],
    ['the seat has no pointer any more', () => seat.seat.send('capabilities', KEYBOARD)],
    ['the seat has no keyboard any more', () => seat.seat.send('capabilities', POINTER)],
    ['the seat is gone', () => rig.server.removeGlobal(seat.name)],
    ['the window is detached', () => rig.seats.detach(window.surface)],
  ])('%s', async (_, end) => {
    await open([...CONSTRAINTS, INHIBITORS]);
    await grab();
    end();
    expect((await rig.asked()).filter((request) => ENDED.includes(request))).toEqual(ENDED);
    expect(window.grabs).toEqual([true, false]);
  });
});

test('a grab of a compositor that is gone is over without a word', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  rig.seats.setCursor(window.surface, null);
  await grab();
  const closed = new Promise((resolve) => rig.display.onClosed(resolve));
  rig.server.client[Symbol.dispose]();
  await closed;
  rig.seats[Symbol.dispose]();
  expect(window.grabs).toEqual([true, false]);
});

test('keys held for the guest go up when a grab begins', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(A);
  shortcut();
  expect((await rig.heard()).slice(-4)).toEqual(['key 29 up', 'key 30 up', 'key 100 up', 'frame']);
});

test.each([
  ['Ctrl and Alt alone', [LEFT_CTRL, RIGHT_ALT]],
  ['G after nothing', [G]],
  ['G first', [G, LEFT_CTRL, RIGHT_ALT]],
  ['with Shift as well', [LEFT_SHIFT, LEFT_CTRL, RIGHT_ALT, G]],
])('it is not the shortcut: %s', async (_, codes) => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(...codes);
  expect((await rig.heard()).filter((line) => line !== 'frame')).toEqual(codes.map((code) => `key ${code} down`));
  expect(window.grabs).toEqual([]);
});

test('modifiers that were down when focus came count', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  seat.keyboard.send('leave', 5, window.far);
  seat.keyboard.send('enter', 6, window.far, keys(LEFT_CTRL, RIGHT_ALT));
  press(G);
  await rig.settle();
  expect(window.grabs).toEqual([true]);
});

test('modifiers that were released elsewhere do not count', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  press(LEFT_CTRL, RIGHT_ALT);
  seat.keyboard.send('leave', 5, window.far);
  seat.keyboard.send('enter', 6, window.far, keys());
  press(G);
  await rig.settle();
  expect(window.grabs).toEqual([]);
});

test('where there is nothing to grab with the guest gets the shortcut', async () => {
  await open(['zwp_pointer_constraints_v1']);
  press(LEFT_CTRL, RIGHT_ALT, G);
  expect(await rig.heard()).toContain('key 34 down');
  expect(await rig.asked()).toEqual([]);
});

test('where the keyboard alone can be grabbed the pointer stays where the host\'s is', async () => {
  await open([INHIBITORS]);
  shortcut();
  seat.pointer.send('motion', 0, 30, 40);
  seat.pointer.send('frame');
  expect((await rig.heard()).slice(-2)).toEqual(['to 0 10 20', 'frame']);
  expect(window.grabs).toEqual([true]);
});

test('while the pointer stands still its image follows the guest\'s cursor, without a commit', async () => {
  await open([...CONSTRAINTS, INHIBITORS]);
  rig.setCursor(window, rig.image());
  rig.seats.moveCursor(window.surface, 10, 0);
  await grab();
  rig.seats.moveCursor(window.surface, 40, 20.4);
  expect(await rig.asked()).toEqual(['wl_pointer.set_cursor 1 -25 -13']);
  shortcut();
  expect(await rig.asked()).toContain('wl_pointer.set_cursor 1 5 7');
});
