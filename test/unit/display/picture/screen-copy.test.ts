import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { ScreenCopy } from '../../../../display/picture/screen-copy.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeGuest } from '../wayland/window-rig.ts';

const [WIDTH, HEIGHT] = [64, 48];

expectNoLeaks();

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

test('ScreenCopy: equals the screen, whatever was drawn and wherever the cursor is', async () => {
  const guest = new FakeGuest();
  using picture = new GuestPicture(WIDTH, HEIGHT);
  using cursor = new GuestPicture(8, 8);
  cursor.fill(0, 0, 8, 8, 0xff0000);
  using output = HeadlessOutput.open({ width: WIDTH, height: HEIGHT });
  using bridge = new Bridge(guest);
  bridge.show(0, output);
  const side = fc.integer({ min: 0, max: 40 });
  const rect = fc.record({
    x: side,
    y: side,
    width: fc.integer({ min: 1, max: 24 }),
    height: fc.integer({ min: 1, max: 8 }),
    colour: fc.integer({ min: 0, max: 3 }),
    moves: fc.boolean(),
    together: fc.boolean(),
  });
  guest.show(picture.framebuffer);
  void guest.flush(0, 0, WIDTH, HEIGHT);
  await vi.advanceTimersByTimeAsync(17);
  await fc.assert(
    fc.asyncProperty(fc.array(rect, { maxLength: 12 }), async (drawn) => {
      const copy = new ScreenCopy(output, { cursor: true });
      const stop = output.onFrame((frame) => {
        const before = copy.picture!.data.slice();
        expect(copy.update(frame)).toBe(!isEqual(before, copy.picture!.data));
        expect(isEqual(copy.picture!.data, output.capture({ cursor: true })!.data)).toBe(true);
      });
      for (const { x, y, width, height, colour, moves, together } of drawn) {
        if (moves) guest.sink.cursor(0, cursor.framebuffer, 0, 0, x - 4, y + 4);
        else picture.fill(x, y, width, height, colour);
        if (!moves) void guest.flush(x, y, width, height);
        if (!together) await vi.advanceTimersByTimeAsync(17);
      }
      await vi.advanceTimersByTimeAsync(40);
      stop();
      expect(isEqual(copy.picture!.data, output.capture({ cursor: true })!.data)).toBe(true);
    }),
    { numRuns: 40 },
  );
});
