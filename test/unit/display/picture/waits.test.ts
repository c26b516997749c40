import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Picture } from '../../../../src/core/picture.ts';
import type { DisplayError } from '../../../../display/picture/errors.ts';
import type { GuestInput } from '../../../../src/core/input.ts';
import { openDisplay, type TestDisplay } from '../../../../src/testing/open-display.ts';
import { pixel } from '../../../rig/picture.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeGuest } from '../wayland/window-rig.ts';
import { noiseGlyphs, psf1 } from './console-fonts.ts';

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

/** Writes down what the guest's pointer does. */
function inputInto(events: unknown[]): GuestInput {
  const note =
    (name: string) =>
    (...args: readonly unknown[]): number =>
      events.push([name, ...args]);
  return new Proxy({} as GuestInput, {
    get: (_, name) => {
      if (name === 'taken') return () => Promise.resolve();
      if (name === 'has') return undefined;
      if (name === 'onLeds') return () => () => undefined;
      return name === 'pointerMovedTo' || name === 'button' ? note(name) : () => undefined;
    },
  });
}

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

  test('calls a number that counts down no cursor', async () => {
    await turnOn();
    const wait = display.waitForStable({ timeoutMs: 3000 }).catch((error: unknown) => error as DisplayError);
    for (let left = 15; left > 0; left--) {
      await draw(8, 16, 8, 2, left * 0x0f0b07);
      await vi.advanceTimersByTimeAsync(183);
    }
    await vi.advanceTimersByTimeAsync(400);
    const { message } = (await wait) as DisplayError;

    expect(message).toContain('looks like a clock or a countdown');
    expect(message).toContain('masks: [{ x: 8, y: 16, width: 8, height: 2 }]');
  });

  test.each([Infinity, 2 ** 31, 2 ** 40])('waits for up to %d ms', async (timeoutMs) => {
    const wait = display.waitForStable({ timeoutMs });
    await vi.advanceTimersByTimeAsync(1000);
    await turnOn();

    expect((await ending(wait)).picture).toMatchObject({ width: WIDTH });
  });

  test('does not take an infinite time without changes for none', async () => {
    await turnOn();
    const { error } = await ending(display.waitForStable({ quietMs: Infinity, timeoutMs: 2000 }));

    expect(error).toMatchObject({ code: 'timeout' });
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

describe('find', () => {
  const red = (width: number, height: number): Picture => ({
    width,
    height,
    data: new Uint8Array(width * height * 4).map((_, at) => (at % 4 === 0 || at % 4 === 3 ? 255 : 0)),
  });

  test('resolves with the place of a picture, which can be clicked', async () => {
    const events: unknown[] = [];
    display[Symbol.dispose]();
    display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT }, input: inputInto(events) });
    await turnOn();
    await draw(20, 10, 8, 6, RED);
    const found = await display.find(red(8, 6));
    await display.click(found, 'right');
    await display.doubleClick(found);

    expect(found).toMatchObject({ x: 20, y: 10, width: 8, height: 6, similarity: 1, click: { x: 24, y: 13 } });
    expect(events).toEqual([
      ['pointerMovedTo', 0, 24, 13],
      ...[true, false].map((isPressed) => ['button', 0x111, isPressed]),
      ['pointerMovedTo', 0, 24, 13],
      ...[true, false, true, false].map((isPressed) => ['button', 0x110, isPressed]),
    ]);
  });

  test('rejects with the nearest place and the screen', async () => {
    await turnOn();
    await draw(20, 10, 8, 6, RED);
    await draw(22, 12, 1, 1, BLUE);
    const { error } = await ending(display.find(red(8, 6)) as never);

    expect(error).toMatchObject({ code: 'not-found', picture: { width: WIDTH } });
    expect(error!.message).toMatch(
      /test display: the picture is not there; the most similar is at 8x6\+20\+10, by [0-9.]+ %/,
    );
  });

  test('rejects while the screen is off, and for a file that is not there', async () => {
    expect((await ending(display.find(red(1, 1)) as never)).error).toMatchObject({ code: 'dark' });
    await expect(display.find('/nonexistent/ok.png')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('waitForAny', () => {
  const dot: Picture = { width: 2, height: 1, data: Uint8Array.of(0, 0, 255, 255, 0, 0, 255, 255) };
  const box: Picture = { width: 1, height: 2, data: Uint8Array.of(255, 0, 0, 255, 255, 0, 0, 255) };

  test('resolves with the one that came, and where', async () => {
    await turnOn();
    const wait = display.waitForAny([box, dot]);
    await draw(5, 5, 1, 1, BLUE);
    await draw(30, 40, 2, 1, BLUE);
    await draw(9, 9, 1, 2, RED);

    expect(await wait).toMatchObject({ index: 1, x: 30, y: 40, needle: null });
    expect(await display.waitForAny([box, dot])).toMatchObject({ index: 0, x: 9, y: 9 });
  });

  test('rejects with what came nearest to each', async () => {
    await turnOn();
    await draw(5, 5, 1, 1, BLUE);
    const { error } = await ending(display.waitForAny([box, dot], { timeoutMs: 100 }) as never);

    expect(error).toMatchObject({ code: 'timeout' });
    expect(error!.message).toMatch(
      /nothing that was looked for \(the picture is not there.*; the picture is not .*\+\d+\+5,/,
    );
    await expect(display.waitForAny([])).rejects.toMatchObject({ code: 'usage' });
  });
});

describe('text', () => {
  const size = { width: 8, height: 16 };
  const glyphs = noiseGlyphs(size, 256, 1);
  let folder: string;
  let font: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'scanout-text-'));
    font = join(folder, 'noise.psf');
    writeFileSync(font, psf1(16, glyphs));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  /** Writes a line of up to 8 characters as a console does. */
  async function write(row: number, text: string): Promise<void> {
    for (const [column, character] of Array.from(text.padEnd(8)).entries()) {
      const glyph = glyphs[character.charCodeAt(0)]!;
      for (let y = 0; y < 16; y++) {
        for (let x = 0; x < 8; x++)
          picture.fill(column * 8 + x, row * 16 + y, 1, 1, (glyph[y]! << x) & 0x80 ? 0xaaaaaa : 0);
      }
    }
    void guest.flush(0, 0, WIDTH, HEIGHT);
    await vi.advanceTimersByTimeAsync(17);
  }

  test('is read by the font of a file, whole or in a region', async () => {
    await turnOn();
    await write(0, 'login:');
    await write(2, '# ls -l');

    expect(await display.text({ fonts: [font] })).toEqual({
      text: 'login:\n\n# ls -l',
      readBy: 'console-font',
      font: 'noise',
      unread: 0,
    });
    expect(await display.text({ fonts: [font], region: { x: 16, y: 32, width: 16, height: 16 } })).toMatchObject({
      text: 'ls',
    });
  });

  test('waitForText resolves with the match, at once or when it comes', async () => {
    await turnOn();
    await write(0, 'IP 10.2');
    expect((await display.waitForText(/IP ([\d.]+)/gy, { fonts: [font] }))[1]).toBe('10.2');

    const wait = display.waitForText(/^#$/m, { fonts: [font] });
    await write(1, 'login:');
    await write(2, '#');
    expect((await wait).input).toBe('IP 10.2\nlogin:\n#');
  });

  test('waitForText rejects with the last text and the font', async () => {
    await turnOn();
    await write(0, 'panic');
    vi.useRealTimers();

    await expect(display.waitForText(/login:/, { fonts: [font], timeoutMs: 50 })).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringMatching(/matches \/login:\/ \(last, read by noise: "panic"\) within 50 ms/) as string,
    });
  });

  test('rejects with advice where only tesseract could read and is not installed', async () => {
    await turnOn();
    await draw(3, 3, 9, 9, RED);
    await draw(4, 4, 5, 5, BLUE);
    vi.stubEnv('PATH', folder);
    vi.useRealTimers();

    await expect(display.text()).rejects.toMatchObject({
      code: 'unreadable',
      message: expect.stringMatching(/no text of a console font that is known here: install tesseract/) as string,
    });
    await expect(display.waitForText(/x/)).rejects.toMatchObject({ code: 'unreadable' });
  });

  test('refuses a region that is not on the screen, and a file that is no font', async () => {
    await turnOn();
    writeFileSync(font, 'x');

    await expect(display.text({ region: { x: 60, y: 0, width: 9, height: 9 } })).rejects.toMatchObject({
      code: 'usage',
    });
    await expect(display.text({ region: { x: 0, y: 0, width: 0.5, height: 9 } })).rejects.toMatchObject({
      code: 'usage',
    });
    await expect(display.text({ fonts: [font] })).rejects.toThrow(/noise\.psf: not a PSF font/);
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

describe('waitForChange', () => {
  test('resolves with the first picture in which a pixel that counts differs', async () => {
    await turnOn();
    const changed = display.waitForChange({ region: { x: 0, y: 0, width: 10, height: 10 } });
    await draw(20, 20, 4, 4, RED);
    // The same pixels again.
    await draw(0, 0, 4, 4, 0);
    await draw(9, 9, 4, 4, BLUE);
    const shown = (await changed)!;

    expect(pixel(shown, 9, 9)).toBe(BLUE);
    expect(pixel(shown, 20, 20)).toBe(RED);
  });

  test('rejects in time if nothing changes', async () => {
    await turnOn();
    const { error, ms } = await ending(display.waitForChange({ timeoutMs: 700 }) as Promise<Picture>);

    expect(error).toMatchObject({
      code: 'timeout',
      message: expect.stringContaining('did not change within 700 ms') as string,
    });
    expect(ms).toBe(700);
  });

  test('a screen that turns off has changed', async () => {
    await turnOn();
    const changed = display.waitForChange();
    guest.sink.scanout(0, null, { x: 0, y: 0, width: 0, height: 0 });
    await vi.advanceTimersByTimeAsync(17);

    expect(await changed).toBeNull();
  });
});
