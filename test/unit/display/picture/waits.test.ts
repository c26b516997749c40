import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Picture } from '../../../../src/core/picture.ts';
import type { DisplayError } from '../../../../display/picture/errors.ts';
import { openDisplay, type TestDisplay } from '../../../../src/testing/open-display.ts';
import { pixel } from '../../../rig/picture.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeGuest } from '../wayland/window-rig.ts';

const [WIDTH, HEIGHT] = [64, 48];
const RED = 0xff0000;
const BLUE = 0x0000ff;

expectNoLeaks();

let guest: FakeGuest;
let picture: GuestPicture;
let cursor: GuestPicture;
let display: TestDisplay;

beforeEach(() => {
  vi.useFakeTimers();
  guest = new FakeGuest();
  picture = new GuestPicture(WIDTH, HEIGHT);
  cursor = new GuestPicture(8, 8);
  cursor.fill(0, 0, 8, 8, RED);
  display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT } });
});
afterEach(() => {
  display[Symbol.dispose]();
  picture[Symbol.dispose]();
  cursor[Symbol.dispose]();
  vi.useRealTimers();
});

/** Draws a rectangle; resolves when it is on screen. */
async function draw(x: number, y: number, width: number, height: number, colour: number): Promise<void> {
  picture.fill(x, y, width, height, colour);
  void guest.flush(x, y, width, height);
  await vi.advanceTimersByTimeAsync(17);
}

async function turnOn(): Promise<void> {
  guest.show(picture.framebuffer);
  await draw(0, 0, WIDTH, HEIGHT, 0);
}

/** The outcome of a wait, and how long it took by the fake clock. */
async function ending(wait: Promise<Picture>): Promise<{ picture?: Picture; error?: DisplayError; ms: number }> {
  const start = performance.now();
  const ended = wait.then(
    (shown) => ({ picture: shown, ms: performance.now() - start }),
    (error: unknown) => ({ error: error as DisplayError, ms: performance.now() - start }),
  );
  await vi.advanceTimersByTimeAsync(120_000);
  return ended;
}

describe('waitForStable', () => {
  test('resolves quietMs after the last change and no earlier', async () => {
    await turnOn();
    const wait = display.waitForStable({ quietMs: 100 });
    await vi.advanceTimersByTimeAsync(80);
    await draw(3, 4, 5, 6, RED);
    await vi.advanceTimersByTimeAsync(80);
    await draw(3, 4, 1, 1, BLUE);
    const { picture: shown, ms } = await ending(wait);

    expect(ms).toBeGreaterThan(60);
    expect(ms).toBeLessThanOrEqual(101);
    expect([pixel(shown!, 3, 4), pixel(shown!, 4, 4), pixel(shown!, 8, 4)]).toEqual([BLUE, RED, 0]);
  });

  /** How long the wait takes if something happens after 60 ms. */
  async function quietAfter(options: object, happens: () => Promise<void>): Promise<number> {
    await turnOn();
    const start = performance.now();
    const wait = display.waitForStable({ quietMs: 100, ...options }).then(() => performance.now() - start);
    await vi.advanceTimersByTimeAsync(60);
    await happens();
    await vi.advanceTimersByTimeAsync(200);
    return wait;
  }

  test.each<[string, object, () => Promise<void>]>([
    ['the same pixels drawn again', {}, () => draw(0, 0, WIDTH, HEIGHT, 0)],
    ['a change under a mask', { masks: [{ x: 10, y: 10, width: 8, height: 8 }] }, () => draw(12, 10, 2, 8, RED)],
    [
      'a change outside of the region',
      { region: { x: 0, y: 0, width: 10, height: HEIGHT } },
      () => draw(12, 10, 2, 8, RED),
    ],
    [
      'a move of the hardware cursor',
      {},
      async () => {
        guest.sink.cursor(0, cursor.framebuffer, 0, 0, 20, 20);
        await vi.advanceTimersByTimeAsync(17);
      },
    ],
  ])('is not delayed by %s', async (_what, options, happens) => {
    expect(await quietAfter(options, happens)).toBeLessThanOrEqual(101);
  });

  test.each<[string, object, () => Promise<void>]>([
    ['one pixel beside a mask', { masks: [{ x: 10, y: 10, width: 8, height: 8 }] }, () => draw(10, 10, 9, 1, RED)],
    ['the first pixel of the region', { region: { x: 12, y: 10, width: 10, height: 1 } }, () => draw(4, 4, 9, 9, RED)],
    [
      'a move of the hardware cursor, if that counts',
      { cursor: true },
      async () => {
        guest.sink.cursor(0, cursor.framebuffer, 0, 0, 20, 20);
        await vi.advanceTimersByTimeAsync(17);
      },
    ],
    [
      'a new size',
      {},
      async () => {
        using small = new GuestPicture(32, 32);
        guest.show(small.framebuffer);
        void guest.flush(0, 0, 32, 32);
        await vi.advanceTimersByTimeAsync(17);
        await turnOn();
      },
    ],
  ])('is delayed by %s', async (_what, options, happens) => {
    expect(await quietAfter(options, happens)).toBeGreaterThan(150);
  });

  test('resolves with the newest pixels under a mask', async () => {
    await turnOn();
    const wait = display.waitForStable({ masks: [{ x: 0, y: 0, width: 64, height: 8 }] });
    await draw(2, 2, 1, 1, RED);

    expect(pixel((await ending(wait)).picture!, 2, 2)).toBe(RED);
  });

  test('waits for a screen that is off at first', async () => {
    const wait = display.waitForStable();
    await turnOn();

    expect((await ending(wait)).picture).toMatchObject({ width: WIDTH, height: HEIGHT });
  });

  test('rejects with advice when the screen stays off', async () => {
    const { error, ms } = await ending(display.waitForStable({ timeoutMs: 700 }));

    expect(error).toMatchObject({ code: 'timeout', picture: null });
    expect(ms).toBe(700);
    expect(error!.message).toBe(
      'test display showed nothing within 700 ms. No frame arrived. The screen is off: has the guest started, and does it have a virtio-gpu driver?',
    );
  });

  test('rejects with the place, the rate and a remedy when a cursor blinks', async () => {
    await turnOn();
    const wait = display.waitForStable({ timeoutMs: 3000 }).catch((error: unknown) => error as DisplayError);
    for (let blink = 0; blink < 18; blink++) {
      await draw(8, 16, 8, 2, blink % 2 === 0 ? RED : 0);
      await vi.advanceTimersByTimeAsync(183);
    }
    const error = (await wait) as DisplayError;

    expect(error).toMatchObject({ code: 'timeout', picture: { width: WIDTH, height: HEIGHT } });
    expect(error.message).toMatch(
      /did not stand still for 500 ms within 3000 ms\. \d+ of \d+ frames changed something, the last \d+ of them within 8x2\+8\+16, one every (19|20)\d ms\. /,
    );
    expect(error.message).toContain('vt.global_cursor_default=0');
    expect(error.message).toContain('masks: [{ x: 8, y: 16, width: 8, height: 2 }]');
    expect(error.message).toMatch(/Shown now: (a picture of 64x48|64x48, every pixel #000000) \(rung shadow\)\.$/);
  });

  test('rejects when the display is disposed', async () => {
    await turnOn();
    const wait = ending(display.waitForStable());
    display[Symbol.dispose]();

    expect((await wait).error).toMatchObject({ code: 'closed' });
    expect((await ending(display.waitForStable())).error).toMatchObject({ code: 'closed' });
    expect(() => display.screenshot()).toThrow(expect.objectContaining({ code: 'closed' }));
  });
});

describe('waitForMatch', () => {
  test('resolves at once or with a later frame that matches', async () => {
    await turnOn();
    const before = display.screenshot();
    expect((await ending(display.waitForMatch(before))).ms).toBe(0);

    await draw(1, 1, 2, 2, RED);
    const wait = display.waitForMatch(before);
    await draw(1, 1, 1, 1, 0);
    await draw(1, 1, 2, 2, 0);

    expect((await ending(wait)).picture).toEqual(before);
  });

  test('compares a part of the screen', async () => {
    await turnOn();
    const red = {
      width: 4,
      height: 2,
      data: new Uint8Array(32).map((_, at) => (at % 4 === 0 || at % 4 === 3 ? 255 : 0)),
    };
    const wait = display.waitForMatch(red, { at: { x: 60, y: 46 }, masks: [{ x: 0, y: 0, width: 1, height: 1 }] });
    await draw(40, 40, 23, 7, RED);
    await draw(61, 46, 3, 2, RED);
    await draw(60, 47, 1, 1, RED);
    const { picture: shown } = await ending(wait);

    expect([shown!.width, pixel(shown!, 40, 40), pixel(shown!, 63, 47)]).toEqual([WIDTH, RED, RED]);
  });

  test('rejects with the last picture and how it differed', async () => {
    await turnOn();
    const expected = display.screenshot();
    await draw(7, 9, 1, 1, RED);
    const { error } = await ending(display.waitForMatch(expected, { timeoutMs: 800 }));

    expect(error).toMatchObject({ code: 'timeout', picture: { width: WIDTH } });
    expect(pixel(error!.picture!, 7, 9)).toBe(RED);
    expect(error!.message).toMatch(/did not show the expected picture \(last: .*1 of 3072 pixels .*\) within 800 ms/);
  });

  test('rejects when the place is not on the screen', async () => {
    await turnOn();
    const { error } = await ending(
      display.waitForMatch({ width: 4, height: 2, data: new Uint8Array(32) }, { at: { x: 61, y: 0 }, timeoutMs: 100 }),
    );

    expect(error!.message).toContain('4x2+61+0 is not on a screen of 64x48');
  });

  test('rejects at once for invalid options', async () => {
    await turnOn();

    expect(
      (await ending(display.waitForMatch(display.screenshot(), { region: { x: 900, y: 0, width: 1, height: 1 } })))
        .error,
    ).toMatchObject({ code: 'usage' });
  });
});

test('TestDisplay: reports frames to listeners and keeps their times and damage', async () => {
  const told: number[] = [];
  display.onFrame((frame) => told.push(frame.damage.area));
  await turnOn();
  await draw(1, 2, 3, 4, RED);

  expect(told).toEqual([WIDTH * HEIGHT, 12]);
  expect(display.frames.map(({ damagedPixels }) => damagedPixels)).toEqual(told);
  expect(display.frames[1]!.timeMs).toBeGreaterThan(display.frames[0]!.timeMs);
});

test('TestDisplay: screenshot throws with advice while the screen is off', () => {
  expect(display.rung).toBeNull();
  expect(() => display.screenshot()).toThrow(
    expect.objectContaining({ code: 'dark', message: expect.stringContaining('waitForStable') as string }),
  );
});
