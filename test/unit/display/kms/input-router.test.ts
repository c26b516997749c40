import { beforeEach, describe, expect, test } from 'vitest';
import {
  type AttachmentWatcher,
  InputRouter,
  type OperatedScreen,
  type Point,
} from '../../../../display/kms/input-router.ts';
import { CountedInput } from '../../../../src/bridge/counted-input.ts';
import type { Size } from '../../../../src/core/geometry.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import type { ScreenListener } from '../../../../src/core/output.ts';
import { SinkLog } from '../wayland/sink-log.ts';

const MONITOR: Monitor = { width: 1000, height: 1000, refreshMhz: 60_000, widthMm: 0, heightMm: 0, name: 'test' };

/** A screen of 1000x1000 that its picture fills. */
class FakeScreen implements OperatedScreen {
  readonly connectorName: string;
  monitor: Monitor | null = MONITOR;
  listener: ScreenListener | null = null;
  picture: Size;
  pointer = '';
  #watcher: AttachmentWatcher | null = null;

  constructor(connectorName: string, picture: Size) {
    this.connectorName = connectorName;
    this.picture = picture;
  }

  get guestScale(): number {
    return this.picture.width / MONITOR.width;
  }

  toGuest(x: number, y: number, out: Point): void {
    out.x = x * this.picture.width;
    out.y = y * this.picture.height;
  }

  pointAt(x: number, y: number): void {
    this.pointer = `${x} ${y}`;
  }

  pointAway(): void {
    this.pointer = 'away';
  }

  watch(watcher: AttachmentWatcher | null): void {
    this.#watcher = watcher;
  }

  attach(scanout: number, input: SinkLog | null): void {
    this.listener = { scanout, input: input && new CountedInput(input) } as unknown as ScreenListener;
    this.#watcher?.attached();
  }

  detach(): void {
    const listener = this.listener!;
    this.listener = null;
    this.#watcher?.detached(listener);
  }
}

let left: FakeScreen;
let right: FakeScreen;
let sink: SinkLog;
let leds: number[];
let router: InputRouter;

/** What the guest was told since the last call. */
function heard(from = sink): string[] {
  return from.lines.splice(0);
}

beforeEach(() => {
  left = new FakeScreen('A-1', { width: 1000, height: 500 });
  right = new FakeScreen('A-2', { width: 500, height: 500 });
  sink = new SinkLog();
  leds = [];
  router = new InputRouter([right, left], (value) => leds.push(value));
  left.attach(0, sink);
  right.attach(1, sink);
});

describe('InputRouter', () => {
  test('passes keys, buttons and wheels on, and ignores releases of what is not held', () => {
    router.key(30, true);
    router.key(31, false);
    router.button(0x110, true);
    router.wheel('vertical', 30);
    router.frame();
    expect(heard()).toEqual(['key 30 down', 'button 272 down', 'wheel vertical 30', 'frame']);
  });

  test('begins in the middle of the first scanout, and takes the pointer over the edges of the scanouts', () => {
    router.movedBy(10, -20);
    expect(heard()).toEqual(['to 0 510 230']);
    router.movedBy(495, 0);
    expect(heard()).toEqual(['to 1 5 230']);
    // 20 pixels of the screen are 10 of the guest.
    router.movedBy(20, 0);
    expect(heard()).toEqual(['to 1 15 230']);
    router.movedBy(-40, 0);
    expect(heard()).toEqual(['to 0 995 230']);
  });

  test('keeps what is held while the pointer goes over an edge', () => {
    router.button(0x110, true);
    router.movedBy(600, 0);
    router.key(30, true);
    router.movedBy(-600, 0);
    router.button(0x110, false);
    expect(heard()).toEqual(['button 272 down', 'to 1 100 250', 'key 30 down', 'to 0 800 250', 'button 272 up']);
  });

  test('keeps the pointer inside where no scanout is beside', () => {
    router.movedBy(-5000, 5000);
    router.movedBy(90_000, 0);
    expect(heard()).toEqual(['to 0 0 499', 'to 1 499 499']);
  });

  test('leaves out screens that are off, that have no picture, or that show another guest', () => {
    const other = new SinkLog();
    router.movedBy(0, 0);
    right.monitor = null;
    router.movedBy(5000, 0);
    right.monitor = MONITOR;
    right.picture = { width: 0, height: 0 };
    router.movedBy(5000, 0);
    right.picture = { width: 500, height: 500 };
    right.attach(1, other);
    router.movedBy(5000, 0);
    expect(heard()).toEqual(['to 0 500 250', 'to 0 999 250', 'to 0 999 250', 'to 0 999 250']);
    expect(heard(other)).toEqual([]);
  });

  test('gives a guest that has a mouse only the distances, in its pixels, over no edge', () => {
    sink.hasMouseOnly = true;
    router.movedBy(2000, -3);
    router.movedBy(-0.5, 0);
    expect(heard()).toEqual(['by 2000 -3', 'by -0.5 0']);
    left.detach();
    router.movedBy(20, 10);
    expect(heard().at(-1)).toBe('by 10 5');
    sink.hasMouseOnly = false;
    router.movedBy(20, 10);
    expect(heard()).toEqual(['to 1 260 255']);
  });

  test('says on which screen the pointer is, and where, as long as that is known', () => {
    router.movedBy(10, -20);
    expect([left.pointer, right.pointer]).toEqual(['510 230', '']);
    router.movedBy(495, 0);
    expect([left.pointer, right.pointer]).toEqual(['away', '5 230']);
    sink.hasMouseOnly = true;
    router.movedBy(1, 0);
    expect([left.pointer, right.pointer]).toEqual(['away', 'away']);
  });

  test('puts absolute positions into the picture of their screen', () => {
    router.movedTo(right, 0.5, 0.25);
    router.movedTo(left, 1.5, -1);
    expect(heard()).toEqual(['to 1 250 125', 'to 0 999 0']);
  });

  test('keeps a touch on the screen where it began', () => {
    router.touchDown(right, 3, 0.5, 0.5);
    router.touchMoved(3, 0.25, 0.5);
    router.touchMoved(4, 0.25, 0.5);
    router.touchUp(4);
    router.touchUp(3);
    router.touchUp(3);
    router.touchDown(right, 16, 0.5, 0.5);
    expect(heard()).toEqual(['touch 1 3 250 250', 'touch-to 1 3 125 250', 'touch-up 3']);
  });

  test('cancels all touches when one is cancelled', () => {
    router.touchDown(left, 0, 0, 0);
    router.touchDown(left, 1, 0, 0);
    heard();
    router.touchCancelled(1);
    router.touchUp(0);
    expect(heard()).toEqual(['touch-cancel']);
  });

  test('releases what is held when the screen is detached, and tells the guest nothing more', () => {
    router.key(29, true);
    router.button(0x110, true);
    router.touchDown(left, 0, 0, 0);
    heard();
    right.detach();
    expect(heard()).toEqual(['key 29 up', 'button 272 up', 'touch-cancel', 'frame']);
    left.detach();
    heard();
    router.key(29, false);
    router.movedBy(1, 1);
    router.touchMoved(0, 0, 0);
    router.frame();
    expect(heard()).toEqual([]);
  });

  test('gives keys to the guest that was pointed at last, and releases what the one before it holds', () => {
    const other = new SinkLog();
    right.attach(0, other);
    router.key(30, true);
    router.movedTo(right, 0, 0);
    router.key(30, false);
    router.key(31, true);
    expect(heard()).toEqual(['key 30 down', 'key 30 up', 'frame']);
    expect(heard(other)).toEqual(['to 0 0 0', 'key 31 down']);
  });

  test('reports the LEDs of the guest that gets keys', () => {
    const other = Object.assign(new SinkLog(), { leds: 2 });
    right.attach(0, other);
    router.movedTo(right, 0, 0);
    expect(leds).toEqual([0, 2]);
    expect(router.leds).toBe(2);
  });

  test('drops everything while no guest takes input', () => {
    left.detach();
    right.detach();
    left.attach(0, null);
    heard();
    router.key(30, true);
    router.movedBy(1, 1);
    router.movedTo(left, 0, 0);
    router.touchDown(left, 0, 0, 0);
    router.frame();
    expect(heard()).toEqual([]);
  });
});
