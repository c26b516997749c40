import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BTN, EV, LED } from '../../../../protocols/input-event-codes.ts';
import { KeyboardPointer } from '../../../../src/guest/virtio-input/keyboard-pointer.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { InputDriver } from './rig.ts';

const A = 30;
const S = 31;
const D = 32;

let device: KeyboardPointer;
let driver: InputDriver;
let leds: number[];

expectNoLeaks();
beforeEach(() => {
  leds = [];
  device = new KeyboardPointer((now) => leds.push(now));
  driver = new InputDriver(device);
});
afterEach(() => driver[Symbol.dispose]());

function tap(...codes: number[]): void {
  for (const code of codes) {
    device.key(code, true);
    device.frame();
    device.key(code, false);
    device.frame();
  }
}

describe('KeyboardPointer: a driver that takes events', () => {
  test('gets keys and buttons, each frame as a group', () => {
    tap(A);
    device.key(S, true);
    device.key(D, true);
    device.frame();
    device.key(BTN.LEFT, true);
    device.frame();

    expect(driver.take()).toEqual([['1 30 1'], ['1 30 0'], ['1 31 1', '1 32 1'], ['1 272 1']]);
  });

  test('gets a click after the position it is at', () => {
    device.key(BTN.LEFT, true);
    device.moveTo(100, 200);
    device.frame();

    expect(driver.take()).toEqual([['3 0 100', '3 1 200', '1 272 1']]);
  });

  test('gets only the axis that changed, and nothing for a frame without changes', () => {
    device.moveTo(100, 200);
    device.frame();
    const first = driver.take();
    device.moveTo(100, 300);
    device.frame();
    device.moveTo(100, 300);
    device.frame();
    device.frame();

    expect([...first, ...driver.take()]).toEqual([['3 0 100', '3 1 200'], ['3 1 300']]);
  });

  test('gets whole steps of a distance, and fractions once they add up to one', () => {
    const groups: string[][] = [];
    for (const [dx, dy] of [
      [1.5, -0.5],
      [0.25, -0.25],
      [0.25, -0.25],
    ] as const) {
      device.moveBy(dx, dy);
      device.frame();
      groups.push(...driver.take());
    }

    expect(groups).toEqual([['2 0 1'], ['2 0 1', '2 1 -1']]);
  });

  test('gets a wheel in both resolutions, in the direction that the kernel counts', () => {
    device.turn('vertical', 120);
    device.frame();
    device.turn('horizontal', 240);
    device.frame();

    expect(driver.take()).toEqual([
      ['2 8 -1', '2 11 -120'],
      ['2 6 2', '2 12 240'],
    ]);
  });

  test('gets a notch when its parts in one direction add up to it', () => {
    const fine: string[][] = [];
    for (const v120 of [-70, -40, 60, 60]) {
      device.turn('vertical', v120);
      device.frame();
      fine.push(...driver.take());
    }

    expect(fine).toEqual([['2 11 70'], ['2 11 40'], ['2 11 -60'], ['2 8 -1', '2 11 -60']]);
  });

  test('gets a key that goes down and up in one frame as two groups', () => {
    device.key(A, true);
    device.key(A, false);
    device.frame();

    expect(driver.take()).toEqual([['1 30 1'], ['1 30 0']]);
  });

  test('gets nothing before the frame ends, nothing twice, and no key that the device does not have', () => {
    device.key(A, true);
    device.moveTo(1, 1);
    const early = driver.take();
    device.frame();
    device.key(A, true);
    device.key(0, true);
    device.key(249, true);
    device.key(0x120, true);
    device.key(70_000, true);
    device.frame();

    expect(early).toEqual([]);
    expect(driver.take()).toEqual([['3 0 1', '3 1 1', '1 30 1']]);
  });

  test('gets every key and button up after releaseAll', () => {
    device.key(A, true);
    device.key(BTN.RIGHT, true);
    device.frame();
    driver.take();
    device.releaseAll();
    device.key(A, false);
    device.frame();

    expect(driver.take()).toEqual([['1 30 0', '1 273 0']]);
  });
});

describe('KeyboardPointer: a driver that had no buffers for a while', () => {
  beforeEach(() => driver.pause());

  test('gets what was typed in the meantime, in order, with groups longer than its ring whole', () => {
    tap(A, S, D);
    for (const code of [A, S, D, 33, 34, 35, 36, 37]) device.key(code, true);
    device.moveTo(5, 6);
    device.frame();
    driver.resume();

    expect(driver.take()).toEqual([
      ...[A, S, D].flatMap((code) => [[`1 ${code} 1`], [`1 ${code} 0`]]),
      ['3 0 5', '3 1 6', ...[A, S, D, 33, 34, 35, 36, 37].map((code) => `1 ${code} 1`)],
    ]);
  });

  test('gets nothing of a frame that has not ended', () => {
    tap(A, S);
    device.key(D, true);
    driver.resume();
    const early = driver.take();
    device.moveTo(1, 1);
    device.frame();

    expect(early).toHaveLength(4);
    expect(driver.take()).toEqual([['3 0 1', '3 1 1', '1 32 1']]);
  });

  test('gets the newest position, and the sum of distances', () => {
    device.moveTo(1, 1);
    device.frame();
    for (let i = 2; i <= 50; i++) {
      device.moveTo(i * 10, i);
      device.moveBy(2, -1);
      device.turn('horizontal', 60);
      device.frame();
    }
    driver.resume();

    // The first two were in the ring, or on their way into it, already.
    const groups = driver.take();
    expect(groups[0]).toEqual(['3 0 1', '3 1 1']);
    expect(groups.at(-1)!.slice(0, 2)).toEqual(['3 0 500', '3 1 50']);
    expect(groups.length).toBeLessThanOrEqual(3);
    expect(sum(groups, '2 0')).toBe(98);
    expect(sum(groups, '2 12')).toBe(49 * 60);
    expect(sum(groups, '2 6')).toBe(24);
  });

  test('misses taps if there were too many, but knows which keys are up and which are down', () => {
    device.key(A, true);
    device.frame();
    for (let i = 0; i < 2000; i++) {
      device.moveTo(i % 7, i % 5);
      tap(S);
    }
    device.key(A, false);
    device.frame();
    device.key(D, true);
    device.frame();
    driver.resume();

    const groups = driver.take();
    expect(groups.length).toBeGreaterThan(250);
    expect(groups.length).toBeLessThan(600);
    expect(heldAfter(groups)).toEqual([`${D}`]);
    // Nothing was lost of what it did get: each tap is whole.
    const taps = groups.flat().filter((event) => event.startsWith(`1 ${S} `));
    expect(taps).toEqual(taps.map((_, index) => `1 ${S} ${(index + 1) % 2}`));
  });

  test('gets what was released while the VMM had it paused', () => {
    driver.resume();
    device.key(A, true);
    device.key(S, true);
    device.frame();
    driver.take();
    driver.stop();
    device.key(A, false);
    device.key(D, true);
    device.frame();
    tap(33);
    device.moveBy(500, 500);
    device.turn('vertical', 1200);
    device.frame();
    driver.start();

    expect(driver.take()).toEqual([['1 30 0', '1 32 1']]);
  });

  test('gets the rest of a group that began before a pause', () => {
    for (const code of [A, S, D, 33, 34]) device.key(code, true);
    device.frame();
    driver.stop();
    driver.start();
    driver.resume();

    expect(driver.take()).toEqual([['1 30 1', '1 31 1', '1 32 1', '1 33 1', '1 34 1']]);
  });
});

describe('KeyboardPointer: a driver that starts again', () => {
  test('finds nothing pressed, and the pointer where it was', () => {
    device.key(A, true);
    device.moveTo(300, 0);
    device.frame();
    driver[Symbol.dispose]();
    driver = new InputDriver(device);
    const first = driver.take();
    device.key(A, false);
    device.frame();
    tap(A);

    expect(first).toEqual([['3 0 300']]);
    expect(driver.take()).toEqual([['1 30 1'], ['1 30 0']]);
  });

  test('does not get what the driver before it did not take', () => {
    driver.pause();
    tap(A, S, D, A, S, D);
    driver[Symbol.dispose]();
    driver = new InputDriver(device);

    expect(driver.take()).toEqual([]);
  });
});

describe('KeyboardPointer: LEDs', () => {
  test('are reported when they change, and turn off with the driver', () => {
    driver.led(LED.CAPSL, 1);
    driver.led(LED.CAPSL, 1);
    driver.led(LED.NUML, 1);
    driver.led(LED.CAPSL, 0);
    driver[Symbol.dispose]();
    const told = leds.splice(0);
    driver = new InputDriver(device);

    expect(told).toEqual([2, 3, 1, 0]);
    expect(device.leds).toBe(0);
  });

  test.each([
    ['an LED that does not exist', Uint8Array.of(EV.LED, 0, 16, 0, 1, 0, 0, 0)],
    ['an event of another type', Uint8Array.of(EV.REP, 0, 1, 0, 1, 0, 0, 0)],
    ['half an event', Uint8Array.of(EV.LED, 0, 1, 0)],
  ])('are not changed by %s', (_what, bytes) => {
    driver.status(bytes);

    expect(leds).toEqual([]);
  });
});

function sum(groups: string[][], event: string): number {
  return groups
    .flat()
    .reduce((total, each) => (each.startsWith(`${event} `) ? total + Number(each.split(' ')[2]) : total), 0);
}

function heldAfter(groups: string[][]): string[] {
  const held = new Set<string>();
  for (const [type, code, value] of groups.flat().map((each) => each.split(' ') as [string, string, string])) {
    if (type === '1' && value === '1') held.add(code);
    if (type === '1' && value === '0') held.delete(code);
  }
  return [...held];
}
