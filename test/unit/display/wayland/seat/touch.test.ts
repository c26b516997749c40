import { afterEach, beforeEach, expect, test } from 'vitest';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
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

test('Touch: maps touch ids to slots, and sends frames as they come', async () => {
  const { touch } = seat;
  down(77);
  touch.send('down', 2, 0, window.far, -5, 12, 4);
  touch.send('frame');
  touch.send('motion', 0, 77, 20.5, 8);
  touch.send('shape', 77, 3, 2);
  touch.send('frame');
  touch.send('up', 3, 0, 77);
  touch.send('frame');
  expect(await rig.heard()).toEqual([
    'touch 0 0 0 0',
    'touch 0 1 1 2',
    'frame',
    'touch-to 0 0 5.25 4',
    'frame',
    'touch-up 0',
    'frame',
  ]);
});

test('Touch: reuses the slot of a touch that has ended', async () => {
  down(1);
  down(2);
  seat.touch.send('up', 2, 0, 1);
  down(3);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 0 1 0 0', 'touch-up 0', 'touch 0 0 0 0']);
});

test('Touch: a touch stays with the window where it began', async () => {
  const other = await rig.addWindow();
  down(1);
  down(2, seat, other);
  seat.touch.send('motion', 0, 1, 12, 2);
  seat.touch.send('motion', 0, 2, 14, 4);
  seat.touch.send('frame');
  expect(await rig.heard()).toEqual([
    'touch 0 0 0 0',
    'touch 1 1 0 0',
    'touch-to 0 0 1 1',
    'touch-to 1 1 2 2',
    'frame',
  ]);
});

test('Touch: cancel cancels all touches and frees their slots', async () => {
  down(1);
  down(2);
  seat.touch.send('cancel');
  seat.touch.send('up', 2, 0, 1);
  down(1);
  expect((await rig.heard()).slice(2)).toEqual(['touch-cancel', 'frame', 'touch 0 0 0 0']);
});

test('Touch: touches of two seats have different slots', async () => {
  const other = await rig.addSeat(9, TOUCH);
  down(1);
  down(1, other);
  seat.touch.send('up', 2, 0, 1);
  other.touch.send('motion', 0, 1, 12, 2);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch 0 1 0 0', 'touch-up 0', 'touch-to 0 1 1 1']);
});

test('Touch: ignores the 17th touch at a time', async () => {
  for (let id = 0; id < 17; id++) down(id);
  seat.touch.send('motion', 0, 16, 12, 2);
  seat.touch.send('up', 2, 0, 16);
  seat.touch.send('up', 2, 0, 15);
  const heard = await rig.heard();
  expect(heard).toHaveLength(17);
  expect(heard.slice(-2)).toEqual(['touch 0 15 0 0', 'touch-up 15']);
});

test('Touch: detaching a window cancels its touches', async () => {
  down(1);
  down(2);
  await rig.heard();
  rig.seats.detach(window.surface);
  seat.touch.send('up', 2, 0, 1);
  expect(await rig.heard()).toEqual(['touch-cancel', 'frame']);
});

test('Touch: detaching a window lifts its touches while another window has touches, which go on', async () => {
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

test('Touch: touches are cancelled when the seat loses its touchscreen', async () => {
  down(1);
  seat.seat.send('capabilities', 0);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch-cancel', 'frame']);
});

test('Touch: lifts a touch that begins twice, and ignores one that never began', async () => {
  seat.touch.send('up', 1, 0, 9);
  seat.touch.send('motion', 0, 9, 0, 0);
  seat.touch.send('frame');
  seat.touch.send('cancel');
  down(1);
  down(1);
  expect(await rig.heard()).toEqual(['touch 0 0 0 0', 'touch-up 0', 'touch 0 0 0 0']);
});

test('Touch: ignores touches outside of attached windows', async () => {
  const deaf = await rig.addWindow(null);
  const stranger = rig.compositor.createSurface();
  await rig.settle();
  down(1, seat, deaf);
  seat.touch.send('down', 1, 0, rig.far(stranger), 2, 0, 0);
  seat.touch.send('motion', 0, 1, 12, 2);
  seat.touch.send('frame');
  expect(await rig.heard()).toEqual([]);
});
