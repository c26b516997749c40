/** Several monitors, and memory above 4 GiB. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GpuTap } from '../../src/guest/virtio-gpu/tap.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { OurGpu, pictureShownWhen, resources, resourcesBefore, expectPicture } from '../rig/our-gpu.ts';

const FOUR_GIB = 2 ** 32;

/** Counts how often the device reads pixels above 4 GiB. */
class AddressTap implements GpuTap {
  readonly isBusy = false;
  above = 0;

  pixels(address: number): void {
    if (address >= FOUR_GIB) this.above++;
  }

  attached(): void {}
  monitorChanged(): void {}
  memoryChanged(): void {}
  negotiated(): void {}
  command(): void {}
  reset(): void {}
}

describe.skipIf(skipWithoutGuest())('a guest of 5 GiB with two monitors', () => {
  let before: ReturnType<typeof resources>;
  let ours: OurGpu;
  let guest: Guest;
  const tap = new AddressTap();

  beforeAll(async () => {
    before = await resourcesBefore();
    ours = OurGpu.open({
      sizes: [
        [1280, 800],
        [1024, 768],
      ],
      tap,
    });
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: ours.socket }, memoryMiB: 5120, maxOutputs: 2 });
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
  });

  test('detects both monitors, each with its own mode', async () => {
    expect(await guest.run('head -qn1 /sys/class/drm/card0-*/modes')).toBe('1280x800\n1024x768\n');
  });

  test('shows its console on both monitors in the size of the smaller one', async () => {
    await showText(guest);
    await pictureShownWhen(ours.outputs[1]!, isWholeText);
    const text = await ours.displays[1]!.waitForStable();
    await ours.display.waitForMatch(text, { at: { x: 0, y: 0 } });
  });

  test('shows different pictures of different sizes on both monitors, and on one while the other is off', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1366 768');
    await draw('output 1');
    await draw('mode 801 601');
    await draw('flip 10 plain');
    const [first, second] = ours.outputs as [typeof ours.output, typeof ours.output];
    await expectPicture(first, drawnPicture(1366, 768, 0), 'first-monitor');
    await expectPicture(second, drawnPicture(801, 601, 1), 'second-monitor');

    await draw('pattern 6');
    await draw('output 0');
    await draw('flip 5 plain');
    await expectPicture(first, drawnPicture(1366, 768, 2), 'first-monitor-flipped');
    await expectPicture(second, drawnPicture(801, 601, 6), 'second-monitor-drawn');

    await draw('off');
    await first.settled();
    expect(first.capture()).toBeNull();
    await expectPicture(second, drawnPicture(801, 601, 6), 'second-monitor-alone');
    await draw('quit');
  });

  test('shows pictures in memory above 4 GiB', async () => {
    tap.above = 0;
    const draw = await startDrawing(guest);
    await draw('mode 1920 1080');
    await draw('flip 10 plain');
    await expectPicture(ours.output, drawnPicture(1920, 1080, 1), 'above-4-gib');
    expect(tap.above).toBeGreaterThan(0);
    await draw('quit');
  });

  test('sends no command that our device refuses, and leaves nothing open', async () => {
    expect(ours.guest.stats.errors).toBe(0);
    await guest[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});
