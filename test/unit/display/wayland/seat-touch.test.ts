import { afterEach, beforeEach, expect, test } from 'vitest';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { TOUCH, type FakeSeat, type FakeWindow, SeatRig } from './seat-rig.ts';

expectNoLeaks();

let rig: SeatRig;
let window: FakeWindow;
let seat: FakeSeat;
beforeEach(async () => {
  rig = await SeatRig.open();
  window = await rig.addWindow();
  seat = await rig.addSeat(9, TOUCH);
});
afterEach(() => rig[Symbol.dispose]());

function down(id: number, { touch } = seat, at = window): void {
  touch.send('down', 1, 0, at.far, id, 10, 0);
}

test('touches have slots, whatever their ids, and frames are frames', async () => {
  const { touch } = seat;
  down(77);
  touch.send('down', 2, 0, window.far, -5, 12, 4);
  touch.send('frame');
  touch.send('motion', 0, 77, 20.5, 8);
  touch.send('shape', 77, 3, 2);
  touch.send('frame');
  touch.send('up', 3, 0, 77);
  touch.send('frame');
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 0 1 1 2', 'frame', 'touch-to 0 0 5.25 4', 'frame', 'touch-up 0', 'frame']);
});

test('a slot is taken again when its touch has ended', async () => {
  down(1);
  down(2);
  seat.touch.send('up', 2, 0, 1);
  down(3);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 0 1 0 0', 'touch-up 0', 'touch 0 0 0 0']);
});

test('a touch stays with the window where it began', async () => {
  const other = await rig.addWindow();
  down(1);
  down(2, seat, other);
  seat.touch.send('motion', 0, 1, 12, 2);
  seat.touch.send('motion', 0, 2, 14, 4);
  seat.touch.send('frame');
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 1 1 0 0', 'touch-to 0 0 1 1', 'touch-to 1 1 2 2', 'frame']);
});

test('touches that are cancelled never were meant; slots are free then', async () => {
  down(1);
  down(2);
  seat.touch.send('cancel');
  seat.touch.send('up', 2, 0, 1);
  down(1);
  expect((await rig.heard()).slice(2)).toEqual(['touch-cancel', 'frame', 'touch 0 0 0 0']);
});

test('two seats do not share slots', async () => {
  const other = await rig.addSeat(9, TOUCH);
  down(1);
  down(1, other);
  seat.touch.send('up', 2, 0, 1);
  other.touch.send('motion', 0, 1, 12, 2);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 0 1 0 0', 'touch-up 0', 'touch-to 0 1 1 1']);
});

test('the guest\'s touchscreen is full with 16', async () => {
  for (let id = 0; id < 17; id++) down(id);
  seat.touch.send('motion', 0, 16, 12, 2);
  seat.touch.send('up', 2, 0, 16);
  seat.touch.send('up', 2, 0, 15);
  const heard = await rig.heard();
  expect(heard).toHaveLength(17);
  expect(heard.slice(-2)).toEqual(['touch 0 15 0 0', 'touch-up 15']);
});

test('touches are cancelled when their window is detached', async () => {
  down(1);
  down(2);
  await rig.heard();
  rig.seats.detach(window.surface);
  seat.touch.send('up', 2, 0, 1);
  expect(await rig.heard()).toEqual(['touch-cancel', 'frame']);
});

test('touches of a window that is detached are lifted while another window has touches, which go on', async () => {
  const other = await rig.addWindow();
  down(1);
  down(2, seat, other);
  await rig.heard();
  rig.seats.detach(window.surface);
  seat.touch.send('up', 2, 0, 1);
  seat.touch.send('motion', 0, 2, 12, 2);
  seat.touch.send('up', 2, 0, 2);
  expect(await rig.heard()).toEqual(['touch-up 0', 'frame', 'touch-to 1 1 1 1', 'touch-up 1']);
});

test('touches are cancelled when the seat has no touchscreen any more', async () => {
  down(1);
  seat.seat.send('capabilities', 0);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch-cancel', 'frame']);
});

test('a touch that begins twice ends between, and one that never began does nothing', async () => {
  seat.touch.send('up', 1, 0, 9);
  seat.touch.send('motion', 0, 9, 0, 0);
  seat.touch.send('frame');
  seat.touch.send('cancel');
  down(1);
  down(1);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch-up 0', 'touch 0 0 0 0']);
});

test('a touch outside of our windows is not the guest\'s', async () => {
  const deaf = await rig.addWindow(null);
  const stranger = rig.compositor.createSurface();
  await rig.settle();
  down(1, seat, deaf);
  seat.touch.send('down', 1, 0, rig.far(stranger), 2, 0, 0);
  seat.touch.send('motion', 0, 1, 12, 2);
  seat.touch.send('frame');
  expect(await rig.heard()).toEqual([]);
});
