import { afterEach, beforeEach, expect, test } from 'vitest';
import { Touchscreen } from '../../../../src/guest/virtio-input/touchscreen.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { InputDriver } from './rig.ts';

const [SLOT, X, Y, TOOL, ID] = ['3 47', '3 53', '3 54', '3 55', '3 57'];
const TOUCH = '1 330';
const UP = -1;
const FINGER = 0;
const PALM = 2;

let device: Touchscreen;
let driver: InputDriver;

expectNoLeaks();
beforeEach(() => {
  device = new Touchscreen();
  driver = new InputDriver(device);
});
afterEach(() => driver[Symbol.dispose]());

test('Touchscreen: touches go down, move and go up in their slots', () => {
  device.down(0, 10, 20);
  device.down(3, 30, 40);
  device.frame();
  const down = driver.take();
  device.move(0, 10, 21);
  device.move(3, 31, 40);
  device.frame();
  device.up(0);
  device.frame();
  device.up(3);
  device.frame();

  expect([...down, ...driver.take()]).toEqual([
    [
      `${ID} 0`,
      `${TOOL} ${FINGER}`,
      `${X} 10`,
      `${Y} 20`,
      `${SLOT} 3`,
      `${ID} 1`,
      `${TOOL} ${FINGER}`,
      `${X} 30`,
      `${Y} 40`,
      `${TOUCH} 1`,
    ],
    [`${SLOT} 0`, `${Y} 21`, `${SLOT} 3`, `${X} 31`],
    [`${SLOT} 0`, `${ID} ${UP}`],
    [`${SLOT} 3`, `${ID} ${UP}`, `${TOUCH} 0`],
  ]);
});

test('Touchscreen: reports a tap within one frame, and a touch that replaces another', () => {
  device.down(0, 1, 1);
  device.up(0);
  device.frame();
  const tap = driver.take();
  device.down(0, 2, 1);
  device.frame();
  device.down(0, 3, 1);
  device.frame();

  expect(tap).toEqual([
    [`${ID} 0`, `${TOOL} ${FINGER}`, `${X} 1`, `${Y} 1`, `${TOUCH} 1`],
    [`${ID} ${UP}`, `${TOUCH} 0`],
  ]);
  expect(driver.take()).toEqual([
    [`${ID} 1`, `${TOOL} ${FINGER}`, `${X} 2`, `${TOUCH} 1`],
    [`${ID} ${UP}`, `${TOUCH} 0`],
    [`${ID} 2`, `${TOOL} ${FINGER}`, `${X} 3`, `${TOUCH} 1`],
  ]);
});

test('Touchscreen: cancelled touches end as palms, and the next ones in their slots are fingers again', () => {
  device.down(1, 5, 5);
  device.frame();
  driver.take();
  device.cancel();
  device.frame();
  device.down(1, 5, 5);
  device.frame();
  device.up(1);
  device.frame();

  expect(driver.take()).toEqual([
    [`${TOOL} ${PALM}`, `${ID} ${UP}`, `${TOUCH} 0`],
    [`${ID} 1`, `${TOOL} ${FINGER}`, `${TOUCH} 1`],
    [`${ID} ${UP}`, `${TOUCH} 0`],
  ]);
});

test('Touchscreen: releaseAll ends every touch', () => {
  device.down(0, 5, 5);
  device.frame();
  driver.take();
  device.releaseAll();
  device.up(0);
  device.frame();

  expect(driver.take()).toEqual([[`${TOOL} ${PALM}`, `${ID} ${UP}`, `${TOUCH} 0`]]);
});

test('Touchscreen: ignores slots that do not exist, and moves and ends in slots that are up', () => {
  device.down(16, 1, 1);
  device.down(-1, 1, 1);
  device.move(0, 1, 1);
  device.up(0);
  device.frame();

  expect(driver.take()).toEqual([]);
});

test('Touchscreen: a touch that ends before its last move was reported ends at its last position', () => {
  driver.pause();
  device.down(0, 1, 1);
  device.frame();
  device.move(0, 2, 3);
  device.frame();
  device.up(0);
  device.frame();
  driver.resume();

  expect(driver.take().at(-1)).toEqual([`${X} 2`, `${Y} 3`, `${ID} ${UP}`, `${TOUCH} 0`]);
});

test('Touchscreen: a driver without buffers later gets the newest positions and every end', () => {
  driver.pause();
  for (let slot = 0; slot < 16; slot++) device.down(slot, slot, 1);
  device.frame();
  for (let i = 0; i < 100; i++) {
    for (let slot = 0; slot < 16; slot++) device.move(slot, slot, i);
    device.frame();
  }
  for (let slot = 1; slot < 16; slot++) device.up(slot);
  device.frame();
  device.move(0, 7, 8);
  device.frame();
  driver.resume();

  const groups = driver.take();
  expect(groups.map((group) => group.filter((event) => event === `${ID} ${UP}`).length)).toEqual([0, 15, 0]);
  expect(groups.at(-1)).toEqual([`${SLOT} 0`, `${X} 7`, `${Y} 8`]);
});

test('Touchscreen: too many taps are dropped, but no touch stays down', () => {
  driver.pause();
  for (let i = 0; i < 1000; i++) {
    device.down(0, i, i);
    device.frame();
    device.up(0);
    device.frame();
  }
  driver.resume();

  const touches = driver
    .take()
    .flat()
    .filter((event) => event.startsWith(TOUCH));
  expect(touches.length).toBeLessThan(400);
  expect(touches.at(-1)).toBe(`${TOUCH} 0`);
});

test('Touchscreen: a driver that starts again finds nothing touched', () => {
  device.down(2, 5, 5);
  device.frame();
  driver[Symbol.dispose]();
  driver = new InputDriver(device);
  device.move(2, 6, 6);
  device.up(2);
  device.frame();
  device.down(0, 1, 1);
  device.frame();

  expect(driver.take()).toEqual([[`${ID} 1`, `${TOOL} ${FINGER}`, `${X} 1`, `${Y} 1`, `${TOUCH} 1`]]);
});
