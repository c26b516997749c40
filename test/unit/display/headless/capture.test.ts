import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { DRM_FORMAT, type Fourcc } from '../../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import type { Frame, Shadow } from '../../../../src/core/output.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { type Source, type SourceSink } from '../../../../src/core/source.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

const { XRGB8888, ARGB8888 } = DRM_FORMAT;

let output: HeadlessOutput;
let attachment: Disposable;

beforeEach(() => {
  vi.useFakeTimers();
  output = HeadlessOutput.open({ width: 64, height: 48 });
  attachment = output.attach({
    presented: vi.fn(),
    released: vi.fn(),
    resized: vi.fn(),
    closed: vi.fn(),
    importsChanged: vi.fn(),
  });
});

afterEach(() => {
  output[Symbol.dispose]();
  vi.useRealTimers();
});

function shadow(width: number, height: number, format: Fourcc, colour: (x: number, y: number) => number): Shadow {
  const made = output.createShadow(width, height, format);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) made.pixels.view.setUint32(y * made.stride + x * 4, colour(x, y), true);
  return made;
}

const rect = (x: number, y: number, width: number, height: number): Rect => ({ x, y, width, height });

function show(frame: Partial<Frame>): void {
  const nothing = { handle: null, src: rect(0, 0, 0, 0), dst: rect(0, 0, 0, 0) };
  output.present({
    canvas: { width: 4, height: 4 },
    primary: nothing,
    cursor: nothing,
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
    ...frame,
  });
  vi.advanceTimersToNextTimer();
}

/** 0xrrggbb of every pixel; a pixel that is not opaque spoils it. */
function colours(picture: Picture): number[][] {
  return Array.from({ length: picture.height }, (_, y) =>
    Array.from({ length: picture.width }, (_, x) => {
      const [red, green, blue, alpha] = picture.data.subarray((y * picture.width + x) * 4) as unknown as [
        number,
        number,
        number,
        number,
      ];
      return alpha === 255 ? (red << 16) | (green << 8) | blue : NaN;
    }),
  );
}

test('HeadlessOutput.capture: returns null before the first frame and while the screen is dark', () => {
  expect(output.capture()).toBeNull();

  show({});

  expect(output.capture()).toBeNull();
});

test("HeadlessOutput.capture: has the canvas's size and crops the buffer", () => {
  using buffer = shadow(6, 5, XRGB8888, (x, y) => (0xab << 24) | (x << 16) | (y << 8) | 0x77);

  show({ canvas: { width: 2, height: 3 }, primary: { handle: buffer, src: rect(3, 2, 2, 3), dst: rect(0, 0, 2, 3) } });

  expect(colours(output.capture()!)).toEqual([
    [0x030277, 0x040277],
    [0x030377, 0x040377],
    [0x030477, 0x040477],
  ]);
});

test('HeadlessOutput.capture: is black where the primary plane does not reach', () => {
  using buffer = shadow(1, 1, XRGB8888, () => 0xffffff);

  show({ canvas: { width: 3, height: 1 }, primary: { handle: buffer, src: rect(0, 0, 1, 1), dst: rect(1, 0, 1, 1) } });

  expect(colours(output.capture()!)).toEqual([[0, 0xffffff, 0]]);
});

test('HeadlessOutput.capture: scales to the nearest pixel', () => {
  using buffer = shadow(2, 1, XRGB8888, (x) => (x === 0 ? 0x0000aa : 0xbb0000));

  show({ canvas: { width: 4, height: 2 }, primary: { handle: buffer, src: rect(0, 0, 2, 1), dst: rect(0, 0, 4, 2) } });

  expect(colours(output.capture()!)).toEqual([
    [0x0000aa, 0x0000aa, 0xbb0000, 0xbb0000],
    [0x0000aa, 0x0000aa, 0xbb0000, 0xbb0000],
  ]);
});

test('HeadlessOutput.capture: blends the cursor as premultiplied alpha, exactly for every value and alpha', () => {
  using background = shadow(256, 256, XRGB8888, (x) => (x << 16) | (255 << 8));
  // Blue is premultiplied to its alpha, so that it never overflows; red and green come through.
  using cursor = shadow(256, 256, ARGB8888, (_x, y) => ((y << 24) | y) >>> 0);
  const all = rect(0, 0, 256, 256);

  show({
    canvas: all,
    primary: { handle: background, src: all, dst: all },
    cursor: { handle: cursor, src: all, dst: all },
  });

  const expected = Array.from({ length: 256 }, (_, y) =>
    Array.from({ length: 256 }, (_, x) => (Math.round((x * (255 - y)) / 255) << 16) | ((255 - y) << 8) | y),
  );
  expect(colours(output.capture()!)).toEqual(expected);
});

test('HeadlessOutput.capture: saturates colours above their alpha', () => {
  using background = shadow(1, 1, XRGB8888, () => 0xffffff);
  using cursor = shadow(1, 1, ARGB8888, () => 0x01ff_8000);
  const one = rect(0, 0, 1, 1);

  show({
    canvas: one,
    primary: { handle: background, src: one, dst: one },
    cursor: { handle: cursor, src: one, dst: one },
  });

  expect(colours(output.capture()!)).toEqual([[0xfffffe]]);
});

test.each([
  [
    'the top left corner',
    rect(-1, -1, 2, 2),
    [
      [4, 0],
      [0, 0],
    ],
  ],
  [
    'the bottom right corner',
    rect(1, 1, 2, 2),
    [
      [0, 0],
      [0, 1],
    ],
  ],
  [
    'outside',
    rect(2, 0, 2, 2),
    [
      [0, 0],
      [0, 0],
    ],
  ],
  [
    'far outside',
    rect(-2147483648, 2147483647, 2, 2),
    [
      [0, 0],
      [0, 0],
    ],
  ],
])('HeadlessOutput.capture: clips a cursor at %s', (_where, dst, expected) => {
  using background = shadow(2, 2, XRGB8888, () => 0);
  using cursor = shadow(2, 2, ARGB8888, (x, y) => (0xff00_0000 | (y * 2 + x + 1)) >>> 0);
  const canvas = rect(0, 0, 2, 2);

  show({
    canvas,
    primary: { handle: background, src: canvas, dst: canvas },
    cursor: { handle: cursor, src: canvas, dst },
  });

  expect(colours(output.capture()!)).toEqual(expected);
  expect(colours(output.capture({ cursor: false })!)).toEqual([
    [0, 0],
    [0, 0],
  ]);
});

test("HeadlessOutput.capture: is the guest's picture pixel for pixel through a bridge", () => {
  let sink!: SourceSink;
  const source: Source = {
    scanouts: 1,
    budget: new MemoryBudget(Infinity),
    connect: (it) => (sink = it),
    setMonitor: vi.fn(),
    [Symbol.dispose]: vi.fn(),
  };
  using guest = new GuestPicture(70, 30);
  guest.pixels.bytes.forEach((_, i, bytes) => (bytes[i] = i * 7));
  attachment[Symbol.dispose]();
  using bridge = new Bridge(source, { zeroCopy: 'off' });
  bridge.show(0, output);
  const damage = new Damage();
  damage.add(0, 0, 70, 30);

  sink.scanout(0, guest.framebuffer, rect(0, 0, 70, 30));
  sink.flush(0, damage, null);
  vi.advanceTimersToNextTimer();

  const expected = Array.from({ length: 30 }, (_, y) =>
    Array.from({ length: 70 }, (_, x) => guest.pixels.view.getUint32((y * 70 + x) * 4, true) & 0xffffff),
  );
  expect(colours(output.capture()!)).toEqual(expected);
});
