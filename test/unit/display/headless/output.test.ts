import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { UsageError } from '../../../../src/core/errors.ts';
import { type Framebuffer, newFramebufferId } from '../../../../src/core/framebuffer.ts';
import {
  DmabufImportRefused,
  type Frame,
  type Handle,
  type OutputListener,
  PresentedFlags,
  type Shadow,
} from '../../../../src/core/output.ts';
import { monotonicMs } from '../../../../src/sys/clock.ts';
import type { BorrowedFd } from '../../../../src/sys/fd.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

let output: HeadlessOutput;
let attachment: Disposable;
let events: unknown[];

beforeEach(() => {
  vi.useFakeTimers();
  output = HeadlessOutput.open({ width: 64, height: 48 });
  events = [];
  attachment = output.attach({
    presented: ({ flags }) => events.push(['presented', flags]),
    released: (handle) => events.push(['released', handle]),
    resized: () => events.push('resized'),
    closed: () => events.push('closed'),
    importsChanged: vi.fn(),
  });
});

afterEach(() => {
  output[Symbol.dispose]();
  vi.useRealTimers();
});

function shadow(width = 4, height = 4, format = DRM_FORMAT.XRGB8888): Shadow {
  return output.createShadow(width, height, format);
}

function frame(primary: Handle | null, cursor: Handle | null = null): Frame {
  const rect = { x: 0, y: 0, width: 4, height: 4 };
  return {
    canvas: rect,
    primary: { handle: primary, src: rect, dst: rect },
    cursor: { handle: cursor, src: rect, dst: rect },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
  };
}

/** In place of the listener that records events. */
function listen(listener: OutputListener): void {
  attachment[Symbol.dispose]();
  attachment = output.attach(listener);
}

const onScreen = (): void => void vi.advanceTimersToNextTimer();

describe("HeadlessOutput's vertical blank", () => {
  test("brings a frame on screen a whole number of refreshes after the clock's zero", () => {
    const told: number[][] = [];
    listen({
      presented: ({ timeMs, refreshMhz, sequence, flags }) => told.push([timeMs, refreshMhz, sequence, flags]),
      released: vi.fn(),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: vi.fn(),
    });
    using buffer = shadow();
    const before = monotonicMs();

    output.present(frame(buffer));
    onScreen();

    const [timeMs, refreshMhz, sequence, flags] = told[0] as [number, number, number, number];
    expect(told).toHaveLength(1);
    expect(timeMs).toBeGreaterThan(before);
    expect(timeMs).toBeLessThanOrEqual(before + 1000 / 60);
    expect(sequence * (1000 / 60)).toBeCloseTo(timeMs, 6);
    expect([refreshMhz, flags]).toEqual([60_000, PresentedFlags.VSYNC]);
  });

  test('reports the latest blank when its timer is late', () => {
    const sequences: number[] = [];
    listen({
      presented: ({ sequence }) => sequences.push(sequence),
      released: vi.fn(),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: vi.fn(),
    });
    using buffer = shadow();
    output.present(frame(buffer));
    onScreen();
    output.present(frame(buffer));
    const busyUntil = performance.now() + 100;
    vi.spyOn(performance, 'now').mockReturnValue(busyUntil);

    onScreen();

    vi.mocked(performance.now).mockRestore();
    expect(sequences[1]! - sequences[0]!).toBeGreaterThanOrEqual(5);
  });

  test('runs a timer only while a frame waits for it', () => {
    using buffer = shadow();
    expect(vi.getTimerCount()).toBe(0);

    output.present(frame(buffer));
    expect(vi.getTimerCount()).toBe(1);

    onScreen();
    expect(vi.getTimerCount()).toBe(0);
  });

  test("comes at the mode's refresh in real time", async () => {
    vi.useRealTimers();
    using fast = HeadlessOutput.open({ width: 8, height: 8, refreshMhz: 200_000 });
    using buffer = fast.createShadow(4, 4, DRM_FORMAT.XRGB8888);
    const sequences: number[] = [];
    const start = monotonicMs();
    await new Promise<void>((resolve) => {
      fast.attach({
        presented: ({ sequence }) => {
          sequences.push(sequence);
          if (sequences.length < 5) fast.present(frame(buffer));
          else resolve();
        },
        released: vi.fn(),
        resized: vi.fn(),
        closed: vi.fn(),
        importsChanged: vi.fn(),
      });
      fast.present(frame(buffer));
    });

    expect(monotonicMs() - start).toBeGreaterThan(4 * 5);
    expect(new Set(sequences).size).toBe(5);
    expect(sequences).toEqual([...sequences].sort((a, b) => a - b));
  });
});

describe("HeadlessOutput's buffers", () => {
  test('cause no event from inside present', () => {
    using buffer = shadow();

    output.present(frame(buffer));

    expect(events).toEqual([]);
  });

  test('are released before the frame that replaced them is presented', () => {
    using first = shadow();
    using second = shadow();
    output.present(frame(first));
    onScreen();
    output.present(frame(second));
    onScreen();

    expect(events).toEqual([
      ['presented', 1],
      ['released', first],
      ['presented', 1],
    ]);
  });

  test('are not released while they stay on screen', () => {
    using picture = shadow();
    using arrow = shadow();
    using hand = shadow();
    output.present(frame(picture, arrow));
    onScreen();
    output.present(frame(picture, hand));
    onScreen();

    expect(events).toEqual([
      ['presented', 1],
      ['released', arrow],
      ['presented', 1],
    ]);
  });

  test('are released once if they are on both planes', () => {
    using both = shadow();
    output.present(frame(both, both));
    onScreen();
    output.present(frame(null));
    onScreen();

    expect(events).toEqual([
      ['presented', 1],
      ['released', both],
      ['presented', 1],
    ]);
  });

  test('are released, and change, only once the screen that has them is held no longer', () => {
    using first = shadow();
    using second = shadow();
    first.pixels.bytes.fill(0x11);
    second.pixels.bytes.fill(0x22);
    output.present(frame(first, first));
    onScreen();
    const held = output.hold()!;
    output.present(frame(second));
    onScreen();
    const target = new Uint8Array(4 * 4 * 4);

    expect(held.isShared).toBe(false);
    expect(held.capture({ cursor: false, target }).data).toBe(target);
    expect(target[0]).toBe(0x11);
    expect(output.capture()!.data[0]).toBe(0x22);
    expect(events).toEqual([
      ['presented', 1],
      ['presented', 1],
    ]);

    held[Symbol.dispose]();
    held[Symbol.dispose]();
    expect(events.slice(2)).toEqual([['released', first]]);
  });

  test('that are held are not released if they are on screen still, nor to another listener', () => {
    using buffer = shadow();
    output.present(frame(buffer));
    onScreen();
    output.hold()![Symbol.dispose]();
    const held = output.hold()!;
    const released = vi.fn();
    listen({ presented: vi.fn(), released, resized: vi.fn(), closed: vi.fn(), importsChanged: vi.fn() });

    expect(output.hold()).toBeNull();
    held[Symbol.dispose]();

    expect(events).toEqual([['presented', 1]]);
    expect(released).not.toHaveBeenCalled();
  });

  test('stay readable after dispose until they have left the screen', () => {
    const buffer = shadow();
    buffer.pixels.bytes.fill(0x55);
    output.present(frame(buffer));
    onScreen();

    buffer[Symbol.dispose]();
    expect(output.capture()!.data[0]).toBe(0x55);

    output.present(frame(null));
    onScreen();
    expect(() => buffer.pixels.address).toThrow('after dispose');
  });

  test('are freed when a listener disposes the output', () => {
    using first = shadow();
    using second = shadow();
    const presented = vi.fn();
    listen({
      presented,
      released: () => output[Symbol.dispose](),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: vi.fn(),
    });
    output.present(frame(first));
    onScreen();
    output.present(frame(second));
    onScreen();

    expect(presented).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('are released exactly when they leave the screen', () => {
    const buffers = [shadow(), shadow(), shadow()];
    const plane = fc.option(fc.nat(2), { nil: null });
    fc.assert(
      fc.property(fc.array(fc.tuple(plane, plane), { maxLength: 12 }), (frames) => {
        let shown = new Set<number>();
        for (const [primary, cursor] of frames) {
          events.length = 0;
          output.present(frame(primary === null ? null : buffers[primary]!, cursor === null ? null : buffers[cursor]!));
          onScreen();
          const next = new Set([primary, cursor].filter((index) => index !== null));
          const left = [...shown].filter((index) => !next.has(index));
          expect(
            events
              .slice(0, -1)
              .map((event) => buffers.indexOf((event as [string, Shadow])[1]))
              .sort(),
          ).toEqual(left.sort());
          shown = next;
        }
        output.present(frame(null));
        onScreen();
      }),
      { numRuns: 50 },
    );
    for (const buffer of buffers) buffer[Symbol.dispose]();
  });
});

describe('HeadlessOutput refuses', () => {
  test.each([
    { width: 0, height: 48 },
    { width: 64, height: 16_385 },
    { width: 64.5, height: 48 },
    { width: 64, height: 48, refreshMhz: 0 },
    { width: 64, height: 48, refreshMhz: 1_000_001 },
  ])('the mode $width x $height at $refreshMhz', (mode) => {
    expect(() => HeadlessOutput.open(mode)).toThrow(UsageError);
  });

  test('a second frame while one is in flight', () => {
    using buffer = shadow();
    output.present(frame(buffer));

    expect(() => output.present(frame(buffer))).toThrow('in flight');
  });

  test('a handle of another output', () => {
    expect(() => output.present(frame({ isHeld: false, [Symbol.dispose]: vi.fn() }))).toThrow(TypeError);
  });

  test('to present after dispose, and does not report the frame in flight', () => {
    using buffer = shadow();
    output.present(frame(buffer));
    output[Symbol.dispose]();

    expect(vi.getTimerCount()).toBe(0);
    expect(() => output.present(frame(buffer))).toThrow('after dispose');
  });

  test('a shadow of a format it does not list', () => {
    expect(() => shadow(4, 4, DRM_FORMAT.NV12)).toThrow(TypeError);
  });
});

describe('HeadlessOutput.import', () => {
  const description = (dmabuf: BorrowedFd, change: Partial<Framebuffer> = {}): Framebuffer => ({
    id: newFramebufferId(),
    width: 4,
    height: 4,
    format: DRM_FORMAT.XRGB8888,
    modifier: DRM_FORMAT_MOD_LINEAR,
    planes: [{ offset: 64, stride: 32 }],
    backing: { kind: 'dmabuf', dmabuf },
    ...change,
  });

  test.each([
    ['another format', { format: DRM_FORMAT.NV12 }, 'format'],
    ['another modifier', { modifier: DRM_FORMAT_MOD_INVALID }, 'modifier'],
    ['rows wider than the stride', { width: 9 }, 'size'],
    ['no plane', { planes: [] }, 'size'],
    ['a file that is no dma-buf', {}, 'resources'],
  ] as const)('refuses %s', (_what, change, code) => {
    using memfd = createMemfd('not a dma-buf', 4096);

    const refusal = output.import(description(memfd, change));

    expect(refusal).toBeInstanceOf(DmabufImportRefused);
    expect((refusal as DmabufImportRefused).code).toBe(code);
  });

  test('refuses, for now, what a device does not stop writing to, instead of waiting for it', () => {
    // Pollable as a dma-buf is: readable once it is signalled.
    using busy = EventFd.create();

    expect(output.import(description(busy))).toMatchObject({
      code: 'resources',
      message: expect.stringContaining('a device still writes') as string,
    });
    busy.signal();
    expect(output.import(description(busy))).toMatchObject({ message: expect.stringContaining('ENOTTY') as string });
  });

  test('refuses guest pages', () => {
    using guest = new GuestPicture(4, 4);

    expect(output.import(guest.framebuffer)).toMatchObject({ code: 'format' });
  });
});

test('HeadlessOutput.onBlank: is called while the last picture can still be captured', () => {
  using buffer = shadow();
  const blanked = vi.fn(() => output.capture()?.width ?? 0);
  output.onBlank(blanked);

  output.present(frame(buffer));
  onScreen();
  expect(blanked).not.toHaveBeenCalled();
  output.present(frame(null));
  onScreen();

  expect(blanked).toHaveReturnedWith(4);
  expect(output.capture()).toBeNull();
});

test('HeadlessOutput.settled: resolves when the newest frame is on screen', async () => {
  using buffer = shadow();
  const log: string[] = [];
  let frames = 0;
  listen({
    presented: () => {
      log.push('presented');
      if (++frames < 2) output.present(frame(buffer));
    },
    released: vi.fn(),
    resized: vi.fn(),
    closed: vi.fn(),
    importsChanged: vi.fn(),
  });
  await output.settled();
  output.present(frame(buffer));
  const settled = output.settled().then(() => log.push('settled'));

  onScreen();
  onScreen();
  await settled;

  expect(log).toEqual(['presented', 'presented', 'settled']);
});

test('HeadlessOutput.settled: resolves on dispose', async () => {
  using buffer = shadow();
  output.present(frame(buffer));
  const settled = output.settled();

  output[Symbol.dispose]();

  await expect(settled).resolves.toBeUndefined();
});

test('HeadlessOutput.onFrame: reports every frame until it is stopped', () => {
  using buffer = shadow();
  const listener = vi.fn();
  const stop = output.onFrame(listener);

  output.present(frame(buffer));
  onScreen();
  stop();
  output.present(frame(buffer));
  onScreen();

  expect(listener).toHaveBeenCalledTimes(1);
});

test('HeadlessOutput.onFrame: stops one of two registrations of the same function', () => {
  using buffer = shadow();
  const listener = vi.fn();
  const stop = output.onFrame(listener);
  output.onFrame(listener);
  stop();

  output.present(frame(buffer));
  onScreen();

  expect(listener).toHaveBeenCalledTimes(1);
});
