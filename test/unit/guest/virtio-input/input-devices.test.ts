import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BTN, LED } from '../../../../protocols/input-event-codes.ts';
import { AXIS_MAX } from '../../../../src/guest/virtio-input/keyboard-pointer.ts';
import { InputDevices } from '../../../../src/guest/virtio-input/input-devices.ts';
import { InputDriver } from './rig.ts';

const LEFT = 0;
const RIGHT = 1;

let input: InputDevices;
let pointer: InputDriver;
let touch: InputDriver;

beforeEach(() => {
  input = new InputDevices();
  pointer = new InputDriver(input.keyboardPointer);
  touch = new InputDriver(input.touchscreen);
});
afterEach(() => {
  pointer[Symbol.dispose]();
  touch[Symbol.dispose]();
});

/** Where the guest has the pointer now, as its pixels are counted: the way libinput does. */
class Desktop {
  readonly #axes = [0, 0];

  place(width: number, height: number): [x: number, y: number] {
    for (const event of pointer.take().flat()) {
      const [type, axis, value] = event.split(' ').map(Number) as [number, number, number];
      if (type === 3) this.#axes[axis] = value;
    }
    const [x, y] = this.#axes as [number, number];
    return [(x * width) / (AXIS_MAX + 1), (y * height) / (AXIS_MAX + 1)];
  }
}

describe('InputDevices: a position', () => {
  test('arrives in the same pixel in the guest, for any size of the scanout', () => {
    const size = fc.integer({ min: 1, max: 8192 });
    const desktop = new Desktop();
    fc.assert(
      fc.property(size, size, fc.nat(), fc.nat(), (width, height, someX, someY) => {
        const [x, y] = [someX % width, someY % height];
        input.scanoutSized(LEFT, width, height);
        input.pointerMovedTo(LEFT, x, y);
        input.frame();
        expect(desktop.place(width, height).map(Math.floor)).toEqual([x, y]);
      }),
    );
  });

  test('on one of two scanouts is beside the other, and never leaves its own', () => {
    const desktop = new Desktop();
    input.scanoutSized(LEFT, 1280, 800);
    input.scanoutSized(RIGHT, 1024, 768);
    const seen: number[][] = [];
    for (const [scanout, x, y] of [
      [LEFT, 0, 0],
      [LEFT, 5000, 5000],
      [RIGHT, 0, 767],
      [RIGHT, 1023.9, -7],
      [RIGHT, -0.5, 0],
    ] as const) {
      input.pointerMovedTo(scanout, x, y);
      input.frame();
      seen.push(desktop.place(1280 + 1024, 800).map(Math.floor));
    }

    expect(seen).toEqual([
      [0, 0],
      [1279, 799],
      [1280, 767],
      [2303, 0],
      [1280, 0],
    ]);
  });

  test('on a scanout that is off is ignored', () => {
    input.pointerMovedTo(LEFT, 1, 1);
    input.touchDown(RIGHT, 0, 1, 1);
    input.frame();
    input.scanoutSized(LEFT, 100, 100);
    input.scanoutSized(LEFT, 0, 0);
    input.pointerMovedTo(LEFT, 1, 1);
    input.frame();

    expect([pointer.take(), touch.take()]).toEqual([[], []]);
  });
});

test('InputDevices: keys, buttons, distances and wheels go to one device, touches to the other', () => {
  input.scanoutSized(LEFT, 32768, 32768);
  input.key(30, true);
  input.button(BTN.LEFT, true);
  input.pointerMovedBy(3, 4);
  input.wheel('horizontal', 15);
  input.touchDown(LEFT, 0, 8, 9);
  input.frame();
  const [first, touched] = [pointer.take(), touch.take()];
  input.touchMoved(LEFT, 0, 10, 9);
  input.frame();
  input.touchUp(0);
  input.touchDown(LEFT, 1, 1, 1);
  input.frame();
  input.touchCancelled();
  input.frame();

  expect(first).toEqual([['2 0 3', '2 1 4', '2 12 15', '1 30 1', '1 272 1']]);
  expect(touched).toEqual([['3 57 0', '3 55 0', '3 53 8', '3 54 9', '1 330 1']]);
  expect(touch.take()).toEqual([
    ['3 53 10'],
    ['3 57 -1', '3 47 1', '3 57 1', '3 55 0', '3 53 1', '3 54 1'],
    ['3 55 2', '3 57 -1', '1 330 0'],
  ]);
});

test('InputDevices: releaseAll releases keys and touches', () => {
  input.scanoutSized(LEFT, 100, 100);
  input.key(30, true);
  input.touchDown(LEFT, 0, 0, 0);
  input.releaseAll();

  expect(pointer.take()).toEqual([['1 30 1'], ['1 30 0']]);
  expect(touch.take().at(-1)).toEqual(['3 55 2', '3 57 -1', '1 330 0']);
});

test('InputDevices: onLeds reports LEDs until it is stopped', () => {
  const heard: number[] = [];
  const stop = input.onLeds((leds) => heard.push(leds));
  pointer.led(LED.SCROLLL, 1);
  const leds = input.leds;
  stop();
  pointer.led(LED.SCROLLL, 0);

  expect([heard, leds, input.leds]).toEqual([[4], 4, 0]);
});
