/** Compares what a real guest shows on our device with QEMU's own device and with what the guest drew. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Picture } from '../../src/core/picture.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import {
  type Draw,
  drawnPicture,
  drawPart,
  isWholeText,
  flipWithModetest,
  showModetestPattern,
  showText,
  startDrawing,
  withDrawnCursor,
} from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import {
  expectShown,
  OurGpu,
  rebindDriver,
  resources,
  resourcesBefore,
  expectPicture,
  settledPicture,
} from '../rig/our-gpu.ts';
import { expectSamePicture, pictureWhen } from '../rig/picture.ts';

const size = [1280, 800] as const;

function hash({ data }: Picture): string {
  return createHash('sha1').update(data).digest('hex');
}

describe.skipIf(skipWithoutGuest())('a guest on our GPU', () => {
  let before: ReturnType<typeof resources>;
  let ours: OurGpu;
  let guest: Guest;
  let builtin: Guest;
  /** modetest's pattern in the size it was shown last. */
  let pattern: Picture;

  beforeAll(async () => {
    before = await resourcesBefore();
    ours = OurGpu.open({ sizes: [size] });
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: ours.socket } });
    builtin = await bootGuest({ gpu: { kind: 'builtin' }, size });
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    await builtin[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
  });

  test("shows the text console as QEMU's own GPU does", async () => {
    await showText(guest);
    await showText(builtin);
    await expectShown(ours.display, await pictureWhen(() => builtin.screendump(), isWholeText), 'text');
  });

  test.each([
    [1024, 768],
    [1920, 1080],
    [1280, 800],
  ] as const)("shows modetest's pattern at %i x %i as QEMU's own GPU does", async (width, height) => {
    ours.plug(width, height);
    await rebindDriver(guest);
    const stop = await showModetestPattern(guest, width, height);
    const stopBuiltin = await showModetestPattern(builtin, width, height);
    pattern = await builtin.screendump();
    await expectPicture(ours.output, pattern, `modetest-${width}x${height}`);
    await stop();
    await stopBuiltin();
  });

  test("shows modetest's page flips, with one of its two pictures in every frame", async () => {
    const shown = new Set([hash(await settledPicture(ours.output))]);
    // When modetest ends, the screen may be off for a moment.
    const stop = ours.display.onFrame(({ isDark }) => !isDark && shown.add(hash(ours.display.screenshot())));
    const flushes = ours.bridge.stats[0]!.flushes;
    await flipWithModetest(guest, ...size, 2);
    stop();
    expect(ours.bridge.stats[0]!.flushes - flushes).toBeGreaterThan(100);
    expect(shown).toContain(hash(pattern));
    // The console before and after, and modetest's two pictures.
    expect(shown.size).toBe(3);
  });

  describe('that draws', () => {
    let draw: Draw;
    let drawBuiltin: Draw;

    beforeAll(async () => {
      draw = await startDrawing(guest);
      drawBuiltin = await startDrawing(builtin);
    });
    afterAll(async () => {
      await draw('quit');
      await drawBuiltin('quit');
    });

    async function expectOnBoth(expected: Picture, name: string): Promise<void> {
      await expectPicture(ours.output, expected, name);
      expectSamePicture(await builtin.screendump(), expected, `${name}-builtin`);
    }

    async function both(command: string): Promise<void> {
      await draw(command);
      await drawBuiltin(command);
    }

    test.each([
      [1024, 768],
      [1366, 768],
      [801, 601],
      [1920, 1080],
      [33, 35],
      [1280, 800],
    ] as const)('shows its picture in a mode of %i x %i', async (width, height) => {
      await both(`mode ${width} ${height}`);
      await expectOnBoth(drawnPicture(width, height, 0), `mode-${width}x${height}`);
      await both('pattern 5');
      await expectOnBoth(drawnPicture(width, height, 5), `pattern-${width}x${height}`);
    });

    test('shows changes of parts of the picture', async () => {
      await both('mode 1001 333');
      const expected = drawnPicture(1001, 333, 0);
      for (const [seed, x, y, width, height] of [
        [1, 0, 0, 1, 1],
        [2, 999, 300, 2, 33],
        [3, 333, 1, 500, 200],
        [4, 400, 100, 17, 3],
      ] as const) {
        await both(`damage ${seed} ${x} ${y} ${width} ${height}`);
        drawPart(expected, seed, x, y, width, height);
      }
      await expectOnBoth(expected, 'damage');
    });

    test('flips pages, and the last page stays on screen', async () => {
      await both('mode 1280 800');
      await both('flip 100 plain');
      await expectOnBoth(drawnPicture(1280, 800, 100 % 3), 'flip-plain');
      await both('flip 50');
      await expectPicture(ours.output, await builtin.screendump(), 'flip');
    });

    test('turns its screen off and on again', async () => {
      await both('mode 640 480');
      await draw('off');
      await ours.output.settled();
      expect(ours.output.capture()).toBeNull();
      await both('mode 640 480');
      await expectOnBoth(drawnPicture(640, 480, 0), 'on-again');
    });

    test('shows its cursor over the picture wherever it moves', async () => {
      const background = drawnPicture(1024, 768, 0);
      // Commands of the cursor queue have no answer to wait for.
      const expectCursor = (seed: number, x: number, y: number, name: string) =>
        expectShown(ours.display, withDrawnCursor(background, seed, x, y), name, { cursor: true });
      await both('mode 1024 768');
      await draw('cursor 3 100 200 0 0');
      await expectCursor(3, 100, 200, 'cursor');
      await draw('move 500 333');
      await expectCursor(3, 500, 333, 'cursor-moved');
      await draw('move -20 -10');
      await expectCursor(3, -20, -10, 'cursor-top-left');
      await draw('move 1000 760');
      await expectCursor(3, 1000, 760, 'cursor-bottom-right');
      await draw('cursor 9 640 17 5 7');
      await expectCursor(9, 640, 17, 'cursor-changed');
      await expectOnBoth(background, 'cursor-left-out');
      await draw('hide');
      await expectShown(ours.display, background, 'cursor-hidden', { cursor: true });
    });
  });

  test('sends no command that our device refuses', () => {
    expect(ours.guest.stats.errors).toBe(0);
    expect(ours.log.filter((line) => line.startsWith('error'))).toEqual([]);
  });

  test('leaves no descriptor or mapping open at the end', async () => {
    await guest[Symbol.asyncDispose]();
    await builtin[Symbol.asyncDispose]();
    ours[Symbol.dispose]();
    expect(resources()).toEqual(before);
  });
});
