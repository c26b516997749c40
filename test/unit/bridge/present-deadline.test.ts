import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bridge, type BridgeOptions } from '../../../src/bridge/bridge.ts';
import type { Frame } from '../../../src/core/output.ts';
import { monotonicMs } from '../../../src/sys/clock.ts';
import { eventually } from '../../rig/eventually.ts';
import { FakeOutput, FakeSource, GuestPicture } from './fakes.ts';

const [WIDTH, HEIGHT] = [64, 48];

class TimedOutput extends FakeOutput {
  /** Always as far ahead. 0: it is not known. */
  blankInMs = 0;

  fails = false;

  override present(frame: Frame): void {
    if (this.fails) throw new Error('told to fail');
    super.present(frame);
  }

  nextBlank(nowMs: number): number {
    return this.blankInMs && nowMs + this.blankInMs;
  }
}

describe('a bridge of low latency', () => {
  let source: FakeSource;
  let output: TimedOutput;
  let guest: GuestPicture;
  let bridge: Bridge;

  beforeEach(() => {
    source = new FakeSource();
    output = new TimedOutput();
    guest = new GuestPicture(WIDTH, HEIGHT);
    start({ latency: 'low' });
  });
  afterEach(() => {
    bridge[Symbol.dispose]();
    guest[Symbol.dispose]();
  });

  function start(options: BridgeOptions): void {
    bridge = new Bridge(source, { zeroCopy: 'off', ...options });
    bridge.show(0, output);
    source.show(guest.framebuffer);
  }

  function draw(colour: number): void {
    guest.fill(0, 0, WIDTH, HEIGHT, colour);
    source.flush(0, 0, WIDTH, HEIGHT);
  }

  test('presents what the guest has drawn until just before the vertical blank, however late that was', async () => {
    output.blankInMs = 40;
    draw(0x111111);
    draw(0x222222);
    expect(output.presents).toEqual([]);
    // By now, the next blank is another one.
    await eventually(() => expect(output.presents).toHaveLength(1));
    expect(output.picture()).toEqual(guest.read());
  });

  test('presents at once while the next vertical blank is not known', () => {
    draw(0x111111);
    expect(output.presents).toHaveLength(1);
  });

  test('presents at once when there is no time left before the vertical blank', () => {
    output.blankInMs = 2;
    draw(0x111111);
    expect(output.presents).toHaveLength(1);
  });

  test('presents earlier once a frame has missed its vertical blank', async () => {
    output.blankInMs = 3.5;
    draw(0x111111);
    expect(output.presents).toEqual([]);
    await eventually(() => expect(output.presents).toHaveLength(1));
    output.vblank({ timeMs: monotonicMs() + 100 });
    draw(0x222222);
    expect(output.presents).toHaveLength(2);
  });

  test('presents as late as before when the frame was in time', async () => {
    output.blankInMs = 3.5;
    draw(0x111111);
    await eventually(() => expect(output.presents).toHaveLength(1));
    output.vblank();
    draw(0x222222);
    expect(output.presents).toHaveLength(1);
  });

  test('loses the output, and nothing else, if that throws when the frame is due', async () => {
    output.blankInMs = 10;
    draw(0x111111);
    output.fails = true;
    await eventually(() => expect(output.isAttached).toBe(false));
  });

  test('leaves the last picture on screen at once when it is disposed', () => {
    bridge[Symbol.dispose]();
    start({ latency: 'low', keepLast: true });
    output.blankInMs = 10_000;
    draw(0x111111);
    expect(output.presents).toEqual([]);
    bridge[Symbol.dispose]();
    expect(output.presents).toHaveLength(1);
    expect(output.shown).toBe(output.presents[0]!.handle);
  });

  test('is not the default', () => {
    bridge[Symbol.dispose]();
    start({});
    output.blankInMs = 10_000;
    draw(0x111111);
    expect(output.presents).toHaveLength(1);
  });
});
