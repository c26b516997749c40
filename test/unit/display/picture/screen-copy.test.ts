import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { wordsOf } from '../../../../display/picture/difference.ts';
import { type Attention, ScreenCopy } from '../../../../display/picture/screen-copy.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeGuest } from '../wayland/window-rig.ts';

/** Wider than what is compared pixel by pixel. */
const [WIDTH, HEIGHT] = [160, 48];

expectNoLeaks();

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Of what a copy counts. */
const attentions: (readonly [string, Attention])[] = [
  ['all of it', {}],
  ['it and the cursor', { cursor: true }],
  ['a region', { region: { x: 10, y: 8, width: 30, height: 20 } }],
  [
    'all but two masks',
    {
      masks: [
        { x: 4, y: 2, width: 20, height: 12 },
        { x: 30, y: 20, width: 34, height: 28 },
      ],
    },
  ],
  [
    'a region of it and the cursor',
    { cursor: true, region: { x: 10, y: 8, width: 30, height: 20 }, masks: [{ x: 12, y: 9, width: 9, height: 9 }] },
  ],
  [
    'a region but for a mask',
    { region: { x: 10, y: 8, width: 30, height: 20 }, masks: [{ x: 12, y: 9, width: 9, height: 9 }] },
  ],
];

const isInside = ({ x, y, width, height }: Rect, atX: number, atY: number): boolean =>
  atX >= x && atY >= y && atX < x + width && atY < y + height;

/** The rectangle around the pixels that count and differ. */
function changes(before: Picture, after: Picture, { region, masks = [] }: Attention): Rect {
  let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
  const [old, now] = [wordsOf(before), wordsOf(after)];
  now.forEach((pixel, i) => {
    const [x, y] = [i % WIDTH, Math.floor(i / WIDTH)];
    if (pixel === old[i] || (region && !isInside(region, x, y)) || masks.some((mask) => isInside(mask, x, y))) return;
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
  });
  return { x: left, y: top, width: right - left, height: bottom - top };
}

test.each(attentions)(
  'ScreenCopy: equals the screen, and counts %s, whatever was drawn and wherever the cursor is',
  async (_, attention) => {
    const guest = new FakeGuest();
    using picture = new GuestPicture(WIDTH, HEIGHT);
    using cursor = new GuestPicture(8, 8);
    cursor.fill(0, 0, 8, 8, 0xff0000);
    using output = HeadlessOutput.open({ width: WIDTH, height: HEIGHT });
    using bridge = new Bridge(guest);
    bridge.show(0, output);
    const screen = (): Picture => output.capture({ cursor: attention.cursor ?? false })!;
    const side = fc.integer({ min: 0, max: 40 });
    const rect = fc.record({
      x: side,
      y: side,
      width: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constant(WIDTH)),
      height: fc.integer({ min: 1, max: 8 }),
      // Two of them differ only in the byte that means nothing.
      colour: fc.constantFrom(0, 1, 0x0200_0001, 2),
      moves: fc.boolean(),
      together: fc.boolean(),
      looks: fc.boolean(),
    });
    guest.show(picture.framebuffer);
    void guest.flush(0, 0, WIDTH, HEIGHT);
    await vi.advanceTimersByTimeAsync(17);
    await fc.assert(
      fc.asyncProperty(fc.array(rect, { maxLength: 12 }), async (drawn) => {
        const copy = new ScreenCopy(output, attention);
        let before = screen();
        let looks = false;
        const heard: unknown[] = [];
        const expected: unknown[] = [];
        const stop = output.onFrame((frame) => {
          const after = screen();
          const box = changes(before, after, attention);
          expected.push(box.width > 0 ? box : null);
          heard.push(copy.update(frame) ? copy.changed : null);
          before = after;
          if (!looks) return;
          expected.push(true);
          heard.push(isEqual(copy.picture!.data, after.data));
        });
        for (const { x, y, width: most, height, colour, moves, together, looks: looksNow } of drawn) {
          const width = Math.min(most, WIDTH - x);
          looks = looksNow;
          if (moves) guest.sink.cursor(0, cursor.framebuffer, 0, 0, x - 4, y + 4);
          else picture.fill(x, y, width, height, colour);
          if (!moves) void guest.flush(x, y, width, height);
          if (!together) await vi.advanceTimersByTimeAsync(17);
        }
        await vi.advanceTimersByTimeAsync(40);
        stop();
        expect(heard).toEqual(expected);
        expect(isEqual(copy.picture!.data, screen().data)).toBe(true);
      }),
      { numRuns: 40 },
    );
  },
);
