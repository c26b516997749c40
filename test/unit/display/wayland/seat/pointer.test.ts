import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { POINTER, type FakeSeat, type FakeWindow, SeatRig } from './seat-rig.ts';

expectNoLeaks();

const LEFT = 0x110;
const RIGHT = 0x111;
const VERTICAL = 0;
const HORIZONTAL = 1;
const UNITS_PER_NOTCH = 10;

let rig: SeatRig;
let window: FakeWindow;
beforeEach(async () => {
  rig = await SeatRig.open();
  window = await rig.addWindow();
});
afterEach(() => rig[Symbol.dispose]());

/** A pointer at 10, 0 of the window, which is 0, 0 of the picture. Drops what was heard of that. */
async function over(version = 9): Promise<FakeSeat> {
  const seat = await rig.addSeat(version, POINTER);
  seat.pointer.send('enter', 1, window.far, 10, 0);
  if (version >= 5) seat.pointer.send('frame');
  await rig.heard();
  return seat;
}

test('Pointer: enter moves the guest’s pointer to the place in the picture', async () => {
  const { pointer } = await rig.addSeat(9, POINTER);
  pointer.send('enter', 1, window.far, 110.5, 20);
  pointer.send('frame');
  expect(await rig.heard()).toEqual(['to 0 50.25 10', 'frame']);
});

test('Pointer: sends motion and buttons of one frame together', async () => {
  const { pointer } = await over();
  pointer.send('motion', 0, 30, 40);
  pointer.send('button', 2, 0, LEFT, 1);
  pointer.send('frame');
  pointer.send('button', 3, 0, LEFT, 0);
  pointer.send('frame');
  expect(await rig.heard()).toEqual(['to 0 10 20', 'button 272 down', 'frame', 'button 272 up', 'frame']);
});

test('Pointer: before version 5 ends a frame after each event', async () => {
  const { pointer } = await over(1);
  pointer.send('motion', 0, 30, 40);
  pointer.send('button', 2, 0, LEFT, 1);
  pointer.send('axis', 0, VERTICAL, UNITS_PER_NOTCH);
  expect(await rig.heard()).toEqual(['to 0 10 20', 'frame', 'button 272 down', 'frame', 'wheel vertical 120', 'frame']);
});

test('Pointer: sends positions in the picture of the window it is over', async () => {
  const other = await rig.addWindow();
  const { pointer } = await over();
  pointer.send('leave', 2, window.far);
  pointer.send('enter', 3, other.far, 12, 2);
  pointer.send('frame');
  expect(await rig.heard()).toEqual(['to 1 1 1', 'frame']);
});

test('Pointer: releases buttons on leave, once', async () => {
  const { pointer } = await over();
  for (const code of [LEFT, RIGHT]) pointer.send('button', 2, 0, code, 1);
  pointer.send('frame');
  pointer.send('leave', 3, window.far);
  pointer.send('enter', 4, window.far, 10, 0);
  pointer.send('button', 5, 0, LEFT, 0);
  pointer.send('frame');
  expect(await rig.heard()).toEqual([
    'button 272 down',
    'button 273 down',
    'frame',
    'button 272 up',
    'button 273 up',
    'frame',
    'to 0 0 0',
    'frame',
  ]);
});

describe('Pointer: a wheel', () => {
  test('sends 120ths of a notch since version 8', async () => {
    const { pointer } = await over(8);
    pointer.send('axis_source', 0);
    pointer.send('axis_value120', VERTICAL, 30);
    pointer.send('axis', 0, VERTICAL, 2.5);
    pointer.send('axis_value120', HORIZONTAL, -240);
    pointer.send('axis', 0, HORIZONTAL, -20);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['wheel vertical 30', 'wheel horizontal -240', 'frame']);
  });

  test('sends notches and ignores their distance in version 5', async () => {
    const { pointer } = await over(5);
    pointer.send('axis_discrete', VERTICAL, -2);
    pointer.send('axis', 0, VERTICAL, -30);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['wheel vertical -240', 'frame']);
  });

  test('keeps the fractions of distances without notches until they add up', async () => {
    const { pointer } = await over();
    for (let i = 0; i < 3; i++) {
      pointer.send('axis', 0, VERTICAL, 1 / 32);
      pointer.send('frame');
    }
    expect(await rig.heard()).toEqual(['wheel vertical 1', 'frame']);
  });

  test('adds the distances of one frame', async () => {
    const { pointer } = await over();
    for (let i = 0; i < 3; i++) pointer.send('axis', 0, VERTICAL, 1 / 32);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['wheel vertical 1', 'frame']);
  });

  test('drops the fraction when the motion stops', async () => {
    const { pointer } = await over();
    pointer.send('axis', 0, VERTICAL, 1 / 16);
    pointer.send('frame');
    pointer.send('axis_stop', 0, VERTICAL);
    pointer.send('frame');
    pointer.send('axis', 0, VERTICAL, 1 / 16);
    pointer.send('frame');
    expect(await rig.heard()).toEqual([]);
  });

  test('ignores an axis of a later protocol', async () => {
    const { pointer } = await over();
    pointer.send('axis_value120', 7, 120);
    pointer.send('axis', 0, 7, 10);
    pointer.send('axis_relative_direction', 7, 1);
    pointer.send('frame');
    expect(await rig.heard()).toEqual([]);
  });

  test('drops a turn whose frame comes after the pointer has left', async () => {
    const { pointer } = await over();
    pointer.send('axis_value120', VERTICAL, 120);
    pointer.send('leave', 2, window.far);
    pointer.send('enter', 3, window.far, 10, 0);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['to 0 0 0', 'frame']);
  });
});

describe('Pointer: buttons go up when', () => {
  let seat: FakeSeat;
  beforeEach(async () => {
    seat = await over();
    seat.pointer.send('button', 2, 0, LEFT, 1);
    await rig.heard();
  });

  test('the window is detached; motion that was on its way is ignored', async () => {
    seat.pointer.send('motion', 0, 30, 40);
    rig.seats.detach(window.surface);
    expect(await rig.heard()).toEqual(['button 272 up', 'frame']);
  });

  test('the seat loses its pointer', async () => {
    seat.seat.send('capabilities', 0);
    expect(await rig.heard()).toEqual(['button 272 up', 'frame']);
    expect(await rig.asked()).toContain('wl_pointer.release');
  });
});

describe('Pointer: on a compositor that breaks the protocol', () => {
  test('ignores motion, buttons and wheels outside of windows', async () => {
    const { pointer } = await rig.addSeat(9, POINTER);
    pointer.send('motion', 0, 30, 40);
    pointer.send('button', 2, 0, LEFT, 1);
    pointer.send('axis_value120', VERTICAL, 120);
    pointer.send('frame');
    pointer.send('leave', 3, window.far);
    pointer.send('frame');
    expect(await rig.heard()).toEqual([]);
  });

  test('takes a second enter as a leave and an enter', async () => {
    const { pointer } = await over();
    pointer.send('button', 2, 0, LEFT, 1);
    pointer.send('enter', 3, window.far, 10, 0);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['button 272 down', 'button 272 up', 'frame', 'to 0 0 0', 'frame']);
  });

  test('ignores buttons that go down twice, go up without having been down, or have no code of the kernel’s', async () => {
    const { pointer } = await over();
    pointer.send('button', 2, 0, RIGHT, 0);
    for (const code of [0xffffffff, 0x300, LEFT, LEFT]) pointer.send('button', 3, 0, code, 1);
    pointer.send('frame');
    expect(await rig.heard()).toEqual(['button 272 down', 'frame']);
  });

  test('ignores capabilities that are sent twice or unknown', async () => {
    const seat = await over();
    await rig.asked();
    for (const capabilities of [POINTER, POINTER | 0xfffffff8]) seat.seat.send('capabilities', capabilities);
    seat.pointer.send('motion', 0, 12, 2);
    seat.pointer.send('frame');
    expect(await rig.heard()).toEqual(['to 0 1 1', 'frame']);
    expect(await rig.asked()).toEqual([]);
  });
});

test('Pointer: a button that two seats hold goes up when the last releases it', async () => {
  const first = await over();
  const second = await over();
  for (const { pointer } of [first, second]) pointer.send('button', 2, 0, LEFT, 1);
  second.pointer.send('frame');
  first.pointer.send('leave', 3, window.far);
  second.pointer.send('button', 3, 0, LEFT, 0);
  second.pointer.send('frame');
  expect(await rig.heard()).toEqual(['button 272 down', 'frame', 'button 272 up', 'frame']);
});
