import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type PageRange, PageRuns } from '../../../src/sys/page-runs.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { shownPages } from '../../../src/bridge/dmabuf-pool.ts';
import type { PlaneStats } from '../../../src/bridge/plane-buffers.ts';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { FormatSet, type Framebuffer, newFramebufferId } from '../../../src/core/framebuffer.ts';
import { SysError } from '../../../src/sys/errors.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { UdmabufError } from '../../../src/sys/udmabuf.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import { FakeOutput, FakeSource, GuestPicture } from './fakes.ts';

/** In place of /dev/udmabuf, whose real driver test/kernel has. A dma-buf is a memfd, which FakeOutput never opens. */
const driver = vi.hoisted(() => ({
  /** What each `create` was asked for. */
  created: [] as (readonly { readonly offset: number; readonly length: number }[])[],
  fail: null as Error | null,
  openFails: null as Error | null,
  /** How long one takes. */
  costMs: 0,
}));

vi.mock('../../../src/sys/udmabuf.ts', async (original) => ({
  ...(await original<object>()),
  UdmabufDriver: {
    open: () =>
      driver.openFails ?? {
        create(ranges: PageRuns) {
          driver.created.push(Array.from(ranges, ({ offset, length }) => ({ offset, length })));
          vi.advanceTimersByTime(driver.costMs);
          if (driver.fail) throw driver.fail;
          return createMemfd('dma-buf', 4096, 0);
        },
        [Symbol.dispose]: () => undefined,
      },
  },
}));

const FIRST = 0;
const SECOND = 1;
const PAGE = 4096;
const PICTURE_BYTES = 64 * 48 * 4;
/** Longer than a screen copies before it tries to share again. */
const BACK_OFF_MS = 300;
const XRGB = new FormatSet([[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]);

let source: FakeSource;
let output: FakeOutput;
let bridge: Bridge;
let pictures: GuestPicture[];

expectNoLeaks();

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  Object.assign(driver, { created: [], fail: null, openFails: null, costMs: 0 });
  pictures = [];
  open(Infinity);
});
afterEach(() => {
  vi.useRealTimers();
  bridge[Symbol.dispose]();
  for (const picture of pictures) picture[Symbol.dispose]();
});

function open(limit: number): void {
  source = new FakeSource();
  source.budget = new MemoryBudget(limit);
  output = new FakeOutput({ imports: XRGB });
  bridge = new Bridge(source);
  bridge.show(FIRST, output);
}

function picture(width = 64, height = 48): Framebuffer {
  const made = new GuestPicture(width, height);
  pictures.push(made);
  return made.framebuffer;
}

function flip(framebuffer: Framebuffer): ReturnType<FakeSource['flush']> {
  source.show(framebuffer);
  return source.flush(0, 0, 64, 48);
}

function stats(): PlaneStats {
  return bridge.stats[FIRST]!.screens[0]!.primary;
}

/** The same picture in pages that the guest does not wait for. */
function plain(framebuffer: Framebuffer): Framebuffer {
  const { backing } = framebuffer;
  if (backing.kind !== 'pages') throw new TypeError('a guest picture is in pages');
  return { ...framebuffer, id: newFramebufferId(), backing: { ...backing, isBlob: false } };
}

describe('guest pages', () => {
  test.each([
    ['auto', 'udmabuf', 'direct', 'shadow', 'shadow'],
    ['all', 'udmabuf', 'direct', 'udmabuf', 'direct'],
    ['off', 'shadow', 'direct', 'shadow', 'shadow'],
  ] as const)(
    'with zero copy %s are read after the flush only where the guest waits for that, or all may be',
    (zeroCopy, importedBlob, readBlob, importedPlain, readPlain) => {
      const outputs = [new FakeOutput({ imports: XRGB }), new FakeOutput({ readsPages: true })];
      const rungs = outputs.map((shown) => {
        const other = new FakeSource();
        using screens = new Bridge(other, { zeroCopy });
        screens.show(FIRST, shown);
        const rungOf = (framebuffer: Framebuffer): unknown => {
          other.show(framebuffer);
          other.flush(0, 0, 64, 48);
          shown.vblank();
          return screens.stats[FIRST]!.screens[0]!.primary.rung;
        };
        const made = picture();
        const copied = plain(made);
        const seen = [rungOf(made), rungOf(copied)];
        for (const framebuffer of [made, copied]) other.sink.destroyed(framebuffer);
        return seen;
      });
      expect(rungs).toEqual([
        [importedBlob, importedPlain],
        [readBlob, readPlain],
      ]);
    },
  );

  test.each(['auto', 'all', 'off'] as const)('in a file are read, and never shared, with zero copy %s', (zeroCopy) => {
    using file = createMemfd('file', PICTURE_BYTES);
    const { width, height, format, modifier, planes } = picture();
    const framebuffer: Framebuffer = {
      ...{ id: newFramebufferId(), width, height, format, modifier, planes },
      backing: { kind: 'file', file },
    };
    for (const shown of [new FakeOutput({ imports: XRGB }), new FakeOutput({ readsPages: true })]) {
      const other = new FakeSource();
      using screens = new Bridge(other, { zeroCopy });
      screens.show(FIRST, shown);
      other.show(framebuffer);
      other.flush(0, 0, 64, 48);
      shown.vblank();
      const { rung, copiedBytes } = screens.stats[FIRST]!.screens[0]!.primary;
      expect([rung, copiedBytes]).toEqual(['shadow', PICTURE_BYTES]);
      other.sink.destroyed(framebuffer);
    }
    expect(driver.created).toEqual([]);
  });

  test('are not shared before the framebuffer is flushed, however many are announced', () => {
    for (let i = 0; i < 20; i++) source.show(picture());
    expect(driver.created).toHaveLength(0);
    source.flush(0, 0, 64, 48);
    expect(driver.created).toHaveLength(1);
    expect(stats().rung).toBe('udmabuf');
  });

  test('of framebuffers that are replaced before a refresh are never shared, and their flushes are done', () => {
    flip(picture());
    const flushes = [picture(), picture(), picture()].map(flip);
    expect(driver.created).toHaveLength(1);
    output.vblank();
    expect(driver.created).toHaveLength(2);
    output.vblank();
    expect(flushes.map(({ done }) => done.mock.calls.length)).toEqual([1, 1, 1]);
  });

  test('that take long are shared one framebuffer a turn of the event loop', async () => {
    using other = new FakeOutput({ name: 'other', imports: XRGB });
    bridge.show(SECOND, other);
    driver.costMs = 20;
    const second = picture();
    source.sink.scanout(SECOND, second, { x: 0, y: 0, width: 64, height: 48 });
    source.show(picture());
    source.flush(0, 0, 64, 48);
    source.flush(0, 0, 64, 48, true, SECOND);
    expect([driver.created.length, output.presents.length, other.presents.length]).toEqual([1, 1, 0]);
    await new Promise((resolve) => setImmediate(resolve));
    expect([driver.created.length, other.presents.length]).toEqual([2, 1]);
  });

  test('are not shared for a screen that is hidden before its turn', async () => {
    using other = new FakeOutput({ name: 'other', imports: XRGB });
    bridge.show(SECOND, other);
    driver.costMs = 20;
    source.sink.scanout(SECOND, picture(), { x: 0, y: 0, width: 64, height: 48 });
    flip(picture());
    const flush = source.flush(0, 0, 64, 48, true, SECOND);
    bridge.hide(other);
    await new Promise((resolve) => setImmediate(resolve));
    expect(driver.created).toHaveLength(1);
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('of a screen whose output fails in a later turn lose that screen only', async () => {
    using other = new FakeOutput({ name: 'other', imports: XRGB });
    bridge.show(SECOND, other);
    driver.costMs = 20;
    vi.spyOn(other, 'import').mockImplementation(() => {
      throw new Error('told to fail');
    });
    source.sink.scanout(SECOND, picture(), { x: 0, y: 0, width: 64, height: 48 });
    flip(picture());
    const flush = source.flush(0, 0, 64, 48, true, SECOND);
    await new Promise((resolve) => setImmediate(resolve));
    expect(bridge.stats.map(({ screens }) => screens.length)).toEqual([1, 0]);
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('are frozen as a copy if the guest stops before they are shared', () => {
    flip(picture());
    source.show(picture());
    source.sink.halted();
    output.vblank();
    expect(driver.created).toHaveLength(1);
    expect(stats().copiedBytes).toBe(PICTURE_BYTES);
  });
});

describe('guest pages that are shared', () => {
  test("are charged to the source's budget until no screen has a handle of them", () => {
    using other = new FakeOutput({ name: 'other', imports: XRGB });
    const [a, b] = [picture(), picture()];
    flip(a);
    output.vblank();
    flip(b);
    output.vblank();
    expect(source.budget.used).toBe(2 * PICTURE_BYTES);
    bridge.show(FIRST, other);
    expect([driver.created.length, source.budget.used]).toEqual([2, 2 * PICTURE_BYTES]);
    source.sink.destroyed(a);
    expect(source.budget.used).toBe(PICTURE_BYTES);
    bridge.hide(output);
    expect(source.budget.used).toBe(PICTURE_BYTES);
    bridge.hide(other);
    expect(source.budget.used).toBe(0);
  });

  test('are those of the picture, not the whole backing', () => {
    const large = picture(64, 480);
    const framebuffer = { ...large, height: 32, planes: [{ offset: 5 * PAGE + 256, stride: 256 }] };
    source.show(framebuffer);
    source.flush(0, 0, 64, 32);
    // GuestPicture's pages lie in reverse order.
    expect(driver.created).toEqual([[24, 23, 22].map((page) => ({ offset: page * PAGE, length: PAGE }))]);
    expect(output.imported[0]!.framebuffer.planes).toEqual([{ offset: 256, stride: 256 }]);
    expect(source.budget.used).toBe(3 * PAGE);
  });

  test('give way to newer ones while they are not on screen and fill half of the budget', () => {
    bridge[Symbol.dispose]();
    open(8 * PICTURE_BYTES);
    const framebuffers = Array.from({ length: 10 }, () => picture());
    for (const framebuffer of framebuffers) {
      flip(framebuffer);
      output.vblank();
    }
    expect(source.budget.used).toBe(4 * PICTURE_BYTES);
    expect(stats()).toMatchObject({ rung: 'udmabuf', imports: 10, evictions: 6, copiedBytes: 0 });
  });

  test('are copied while the budget has no room, and shared again later', () => {
    bridge[Symbol.dispose]();
    open(4 * PICTURE_BYTES);
    const [a, b] = [picture(), picture()];
    source.budget.reserve(3.5 * PICTURE_BYTES);
    flip(a);
    output.vblank();
    expect(driver.created).toHaveLength(0);
    source.budget.release(3.5 * PICTURE_BYTES);
    flip(b);
    output.vblank();
    vi.advanceTimersByTime(BACK_OFF_MS);
    flip(a);
    expect(driver.created).toHaveLength(2);
    expect(stats()).toMatchObject({ rung: 'udmabuf', imports: 2 });
  });
});

describe('sharing guest pages', () => {
  const passing = [
    [
      'descriptors are short',
      new UdmabufError('create-failed', 'told to fail', {
        cause: new SysError('ioctl(UDMABUF_CREATE_LIST)', 'EMFILE'),
      }),
    ],
    ['memory is short', new UdmabufError('create-failed', 'told to fail', { cause: new SysError('ioctl', 'ENOMEM') })],
    ['the limit of bytes is lowered', new UdmabufError('too-large', 'told to fail')],
    ['the limit of ranges is lowered', new UdmabufError('too-many-ranges', 'told to fail')],
  ] as const;

  test.each(passing)('is tried again, after a while, with a later flip if %s', (_, error) => {
    driver.fail = error;
    const [a, b] = [picture(), picture()];
    for (const framebuffer of [a, b, a, b]) {
      flip(framebuffer);
      output.vblank();
    }
    expect([driver.created.length, stats().rung]).toEqual([2, 'shadow']);
    vi.advanceTimersByTime(BACK_OFF_MS);
    driver.fail = null;
    flip(a);
    output.vblank();
    flip(b);
    expect([driver.created.length, stats().rung]).toEqual([4, 'udmabuf']);
  });

  test('is not tried again with a framebuffer whose pages cannot be shared', () => {
    driver.fail = new UdmabufError('wrong-seals', 'told to fail');
    const [a, b] = [picture(), picture()];
    for (let i = 0; i < 3; i++) {
      flip(a);
      output.vblank();
      flip(b);
      output.vblank();
      vi.advanceTimersByTime(BACK_OFF_MS);
    }
    expect(driver.created).toHaveLength(2);
  });

  test('begins when the device can be opened, if descriptors were short at the start', () => {
    bridge[Symbol.dispose]();
    driver.openFails = new UdmabufError('driver-open-failed', 'EMFILE');
    open(Infinity);
    const [a, b] = [picture(), picture()];
    flip(a);
    output.vblank();
    expect(stats().rung).toBe('shadow');
    driver.openFails = null;
    vi.advanceTimersByTime(BACK_OFF_MS);
    flip(b);
    expect(stats().rung).toBe('udmabuf');
  });

  test('with an output that refuses for the moment is tried again, after a while, with a later flip', () => {
    output.refuse = 'resources';
    const [a, b] = [picture(), picture()];
    for (const framebuffer of [a, b, a]) {
      flip(framebuffer);
      output.vblank();
    }
    expect([output.importCount, stats().rung]).toEqual([2, 'shadow']);
    output.refuse = null;
    vi.advanceTimersByTime(BACK_OFF_MS);
    flip(b);
    expect(stats().rung).toBe('udmabuf');
  });

  test.each(['size', 'contiguity'] as const)(
    'with an output that refuses the %s of one framebuffer goes on with the next',
    (code) => {
      output.refuse = code;
      const [a, b] = [picture(), picture()];
      flip(a);
      output.vblank();
      output.refuse = null;
      flip(b);
      output.vblank();
      flip(a);
      expect([output.importCount, stats().imports]).toEqual([2, 1]);
    },
  );
});

describe('shownPages: a picture', () => {
  const memfd = { fd: 0 };
  const pages = (offset: number, count: number): PageRange => ({ memfd, offset: offset * PAGE, length: count * PAGE });
  const layout = (height: number, offset: number, stride = PAGE): Parameters<typeof shownPages>[0] => ({
    width: 8,
    height,
    format: DRM_FORMAT.XRGB8888,
    modifier: DRM_FORMAT_MOD_LINEAR,
    planes: [{ offset, stride }],
  });

  test.each([
    ['that fills the backing has all of it', layout(4, 0), [pages(9, 4)], [pages(9, 4)], 0],
    ['at the start has the first pages', layout(2, 0), [pages(9, 4)], [pages(9, 2)], 0],
    ['in the middle of a page has that page', layout(1, PAGE + 64, 64), [pages(9, 4)], [pages(10, 1)], 64],
    [
      'that begins before the end of a page has the next one too',
      layout(1, PAGE - 32),
      [pages(9, 4)],
      [pages(9, 2)],
      PAGE - 32,
    ],
    [
      'over several ranges has parts of them',
      layout(3, PAGE),
      [pages(9, 2), pages(3, 1), pages(20, 9)],
      [pages(10, 1), pages(3, 1), pages(20, 1)],
      0,
    ],
    ['whose last row is short ends with the backing', layout(2, PAGE, 2 * PAGE), [pages(9, 4)], [pages(10, 3)], 0],
  ])('%s', (_, picture, backing, expected, offset) => {
    const shown = shownPages(picture, PageRuns.of(backing));
    expect([...shown.ranges]).toEqual(expected);
    expect(shown.planes[0]!.offset).toBe(offset);
    expect(shown.byteLength).toBe(expected.reduce((sum, { length }) => sum + length, 0));
  });
});
