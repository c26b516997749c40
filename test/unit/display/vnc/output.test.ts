import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { BTN, KEY } from '../../../../protocols/input-event-codes.ts';
import { HeadlessBuffer } from '../../../../display/headless/buffer.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import { eventually } from '../../../rig/eventually.ts';
import { Random } from '../../../rig/random.ts';
import * as rfb from '../../../rig/rfb-viewer.ts';
import { inFormat, VncRig } from './rig.ts';

let rig: VncRig;

beforeAll(async () => {
  rig = await VncRig.open();
});

afterEach(async () => {
  rig.closeViewers();
  await rig.showCursor(null);
  rig.input.lines.length = 0;
  rig.monitors.length = 0;
});

afterAll(() => rig[Symbol.dispose]());

const FORMATS: Readonly<Record<string, rfb.Format>> = {
  XRGB8888: rfb.TRUE_COLOUR,
  'XRGB8888, big-endian': { ...rfb.TRUE_COLOUR, big: true },
  XBGR8888: { ...rfb.TRUE_COLOUR, shift: [0, 8, 16] },
  RGBX8888: { ...rfb.TRUE_COLOUR, shift: [24, 16, 8] },
  'RGBX8888, big-endian': { ...rfb.TRUE_COLOUR, shift: [24, 16, 8], big: true },
  'a depth of 32': { ...rfb.TRUE_COLOUR, depth: 32 },
  XRGB2101010: { bits: 32, depth: 30, big: false, max: [1023, 1023, 1023], shift: [20, 10, 0] },
  RGB565: { bits: 16, depth: 16, big: false, max: [31, 63, 31], shift: [11, 5, 0] },
  'RGB565, big-endian': { bits: 16, depth: 16, big: true, max: [31, 63, 31], shift: [11, 5, 0] },
  RGB332: { bits: 8, depth: 8, big: false, max: [7, 7, 3], shift: [5, 2, 0] },
};

const WIDTH = 203;
const HEIGHT = 141;

const TILE = 64;

/** In each tile of ZRLE how many colours there are, and how likely one ends: runs of any length, and noise. */
const TILES = [
  [1, 1],
  [2, 1],
  [3, 1],
  [10, 1],
  [100, 1],
  [100, 0.002],
  [5, 0.001],
  [4096, 1],
  [4096, 0.1],
  [2, 0.01],
  [16, 0.5],
  [127, 0.3],
] as const;

function drawing(seed: number): Uint32Array {
  const random = new Random(seed);
  const pixels = new Uint32Array(WIDTH * HEIGHT);
  for (let y = 0; y < HEIGHT; y += TILE)
    for (let x = 0; x < WIDTH; x += TILE) {
      const [colours, chance] = TILES[((y / TILE) * 4 + x / TILE + seed) % TILES.length]!;
      const palette = Array.from({ length: colours }, () => random.below(2 ** 24));
      let colour = palette[0]!;
      for (let row = y; row < Math.min(y + TILE, HEIGHT); row++)
        for (let column = x; column < Math.min(x + TILE, WIDTH); column++) {
          if (random.chance(chance)) colour = random.pick(palette);
          pixels[row * WIDTH + column] = colour;
        }
    }
  return pixels;
}

/** All of the picture has so many colours, of which Tight makes palettes. */
function speckled(colours: number): Uint32Array {
  const random = new Random(colours);
  const palette = Array.from({ length: colours }, () => random.below(2 ** 24));
  return Uint32Array.from({ length: WIDTH * HEIGHT }, () => random.pick(palette));
}

/** Runs of 256 pixels in the tiles of ZRLE, whose length ends with a byte of its own. */
function banded(): Uint32Array {
  return Uint32Array.from({ length: WIDTH * HEIGHT }, (_, i) => Math.floor(i / WIDTH / 4) * 0x10203);
}

/** The pixels that differ, as `index: is, should be`; the first of them. */
function differences(pixels: Uint32Array, expected: readonly number[]): string[] {
  const wrong: string[] = [];
  for (let i = 0; i < expected.length && wrong.length < 5; i++)
    if (pixels[i] !== expected[i]) wrong.push(`${i}: ${pixels[i]}, ${expected[i]}`);
  return wrong;
}

function filled(width: number, height: number, colour: number): Uint32Array {
  return new Uint32Array(width * height).fill(colour);
}

describe('VncOutput, encodings', () => {
  test.each(
    Object.entries(FORMATS).flatMap(([name, format]) =>
      [rfb.RAW, rfb.ZRLE, rfb.TIGHT].map((encoding) => ({ name, format, encoding })),
    ),
  )('VncOutput: sends pictures exactly, encoded by $encoding with pixels of $name', async ({ format, encoding }) => {
    const picture = drawing(encoding);
    await rig.show(WIDTH, HEIGHT, picture);
    const viewer = await rig.connect({ encodings: [encoding], format });
    await viewer.update();
    expect(differences(viewer.pixels, inFormat(picture, format))).toEqual([]);
    for (const other of [drawing(encoding + 5), speckled(2), speckled(200), banded()]) {
      await rig.show(WIDTH, HEIGHT, other);
      await viewer.update(true);
      expect(differences(viewer.pixels, inFormat(other, format))).toEqual([]);
    }
    expect(viewer.encodings.filter((used) => used >= 0 && used !== encoding)).toEqual([]);
  });

  test('VncOutput: sends a picture wider than a Tight rectangle in several', async () => {
    const picture = Uint32Array.from({ length: 4500 * 70 }, (_, i) => (i * 2654435761) & 0xffffff);
    await rig.show(4500, 70, picture);
    const viewer = await rig.connect({ encodings: [rfb.TIGHT] });
    await viewer.update();
    expect(Buffer.compare(Buffer.from(viewer.pixels.buffer), Buffer.from(picture.buffer))).toBe(0);
    expect(viewer.encodings.length).toBe(5);
  });

  test('VncOutput: gives a viewer with a colour map its colours', async () => {
    await rig.show(64, 48, filled(64, 48, 0xff0000));
    const viewer = await rig.connect({
      encodings: [rfb.RAW],
      format: { bits: 8, depth: 8, big: false, max: [7, 7, 3], shift: [0, 3, 6] },
    });
    viewer.setFormat({ bits: 8, depth: 8, big: false, max: [0, 0, 0], shift: [0, 0, 0] }, false);
    await viewer.update();
    expect(viewer.log[0]).toBe('colours 256');
    expect(viewer.pixels[0]).toBe(7);
  });
});

describe('VncOutput, updates', () => {
  test('VncOutput: sends a viewer that asks again only what has changed', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.ZRLE] });
    await viewer.update();
    const before = viewer.pixelsReceived;
    const changed = filled(64, 48, 1);
    changed.fill(2, 64 * 10 + 5, 64 * 10 + 12);
    await rig.show(64, 48, changed, { x: 5, y: 10, width: 7, height: 1 });
    await viewer.update(true);
    expect(viewer.pixelsReceived - before).toBe(7);
    expect(Array.from(viewer.pixels)).toEqual(Array.from(changed));
  });

  test('VncOutput: sends only what differs, of a guest that damages all of its picture', async () => {
    const picture = filled(64, 48, 1);
    await rig.show(64, 48, picture);
    const viewer = await rig.connect({ encodings: [rfb.ZRLE] });
    await viewer.update();
    viewer.request(true);
    const before = { pixels: viewer.pixelsReceived, updates: viewer.updates };
    await rig.show(64, 48, picture);
    picture[64 * 20 + 9] = 0xff000001 | 0;
    await rig.show(64, 48, picture);
    picture.fill(2, 64 * 20 + 9, 64 * 20 + 12);
    await rig.show(64, 48, picture);
    await viewer.until(() => viewer.updates > before.updates);
    expect(viewer.updates - before.updates).toBe(1);
    expect(viewer.pixelsReceived - before.pixels).toBe(3);
    expect(Array.from(viewer.pixels)).toEqual(Array.from(picture));
  });

  test('VncOutput: sends a square that changes in one rectangle', async () => {
    const picture = drawing(1);
    await rig.show(WIDTH, HEIGHT, picture);
    const viewer = await rig.connect({ encodings: [rfb.ZRLE] });
    await viewer.update();
    const before = viewer.encodings.length;
    for (let y = 30; y < 94; y++) for (let x = 70; x < 134; x++) picture[y * WIDTH + x]! ^= 1 + ((x * y) % 255);
    await rig.show(WIDTH, HEIGHT, picture);
    await viewer.update(true);
    expect(viewer.encodings.length - before).toBe(1);
    expect(Array.from(viewer.pixels)).toEqual(Array.from(picture));
  });

  test('VncOutput: encodes nothing for a viewer that does not ask, and all it missed when it does', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.ZRLE] });
    await viewer.update();
    const { updates } = rig.output.stats;
    for (let colour = 2; colour < 20; colour++) await rig.show(64, 48, filled(64, 48, colour));
    expect(rig.output.stats.updates).toBe(updates);
    await viewer.update(true);
    expect(rig.output.stats.updates).toBe(updates + 1);
    expect(new Set(viewer.pixels)).toEqual(new Set([19]));
  });

  test('VncOutput: reads nothing for viewers that do not ask: no frame, no new mode, no cursor, no dark screen', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.ZRLE, rfb.CURSOR, rfb.DESKTOP_SIZE] });
    await viewer.update();
    const read = vi.spyOn(HeadlessBuffer.prototype, 'read');
    try {
      await rig.show(64, 48, filled(64, 48, 2));
      await rig.showCursor(0xff00ff00 | 0, 2, 3);
      await rig.turnOff();
      await rig.show(80, 60, filled(80, 60, 3));
      await rig.moveCursor(5, 6);
      await setImmediate();
      expect(read).not.toHaveBeenCalled();
      viewer.request(true);
      await viewer.until(() => viewer.width === 80);
      await viewer.update();
      expect(read).toHaveBeenCalled();
      expect(new Set(viewer.pixels)).toEqual(new Set([3]));
      expect(viewer.cursors.length).toBe(1);
    } finally {
      read.mockRestore();
    }
  });

  test('VncOutput: sends only within the area that was asked for, and the rest later', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.RAW] });
    await viewer.update();
    const before = viewer.pixelsReceived;
    await rig.show(64, 48, filled(64, 48, 2));
    viewer.request(true, [10, 10, 20, 20]);
    await viewer.until(() => viewer.pixelsReceived > before);
    expect(viewer.pixelsReceived - before).toBe(400);
    await viewer.update(true);
    expect(viewer.pixelsReceived - before).toBe(64 * 48);
    expect(new Set(viewer.pixels)).toEqual(new Set([2]));
  });

  test('VncOutput: stops encoding for a viewer that does not read, and goes on when it does', async () => {
    const noise = (seed: number): Uint32Array => {
      const random = new Random(seed);
      return Uint32Array.from({ length: 400 * 300 }, () => random.below(2 ** 24));
    };
    await rig.show(400, 300, noise(0));
    const [stopped, other] = [await rig.connect({ encodings: [rfb.RAW] }), await rig.connect({ encodings: [rfb.RAW] })];
    stopped.continuous(true);
    await stopped.until(() => stopped.updates > 0);
    stopped.socket.pause();
    let last = noise(0);
    const seen: number[] = [];
    for (let frame = 1; frame <= 12; frame++) {
      last = noise(frame);
      await rig.show(400, 300, last);
      await other.update();
      seen.push(rig.output.stats.updates - other.updates);
    }
    // The kernel takes some; then there are no more.
    expect(seen.at(-1)).toBe(seen.at(-4));
    stopped.socket.resume();
    await stopped.until(() => Buffer.compare(Buffer.from(stopped.pixels.buffer), Buffer.from(last.buffer)) === 0);
  });

  test('VncOutput: shows black while the guest shows nothing, and the next picture', async () => {
    await rig.show(64, 48, filled(64, 48, 5));
    const viewer = await rig.connect({ encodings: [rfb.TIGHT] });
    await viewer.update();
    const isAll = (colour: number) => (): boolean => viewer.pixels.every((pixel) => pixel === colour);
    viewer.request(true);
    await rig.turnOff();
    await viewer.until(isAll(0));
    await rig.show(64, 48, filled(64, 48, 6));
    await viewer.update(true);
    expect(new Set(viewer.pixels)).toEqual(new Set([6]));
    viewer.request(true);
    viewer.fence(0x8000_0000, 'asked');
    await viewer.until(() => viewer.fences.length === 1);
    rig.detach();
    await viewer.until(isAll(0));
    rig.attach();
  });

  test('VncOutput: sends continuous updates, as many as the viewer confirms, until they are turned off', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.RAW, rfb.FENCE, rfb.CONTINUOUS] });
    await viewer.until(() => viewer.continuousEnds === 1 && viewer.fences.length === 1);
    viewer.continuous(true);
    await viewer.until(() => viewer.pixels[0] === 1);
    viewer.answersFences = false;
    for (let colour = 2; colour < 10; colour++) {
      await rig.show(64, 48, filled(64, 48, colour));
      viewer.fence(0x8000_0001, String(colour));
      await viewer.until(() => viewer.fences.some(({ payload }) => payload.toString() === String(colour)));
    }
    expect(viewer.updates).toBe(3);
    viewer.fence(0, '');
    await viewer.until(() => viewer.pixels[0] === 9);
    viewer.continuous(false);
    await viewer.until(() => viewer.continuousEnds === 2);
  });

  test('VncOutput: answers a fence in its place, and one that synchronizes after the next message', async () => {
    await rig.show(64, 48, filled(64, 48, 0x123456));
    const viewer = await rig.connect({ encodings: [rfb.RAW, rfb.FENCE] });
    await viewer.until(() => viewer.fences.length === 1);
    viewer.request(false);
    viewer.fence(0xffff_fff1, 'before');
    await viewer.until(() => viewer.fences.length === 2);
    expect(viewer.log.slice(-2)).toEqual(['update of 1', 'fence before']);
    expect(viewer.fences[1]!.flags).toBe(1);
    viewer.fence(0x8000_0004, 'next');
    viewer.setDesktopSize(10, 10);
    viewer.fence(0x8000_0000, 'after');
    await viewer.until(() => viewer.fences.length === 4);
    expect(viewer.log.slice(-3)).toEqual(['update of 1', 'fence next', 'fence after']);
  });
});

describe('VncOutput, pictures that scroll', () => {
  /** Moves rows up, and draws others below. */
  function scroll(picture: Uint32Array, by: number, random: Random): Uint32Array {
    const rows = picture.slice(by * WIDTH);
    return Uint32Array.from(picture, (_, i) => rows[i] ?? random.below(2 ** 24));
  }

  const lines = (random: Random): Uint32Array =>
    Uint32Array.from({ length: WIDTH * HEIGHT }, (_, i) => (i % WIDTH < 100 ? random.below(2 ** 24) : 0));

  test('VncOutput: tells a viewer that can copy what has moved, and sends the rest', async () => {
    const random = new Random(1);
    let picture = lines(random);
    await rig.show(WIDTH, HEIGHT, picture);
    const copying = await rig.connect({ encodings: [rfb.ZRLE, rfb.COPY_RECT] });
    const other = await rig.connect({ encodings: [rfb.ZRLE] });
    for (const viewer of [copying, other]) await viewer.update();
    for (const by of [16, 1, 40]) {
      picture = scroll(picture, by, random);
      // A cursor that blinks, in the part that has moved.
      picture.fill(by, 20 * WIDTH + 10, 20 * WIDTH + 18);
      const before = copying.pixelsReceived;
      copying.encodings.length = 0;
      await rig.show(WIDTH, HEIGHT, picture);
      for (const viewer of [copying, other]) {
        await viewer.update(true);
        expect(differences(viewer.pixels, Array.from(picture))).toEqual([]);
      }
      expect(copying.encodings[0]).toBe(rfb.COPY_RECT);
      expect(copying.pixelsReceived - before).toBe((by + 1) * WIDTH);
    }
    expect(other.encodings).not.toContain(rfb.COPY_RECT);
    // Most of it is another picture.
    picture = scroll(picture, 100, random);
    copying.encodings.length = 0;
    await rig.show(WIDTH, HEIGHT, picture);
    await copying.update(true);
    expect(copying.encodings).not.toContain(rfb.COPY_RECT);
    expect(differences(copying.pixels, Array.from(picture))).toEqual([]);
  });

  test('VncOutput: shows each viewer the picture, whatever happens while it scrolls', async () => {
    const random = new Random(2);
    let picture = lines(random);
    await rig.show(WIDTH, HEIGHT, picture);
    const encodings = [rfb.ZRLE, rfb.COPY_RECT];
    const driver = await rig.connect({ encodings: [...encodings, rfb.CURSOR] });
    const watchers = [await rig.connect({ encodings }), await rig.connect({ encodings })];
    const viewers = [driver, ...watchers];
    for (const viewer of viewers) await viewer.update();
    await rig.showCursor(0xff00ff00 | 0, 20, 30, 8);
    const cursor = { x: 20, y: 30 };
    const withCursor = (): Uint32Array => {
      const shown = picture.slice();
      for (let y = cursor.y; y < cursor.y + 8; y++)
        shown.fill(0x00ff00, y * WIDTH + cursor.x, y * WIDTH + cursor.x + 8);
      return shown;
    };
    for (let step = 1; step <= 240; step++) {
      const what = random.below(8);
      if (what < 4) {
        picture = scroll(picture, 1 + random.below(30), random);
        await rig.show(WIDTH, HEIGHT, picture);
      } else if (what === 4) {
        const at = random.below(WIDTH * (HEIGHT - 1));
        picture.fill(random.below(2 ** 24), at, at + WIDTH);
        const y = Math.floor(at / WIDTH);
        await rig.show(WIDTH, HEIGHT, picture, { x: 0, y, width: WIDTH, height: 2 });
      } else if (what === 5) {
        Object.assign(cursor, { x: random.below(WIDTH - 8), y: random.below(HEIGHT - 8) });
        await rig.moveCursor(cursor.x, cursor.y);
      } else {
        const top = random.below(HEIGHT - 1);
        random.pick(viewers).request(true, [0, top, WIDTH, HEIGHT - top]);
      }
      if (random.chance(0.4)) random.pick(viewers).request(true);
      if (step % 8 !== 0) continue;
      for (const viewer of viewers) {
        viewer.request(true);
        const expected = viewer === driver ? picture : withCursor();
        await viewer.until(() => Buffer.from(viewer.pixels.buffer).equals(Buffer.from(expected.buffer)));
      }
    }
    expect(viewers.map(({ encodings: used }) => used.includes(rfb.COPY_RECT))).toEqual([true, true, true]);
  });
});

describe('VncOutput, sizes', () => {
  test.each([rfb.DESKTOP_SIZE, rfb.EXTENDED_DESKTOP_SIZE])(
    'VncOutput: tells a viewer with encoding %i of a new size before it sends the picture',
    async (encoding) => {
      await rig.show(64, 48, filled(64, 48, 1));
      const viewer = await rig.connect({ encodings: [rfb.ZRLE, encoding] });
      await viewer.update();
      await viewer.until(() => viewer.pixels[0] === 1);
      await rig.show(100, 30, filled(100, 30, 2));
      viewer.request(true);
      await viewer.until(() => viewer.width === 100);
      expect(viewer.sizes.at(-1)).toMatchObject({ encoding, reason: 0, result: 0, width: 100, height: 30 });
      viewer.request(false);
      await viewer.until(() => viewer.pixels.every((pixel) => pixel === 2));
    },
  );

  test('VncOutput: shows a viewer that takes no sizes the part of the picture that it has room for', async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const viewer = await rig.connect({ encodings: [rfb.RAW] });
    await viewer.update();
    await rig.show(100, 30, filled(100, 30, 2));
    await viewer.update();
    expect([viewer.pixels[0], viewer.pixels[29 * 64 + 63], viewer.pixels[30 * 64]]).toEqual([2, 2, 1]);
  });

  test("VncOutput: makes the size that the driver's window has the guest's monitor", async () => {
    await rig.show(64, 48, filled(64, 48, 1));
    const driver = await rig.connect({ encodings: [rfb.EXTENDED_DESKTOP_SIZE] });
    const watcher = await rig.connect({ encodings: [rfb.EXTENDED_DESKTOP_SIZE] });
    await driver.update();
    await watcher.update();
    driver.setDesktopSize(300, 200);
    await driver.until(() => driver.sizes.at(-1)?.reason === 1);
    expect(driver.sizes.at(-1)).toMatchObject({ result: 4 });
    expect(rig.monitors.map((monitor) => [monitor?.width, monitor?.height])).toEqual([[300, 200]]);
    await rig.show(300, 200, filled(300, 200, 2));
    driver.request(true);
    await driver.until(() => driver.width === 300);
    expect(driver.sizes.at(-1)).toMatchObject({ reason: 0, result: 0, screens: [[7, 0, 0, 300, 200, 0]] });
    driver.setDesktopSize(400, 200, [
      [0, 0, 0, 200, 200, 0],
      [1, 200, 0, 200, 200, 0],
    ]);
    driver.setDesktopSize(63, 200);
    driver.setDesktopSize(9000, 200);
    driver.setDesktopSize(300, 200);
    await driver.until(() => driver.sizes.filter(({ reason }) => reason === 1).length === 5);
    expect(driver.sizes.slice(-4).map(({ result }) => result)).toEqual([3, 3, 3, 0]);
    watcher.setDesktopSize(500, 400);
    await watcher.until(() => watcher.sizes.at(-1)?.reason === 1);
    expect(watcher.sizes.at(-1)).toMatchObject({ result: 1 });
    expect(rig.monitors.length).toBe(1);
  });
});

describe('VncOutput, cursors', () => {
  test('VncOutput: gives the driver the shape of the cursor, and watchers a picture with it', async () => {
    await rig.show(64, 48, filled(64, 48, 0x101010));
    const driver = await rig.connect({ encodings: [rfb.RAW, rfb.CURSOR] });
    const watcher = await rig.connect({ encodings: [rfb.RAW, rfb.CURSOR] });
    await driver.update();
    await watcher.update();
    // Half transparent red, premultiplied.
    await rig.showCursor(0x80800000 | 0, 20, 10, 8, 3);
    await driver.update(true);
    await watcher.update(true);
    expect(driver.cursors.at(-1)).toMatchObject({ hotspot: [3, 3], width: 8, height: 8 });
    expect(new Set(driver.cursors.at(-1)!.pixels)).toEqual(new Set([0xff0000]));
    expect(driver.pixels[10 * 64 + 20]).toBe(0x101010);
    expect(watcher.cursors).toEqual([]);
    const blended = 0x880808;
    expect(watcher.pixels[10 * 64 + 20]).toBe(blended);
    expect(watcher.pixels.filter((pixel) => pixel === blended).length).toBe(64);
    await rig.moveCursor(60, 44);
    await watcher.update(true);
    expect(watcher.pixels.filter((pixel) => pixel === blended).length).toBe(16);
    expect(watcher.pixels[10 * 64 + 20]).toBe(0x101010);
    await rig.showCursor(null);
    await driver.update(true);
    await watcher.update(true);
    expect(driver.cursors.at(-1)).toMatchObject({ width: 0, height: 0 });
    expect(new Set(watcher.pixels)).toEqual(new Set([0x101010]));
  });

  test('VncOutput: draws the cursor for a viewer that cannot', async () => {
    await rig.show(64, 48, filled(64, 48, 0));
    const viewer = await rig.connect({ encodings: [rfb.ZRLE] });
    await rig.showCursor(0xff00ff00 | 0, 2, 3);
    await viewer.update();
    expect(viewer.pixels.filter((pixel) => pixel === 0x00ff00).length).toBe(64);
  });
});

describe('VncOutput, input', () => {
  test('VncOutput: takes keys by their numbers or their meaning, without repeats, and lets them go with the viewer', async () => {
    const viewer = await rig.connect({ encodings: [rfb.QEMU_KEY] });
    viewer.request(false);
    await viewer.until(() => viewer.knowsQnums);
    viewer.qnum(true, 0x61, 0x10); // the key Q, whatever is on it
    viewer.qnum(true, 0x61, 0x10);
    viewer.qnum(false, 0x61, 0x10);
    viewer.qnum(true, 0xff53, 0xcd);
    viewer.qnum(false, 0xff53, 0xcd);
    viewer.qnum(true, 0xff61, 0xb7);
    viewer.qnum(false, 0xff61, 0xb7);
    viewer.key(true, 0xffe1);
    viewer.key(true, 'A'.charCodeAt(0));
    viewer.key(false, 'a'.charCodeAt(0));
    viewer.key(true, 0x20ac); // no key of a US keyboard has the euro
    viewer.qnum(true, 0, 0x7f);
    viewer.fence(0x8000_0000, 'end');
    await viewer.until(() => viewer.fences.length === 1);
    expect(rig.input.lines.filter((line) => line !== 'frame')).toEqual([
      `key ${KEY.Q} down`,
      `key ${KEY.Q} up`,
      `key ${KEY.RIGHT} down`,
      `key ${KEY.RIGHT} up`,
      `key ${KEY.SYSRQ} down`,
      `key ${KEY.SYSRQ} up`,
      `key ${KEY.LEFTSHIFT} down`,
      `key ${KEY.A} down`,
      `key ${KEY.A} up`,
    ]);
    viewer[Symbol.dispose]();
    const other = await rig.connect();
    await other.until(() => rig.input.lines.at(-1) === 'release-all');
  });

  test('VncOutput: moves the pointer, presses its buttons and turns its wheel', async () => {
    const viewer = await rig.connect();
    viewer.pointer(0, 10, 20);
    viewer.pointer(1, 11, 20);
    viewer.pointer(5, 11, 20);
    viewer.pointer(4, 11, 20);
    viewer.pointer(0, 11, 20);
    viewer.pointer(0x10, 11, 20);
    viewer.pointer(0, 11, 20);
    viewer.pointer(0x20, 11, 20);
    viewer.fence(0x8000_0000, 'end');
    await viewer.until(() => viewer.fences.length === 1);
    expect(rig.input.lines.filter((line) => line !== 'frame')).toEqual([
      'to 0 10 20',
      'to 0 11 20',
      `button ${BTN.LEFT} down`,
      'to 0 11 20',
      `button ${BTN.RIGHT} down`,
      'to 0 11 20',
      `button ${BTN.LEFT} up`,
      'to 0 11 20',
      `button ${BTN.RIGHT} up`,
      'to 0 11 20',
      'wheel vertical 120',
      'to 0 11 20',
      'to 0 11 20',
      'wheel horizontal -120',
    ]);
  });

  test('VncOutput: lets the first viewer drive, others watch, and one drive that asks for the desktop of its own', async () => {
    const first = await rig.connect();
    const second = await rig.connect();
    second.key(true, 'b'.charCodeAt(0));
    second.pointer(1, 1, 1);
    second.fence(0x8000_0000, 'end');
    await second.until(() => second.fences.length === 1);
    expect(rig.input.lines).toEqual([]);
    first.key(true, 'a'.charCodeAt(0));
    first.fence(0x8000_0000, 'end');
    await first.until(() => first.fences.length === 1);
    const third = await rig.connect({ isShared: false });
    third.key(true, 'c'.charCodeAt(0));
    third.fence(0x8000_0000, 'end');
    await third.until(() => third.fences.length === 1);
    first.key(false, 'a'.charCodeAt(0));
    first.fence(0x8000_0000, 'end');
    await first.until(() => first.fences.length === 2);
    expect(rig.input.lines).toEqual([`key ${KEY.A} down`, 'frame', 'release-all', `key ${KEY.C} down`, 'frame']);
  });
});

describe('VncOutput, greeting', () => {
  test.each(['003.003', '003.005', '003.007', '003.889'])(
    'VncOutput: serves a viewer of version %s',
    async (version) => {
      await rig.show(64, 48, filled(64, 48, 4));
      const viewer = await rig.connect({ version });
      await viewer.update();
      expect(viewer.pixels[0]).toBe(4);
      expect(viewer.name).toBe(`scanout-bridge ${rig.path}`);
    },
  );

  test('VncOutput: handles a flood of messages over several turns of the event loop', async () => {
    const viewer = await rig.connect();
    await eventually(() => expect(rig.output.stats.viewers).toBe(1));
    // Each look at the clock finds it a millisecond later, so that the share of a turn is soon used up.
    let now = performance.now();
    using _clock = vi.spyOn(performance, 'now').mockImplementation(() => ++now);
    const { lines } = rig.input;
    for (let x = 0; x < 500; x++) viewer.pointer(0, x, 0);
    let most = 0;
    for (let before = 0; before < 1000;) {
      await setImmediate();
      most = Math.max(most, lines.length - before);
      before = lines.length;
    }
    expect(most).toBeLessThan(50);
    expect(lines.filter((line) => line !== 'frame')).toEqual(Array.from({ length: 500 }, (_, x) => `to 0 ${x} 0`));
  });

  test('VncOutput: disconnects a viewer that it cannot serve, and says why', async () => {
    using own = await VncRig.open();
    const viewer = await own.connect();
    vi.spyOn(own.input, 'pointerMovedTo').mockImplementation(() => {
      throw new Error('no pointer');
    });
    viewer.pointer(0, 1, 1);
    await viewer.until(() => viewer.isClosed);
    expect(own.messages).toContainEqual(expect.stringContaining('disconnected a viewer: Error: no pointer'));
    await (await own.connect()).update();
  });

  test('VncOutput: charges the picture that it keeps for viewers, and keeps none beyond the budget', async () => {
    using own = await VncRig.open();
    await own.show(WIDTH, HEIGHT, drawing(1));
    own.output.budget = new MemoryBudget(WIDTH * HEIGHT * 4 - 1);
    const refused = await own.connect();
    await refused.until(() => refused.isClosed);
    expect(own.messages).toContainEqual(expect.stringContaining(`no memory for ${WIDTH}x${HEIGHT} pixels`));
    expect(own.output.budget.used).toBe(0);

    const budget = new MemoryBudget(WIDTH * HEIGHT * 4);
    own.output.budget = budget;
    const viewer = await own.connect();
    await viewer.update();
    expect(budget.used).toBe(budget.limit);
    viewer[Symbol.dispose]();
    await eventually(() => expect(budget.used).toBe(0));
  });

  test('VncOutput: refuses more viewers than it serves, and has room for another when one leaves', async () => {
    const viewers = [];
    for (let count = 0; count < 16; count++) viewers.push(await rig.connect());
    await expect(rig.connect()).rejects.toThrow();
    viewers[3]![Symbol.dispose]();
    await viewers[4]!.until(() => rig.output.stats.viewers === 15);
    await rig.connect();
  });
});
