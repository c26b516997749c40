import assert from 'node:assert';
import { expect, test, vi } from 'vitest';
import { PageRuns } from '../../../../src/sys/page-runs.ts';
import { VmmOutput } from '../../../../display/vmm/output.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Shadow } from '../../../../src/core/output.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { words } from './fake-vmm.ts';
import {
  type Box,
  type Cursor,
  Listener,
  MODE,
  ONE_SECOND,
  frame,
  guest,
  handles,
  importOf,
  open,
  scanout,
  show,
  update,
  useVmm,
  vmm,
} from './session.ts';
import type { GuestPicture } from '../../bridge/fakes.ts';

expectNoLeaks();
useVmm();

test('VmmOutput: sends the size and every pixel of scattered pages with the first frame', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(40, 30);
  const bytes = show(output, frame(importOf(output, picture.framebuffer), [0, 0, 40, 30]));
  expect(bytes).toEqual(Buffer.concat([scanout(0, 40, 30), update(0, [0, 0, 40, 30], picture.read())]));
});

test('VmmOutput: sends only the damage of later frames, parts of rows packed', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(40, 30);
  const handle = importOf(output, picture.framebuffer);
  new Listener(output);
  show(output, frame(handle, [0, 0, 40, 30]));
  const bytes = show(
    output,
    frame(
      handle,
      [0, 0, 40, 30],
      [
        [0, 3, 40, 2],
        [5, 10, 7, 9],
      ],
    ),
  );
  expect(bytes).toEqual(
    Buffer.concat([
      update(0, [0, 3, 40, 2], picture.read(0, 3, 40, 2)),
      update(0, [5, 10, 7, 9], picture.read(5, 10, 7, 9)),
    ]),
  );
});

test('VmmOutput: sends the damage of a flip between buffers of one size, and nothing without damage', async () => {
  const output = (await open()).outputs[0]!;
  const [one, two] = [guest(40, 30), guest(40, 30)];
  show(output, frame(importOf(output, one.framebuffer), [0, 0, 40, 30]));
  const second = importOf(output, two.framebuffer);
  expect(show(output, frame(second, [0, 0, 40, 30], [[1, 1, 2, 2]]))).toEqual(
    update(0, [1, 1, 2, 2], two.read(1, 1, 2, 2)),
  );
  expect(show(output, frame(second, [0, 0, 40, 30], []))).toEqual(Buffer.alloc(0));
});

test('VmmOutput: shows a part of a larger buffer at the corner, and clips its damage', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(40, 30);
  const handle = importOf(output, picture.framebuffer);
  const src: Box = [8, 4, 20, 10];
  expect(show(output, frame(handle, src))).toEqual(
    Buffer.concat([scanout(0, 20, 10), update(0, [0, 0, 20, 10], picture.read(...src))]),
  );
  expect(show(output, frame(handle, src, [[0, 0, 10, 6]]))).toEqual(update(0, [0, 0, 2, 2], picture.read(8, 4, 2, 2)));
});

test('VmmOutput: sends overlapping damage as one rectangle if that is fewer bytes', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(40, 30);
  const handle = importOf(output, picture.framebuffer);
  show(output, frame(handle, [0, 0, 40, 30]));
  expect(
    show(
      output,
      frame(
        handle,
        [0, 0, 40, 30],
        [
          [0, 0, 39, 30],
          [1, 0, 39, 30],
        ],
      ),
    ),
  ).toEqual(update(0, [0, 0, 40, 30], picture.read()));
});

test('VmmOutput: announces a new size, turns the console off once without a picture, and starts again after it', async () => {
  const output = (await open()).outputs[0]!;
  const [small, large] = [guest(20, 10), guest(40, 30)];
  const smallHandle = importOf(output, small.framebuffer);
  show(output, frame(importOf(output, large.framebuffer), [0, 0, 40, 30]));
  const whole = Buffer.concat([scanout(0, 20, 10), update(0, [0, 0, 20, 10], small.read())]);
  expect(show(output, frame(smallHandle, [0, 0, 20, 10], []))).toEqual(whole);
  expect(show(output, frame(null, [0, 0, 0, 0]))).toEqual(scanout(0, 0, 0));
  expect(show(output, frame(null, [0, 0, 0, 0]))).toEqual(Buffer.alloc(0));
  expect(show(output, frame(smallHandle, [0, 0, 20, 10], []))).toEqual(whole);
});

test('VmmOutput: presents frames at the refresh rate, each after its buffer was released', async () => {
  const output = (await open({ refreshMhz: 50_000 })).outputs[0]!;
  const handle = importOf(output, guest(20, 10).framebuffer);
  const listener = new Listener(output);
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const presented = listener.next();
    output.present(frame(handle, [0, 0, 20, 10]));
    vi.advanceTimersToNextTimer();
    await presented;
    times.push(performance.now());
  }
  expect(listener.events).toEqual(['released 0', 'presented', 'released 0', 'presented', 'released 0', 'presented']);
  expect(times[2]! - times[1]!).toBeCloseTo(20, -1);
  expect(listener.flags).toBe(0);
});

test('VmmOutput: presents a frame in flight in time when the refresh rate becomes slower', async () => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  // Blanks are counted from the machine's start, an hour ago.
  vi.advanceTimersByTime(3_600_000);
  output.present(frame(importOf(output, guest(20, 10).framebuffer), [0, 0, 20, 10]));
  assert(output instanceof VmmOutput);
  output.setMonitor({ ...output.monitor!, refreshMhz: 30_000 });
  vi.advanceTimersByTime(ONE_SECOND);
  expect(listener.events).toEqual([`resized ${MODE.width}x${MODE.height}`, 'released 0', 'presented']);
});

test('VmmOutput: waits for a VMM that does not read, and sends the pixels as they were in present', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(1280, 800);
  const before = picture.read();
  const listener = new Listener(output);
  output.present(frame(importOf(output, picture.framebuffer), [0, 0, 1280, 800]));
  picture.fill(0, 0, 1280, 800, 0);
  vi.advanceTimersByTime(ONE_SECOND);
  expect(listener.events).toEqual([]);
  const presented = listener.next();
  const bytes = await vmm.take(24 + 32 + before.length);
  await presented;
  expect(bytes.equals(Buffer.concat([scanout(0, 1280, 800), update(0, [0, 0, 1280, 800], before)]))).toBe(true);
  expect(listener.events).toEqual(['released 0', 'presented']);
});

test('VmmOutput: sends a picture in bands, as the VMM reads, where the guest’s memory is used up', async () => {
  const budget = new MemoryBudget(1000);
  const output = (await open({ budget })).outputs[0]!;
  const picture = guest(400, 400);
  const listener = new Listener(output);
  output.present(frame(importOf(output, picture.framebuffer), [0, 0, 400, 400]));
  vi.advanceTimersByTime(ONE_SECOND);
  const presented = listener.next();
  // A band has what fits into 252 KiB.
  const bands = [
    [0, 161],
    [161, 161],
    [322, 78],
  ] as const;
  const expected = Buffer.concat([
    scanout(0, 400, 400),
    ...bands.map(([y, rows]) => update(0, [0, y, 400, rows], picture.read(0, y, 400, rows))),
  ]);
  expect((await vmm.take(expected.length)).equals(expected)).toBe(true);
  await presented;
  expect(listener.events).toEqual(['released 0', 'presented']);
  expect(budget.used).toBe(0);
});

test('VmmOutput: charges what waits for the VMM to the guest, one band for all consoles, and frees it when idle', async () => {
  const budget = new MemoryBudget(2 ** 30);
  const { outputs } = await open({ budget, scanouts: 2 }, 0, [MODE, MODE]);
  // 40 MiB, of which the first 32 wait.
  const pixels = Mapping.anonymous(4096 * 2560 * 4);
  const large: Framebuffer = {
    ...guest(1, 1).framebuffer,
    ...{ width: 4096, height: 2560, planes: [{ offset: 0, stride: 4096 * 4 }] },
    backing: { kind: 'pages', isBlob: false, ranges: PageRuns.none, pixels: () => pixels },
  };
  const listeners = outputs.map((output) => new Listener(output));
  for (const output of outputs) output.present(frame(importOf(output, large), [0, 0, 4096, 2560]));
  vi.advanceTimersByTime(ONE_SECOND);
  expect(budget.used).toBe(32 * 2 ** 20);
  const presented = Promise.all(listeners.map((listener) => listener.next()));
  // Two bands of each console.
  const bytes = await vmm.take(2 * (24 + 2 * 32 + pixels.length));
  await presented;
  expect([bytes.length, budget.used]).toEqual([2 * (24 + 2 * 32 + pixels.length), 32 * 2 ** 20]);
  vi.advanceTimersByTime(ONE_SECOND);
  expect(budget.used).toBe(0);
  pixels[Symbol.dispose]();
});

test('VmmOutput: sends no more of a picture whose memory is gone, and goes on with the next', async () => {
  const output = (await open({ budget: new MemoryBudget(1000) })).outputs[0]!;
  const [first, second] = [guest(400, 400), guest(20, 10)];
  const listener = new Listener(output);
  const handle = importOf(output, first.framebuffer);
  output.present(frame(handle, [0, 0, 400, 400]));
  vi.advanceTimersByTime(ONE_SECOND);
  handle[Symbol.dispose]();
  const presented = listener.next();
  const band = update(0, [0, 0, 400, 161], first.read(0, 0, 400, 161));
  expect((await vmm.take(24 + band.length)).equals(Buffer.concat([scanout(0, 400, 400), band]))).toBe(true);
  await presented;
  expect(show(output, frame(importOf(output, second.framebuffer), [0, 0, 20, 10]))).toEqual(
    Buffer.concat([scanout(0, 20, 10), update(0, [0, 0, 20, 10], second.read())]),
  );
});

test('VmmOutput: sends the frames of several consoles in order, and presents each when it is sent', async () => {
  const { outputs } = await open({ scanouts: 2 }, 0, [MODE, MODE]);
  const [large, small] = [guest(1280, 800), guest(30, 20)];
  const listeners = outputs.map((output) => new Listener(output));
  outputs[0]!.present(frame(importOf(outputs[0]!, large.framebuffer), [0, 0, 1280, 800]));
  outputs[1]!.present(frame(importOf(outputs[1]!, small.framebuffer), [0, 0, 30, 20], [[0, 0, 30, 20]]));
  vi.advanceTimersByTime(ONE_SECOND);
  const last = listeners[1]!.next();
  const expected = Buffer.concat([
    ...[scanout(0, 1280, 800), update(0, [0, 0, 1280, 800], large.read())],
    ...[scanout(1, 30, 20), update(1, [0, 0, 30, 20], small.read())],
  ]);
  const bytes = await vmm.take(expected.length);
  await last;
  expect(bytes.equals(expected)).toBe(true);
  expect(listeners.map(({ events }) => events)).toEqual([
    ['released 0', 'presented'],
    ['released 1', 'presented'],
  ]);
});

test('VmmOutput: refuses other formats, which are shown through a shadow', async () => {
  const output = (await open()).outputs[0]!;
  const refusal = output.import(guest(20, 10, DRM_FORMAT.ABGR8888).framebuffer);
  expect(refusal).toMatchObject({ code: 'format', isLasting: true });
  const shadow = output.createShadow(20, 10, output.shadowFormats[0]!);
  handles.push(shadow);
  shadow.pixels.bytes.fill(0x5a);
  const listener = new Listener(output);
  expect(show(output, frame(shadow, [0, 0, 20, 10]))).toEqual(
    Buffer.concat([scanout(0, 20, 10), update(0, [0, 0, 20, 10], Buffer.alloc(800, 0x5a))]),
  );
  expect(listener.events).toEqual(['released 0', 'presented']);
});

test('VmmOutput: refuses pictures that are too large, but not their format', async () => {
  const output = (await open()).outputs[0]!;
  const { framebuffer } = guest(20, 10);
  expect(output.import({ ...framebuffer, width: 32_768 })).toMatchObject({ code: 'resources', isLasting: false });
  expect(output.import({ ...framebuffer, width: 8192, height: 8192 })).toMatchObject({ code: 'resources' });
  expect(output.import({ ...framebuffer, height: 1000 })).toMatchObject({ code: 'resources' });
  expect(() => output.createShadow(8192, 8192, DRM_FORMAT.XRGB8888)).toThrow(expect.objectContaining({ code: 'size' }));
});

/** A cursor image in the upper left of 64 x 64 transparent pixels. */

function cursorImage(picture: GuestPicture, alpha = 0): Buffer {
  const image = Buffer.alloc(64 * 64 * 4);
  const { width, height } = picture.framebuffer;
  for (let y = 0; y < height; y++) image.set(picture.read(0, y, width, 1), y * 256);
  for (let i = 3; alpha !== 0 && i < 64 * 4 * height; i += 4) if (i % 256 < width * 4) image[i] = alpha;
  return image;
}

const cursorUpdate = (x: number, y: number, hotX: number, hotY: number, image: Buffer): Buffer =>
  Buffer.concat([words(6, 0, 16_404, 0, x, y, hotX, hotY), image]);

test('VmmOutput: sends the cursor image when its pixels or hotspot change, otherwise only its place', async () => {
  const output = (await open()).outputs[0]!;
  const picture = guest(32, 24, DRM_FORMAT.ARGB8888);
  const handle = importOf(output, picture.framebuffer);
  const at = (x: number, y: number, hotspot: [number, number] = [3, 4]) =>
    frame(null, [0, 0, 0, 0], [], { handle, at: [x, y, 32, 24], hotspot });
  expect(show(output, at(-5, 7))).toEqual(cursorUpdate(-5, 7, 3, 4, cursorImage(picture)));
  expect(show(output, at(-5, 7))).toEqual(Buffer.alloc(0));
  expect(show(output, at(9, 8))).toEqual(words(4, 0, 12, 0, 9, 8));
  picture.fill(0, 0, 2, 2, 0xffee_ddcc);
  expect(show(output, at(9, 8))).toEqual(cursorUpdate(9, 8, 3, 4, cursorImage(picture)));
  expect(show(output, at(9, 8, [0, 0]))).toEqual(cursorUpdate(9, 8, 0, 0, cursorImage(picture)));
  expect(show(output, frame(null, [0, 0, 0, 0]))).toEqual(words(5, 0, 12, 0, 9, 8));
  expect(show(output, frame(null, [0, 0, 0, 0]))).toEqual(Buffer.alloc(0));
  expect(show(output, at(9, 8, [0, 0]))).toEqual(words(4, 0, 12, 0, 9, 8));
});

test('VmmOutput: shows a cursor without alpha opaque, and cuts a large one', async () => {
  const output = (await open()).outputs[0]!;
  const listener = new Listener(output);
  const picture = guest(16, 16, DRM_FORMAT.XRGB8888);
  const opaque: Cursor = { handle: importOf(output, picture.framebuffer), at: [0, 0, 16, 16] };
  expect(show(output, frame(null, [0, 0, 0, 0], [], opaque))).toEqual(
    cursorUpdate(0, 0, 0, 0, cursorImage(picture, 0xff)),
  );
  const shadow: Shadow = output.createShadow(80, 80, DRM_FORMAT.ARGB8888);
  handles.push(shadow);
  shadow.pixels.bytes.fill(0x11);
  listener.events.length = 0;
  const large: Cursor = { handle: shadow, at: [1, 1, 80, 80] };
  expect(show(output, frame(null, [0, 0, 0, 0], [], large))).toEqual(
    cursorUpdate(1, 1, 0, 0, Buffer.alloc(64 * 64 * 4, 0x11)),
  );
  expect(listener.events).toEqual(['released 1', 'presented']);
  expect(show(output, frame(null, [0, 0, 0, 0], [], opaque))).toEqual(
    cursorUpdate(0, 0, 0, 0, cursorImage(picture, 0xff)),
  );
});
