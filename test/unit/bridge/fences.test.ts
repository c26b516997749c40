import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { FenceWait } from '../../../src/sys/fence-wait.ts';
import { Damage } from '../../../src/core/damage.ts';
import { FormatSet, type Framebuffer } from '../../../src/core/framebuffer.ts';
import { type Flush, type Source, type SourceSink } from '../../../src/core/source.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { dupFd, type OwnedFd } from '../../../src/sys/fd.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import { FakeOutput, GuestPicture } from './fakes.ts';

const FIRST = 0;
const RED = 0xff0000;
const BLUE = 0x0000ff;
const LINEAR = new FormatSet([[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]);

/** A source whose flushes carry fences. */
class FencingSource implements Source {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  readonly #damage = new Damage();
  readonly done: string[] = [];
  sink!: SourceSink;

  connect(sink: SourceSink): void {
    this.sink = sink;
  }

  setMonitor(): void {
    // Any will do.
  }

  /** Shows and flushes all of it; `name` is in `done` when that is done. */
  flip(name: string, framebuffer: Framebuffer, fences: Omit<Flush, 'done' | 'isFenced'> = {}): void {
    const whole = { x: 0, y: 0, width: framebuffer.width, height: framebuffer.height };
    this.#damage.clear();
    this.#damage.addRect(whole);
    this.sink.scanout(FIRST, framebuffer, whole);
    this.sink.flush(FIRST, this.#damage, { isFenced: true, ...fences, done: () => void this.done.push(name) });
  }

  [Symbol.dispose](): void {
    // Nothing of its own.
  }
}

let source: FencingSource;
let bridge: Bridge;
let stack: DisposableStack;
let logged: string[];

/** What signals when a test says so: to a poll an eventfd is what a sync_file is. */
function newFence(): EventFd {
  return stack.use(EventFd.create());
}

function picture(colour = RED): GuestPicture {
  const made = stack.use(new GuestPicture(64, 48));
  made.fill(0, 0, 64, 48, colour);
  return made;
}

function screen(options: ConstructorParameters<typeof FakeOutput>[0] & { takesFences?: boolean } = {}): FakeOutput {
  const output = new FakeOutput(options);
  output.takesFences = options.takesFences ?? false;
  bridge.show(FIRST, output);
  return output;
}

/** Resolves when the event loop has seen all that had signalled before. */
function loopTurned(): Promise<void> {
  const fence = newFence();
  fence.signal();
  return new Promise((resolve) => stack.use(new FenceWait(resolve)).start(fence));
}

/** Signals, and resolves when an output has been given a frame. */
function presentedAfter(fence: EventFd, output: FakeOutput): Promise<void> {
  fence.signal();
  return new Promise((resolve) => (output.onPresent = resolve));
}

function firstPixel(output: FakeOutput): number {
  return Buffer.from(output.picture()).readUInt32LE(0) & 0xffffff;
}

expectNoLeaks();

beforeEach(() => {
  stack = new DisposableStack();
  source = new FencingSource();
  logged = [];
  bridge = new Bridge(source, { zeroCopy: 'off', log: (_, message) => logged.push(message) });
});

afterEach(() => {
  bridge[Symbol.dispose]();
  stack[Symbol.dispose]();
});

describe('a flush with an acquire fence', () => {
  test('is presented at once with its fence if the output takes fences', () => {
    const output = screen({ imports: LINEAR, takesFences: true });
    const fence = newFence();
    source.flip('a', picture().asDmabuf, { acquire: fence });
    expect(output.presents).toMatchObject([{ acquire: fence }]);
    expect(source.done).toEqual([]);
    output.vblank();
    expect(source.done).toEqual(['a']);
  });

  test('passes its fence on only once', () => {
    const output = screen({ imports: LINEAR, takesFences: true });
    source.flip('a', picture().asDmabuf, { acquire: newFence() });
    output.vblank();
    source.sink.cursorMoved(FIRST, 1, 1);
    expect(output.presents.at(-1)!.acquire).toBeNull();
  });

  test('of the framebuffer on screen is done only when its frame is shown', () => {
    const output = screen({ imports: LINEAR, takesFences: true });
    const front = picture().asDmabuf;
    source.flip('first', front);
    output.vblank();
    source.flip('again', front, { acquire: newFence() });
    expect(output.presents).toHaveLength(2);
    expect(source.done).toEqual(['first']);
    output.vblank();
    expect(source.done).toEqual(['first', 'again']);
  });

  test.each([
    ['copied', {}, 'framebuffer'],
    ['imported by an output that takes no fences', { imports: LINEAR }, 'asDmabuf'],
    ['read by the output', { readsPages: true, takesFences: true }, 'framebuffer'],
  ] as const)('is presented when its fence has signalled, where it is %s', async (_, options, backing) => {
    const output = screen(options);
    const fence = newFence();
    source.flip('a', picture()[backing], { acquire: fence });
    await loopTurned();
    expect(output.presents).toEqual([]);
    await presentedAfter(fence, output);
    expect(output.presents).toMatchObject([{ acquire: null }]);
    expect(source.done).toEqual([]);
    output.vblank();
    expect(source.done).toEqual(['a']);
  });

  test('is copied after its fence has signalled', async () => {
    const output = screen();
    const fence = newFence();
    const drawn = picture(RED);
    source.flip('a', drawn.framebuffer, { acquire: fence });
    drawn.fill(0, 0, 64, 48, BLUE);
    await presentedAfter(fence, output);
    expect(firstPixel(output)).toBe(BLUE);
  });

  test('is superseded by a later flush without a fence', async () => {
    const output = screen();
    const late = newFence();
    source.flip('late', picture(RED).framebuffer, { acquire: late });
    source.flip('newer', picture(BLUE).framebuffer);
    expect(output.presents).toHaveLength(1);
    output.vblank();
    expect(source.done.toSorted()).toEqual(['late', 'newer']);
    late.signal();
    await loopTurned();
    expect(output.presents).toHaveLength(1);
    expect(firstPixel(output)).toBe(BLUE);
  });

  test("waits for the newest flush's fence only", async () => {
    const output = screen();
    const [older, newer] = [newFence(), newFence()];
    source.flip('older', picture(RED).framebuffer, { acquire: older });
    source.flip('newer', picture(BLUE).framebuffer, { acquire: newer });
    older.signal();
    await loopTurned();
    expect(output.presents).toEqual([]);
    await presentedAfter(newer, output);
    expect(firstPixel(output)).toBe(BLUE);
  });

  test('does not delay a screen that takes fences', async () => {
    const copying = screen();
    const fencing = screen({ name: 'fencing', imports: LINEAR, takesFences: true });
    const fence = newFence();
    source.flip('a', picture().asDmabuf, { acquire: fence });
    expect(fencing.presents).toHaveLength(1);
    expect(copying.presents).toHaveLength(0);
    await presentedAfter(fence, copying);
    fencing.vblank();
    expect(source.done).toEqual([]);
    copying.vblank();
    expect(source.done).toEqual(['a']);
  });

  test('is awaited by several screens at once', async () => {
    const screens = [screen(), screen({ name: 'second' })];
    const fence = newFence();
    source.flip('a', picture().framebuffer, { acquire: fence });
    await Promise.all(screens.map((output) => presentedAfter(fence, output)));
    for (const output of screens) output.vblank();
    expect(source.done).toEqual(['a']);
  });

  test('may have its fence closed by the source once it is done', async () => {
    const lit = screen({ imports: LINEAR, takesFences: true });
    const dark = screen({ name: 'dark' });
    dark.plug(null);
    const fence = EventFd.create();
    const later = EventFd.adopt(dupFd(fence));
    source.flip('a', picture().asDmabuf, { acquire: fence });
    lit.vblank();
    expect(source.done).toEqual(['a']);
    fence[Symbol.dispose]();
    await presentedAfter(later, dark);
    later[Symbol.dispose]();
  });

  test('is presented at once if its fence cannot be waited for, which is logged once', () => {
    const output = screen();
    // epoll takes no descriptor of a file.
    const file = stack.use(createMemfd('no fence', 4096));
    for (const name of ['a', 'b']) {
      source.flip(name, picture().framebuffer, { acquire: file });
      output.vblank();
    }
    expect(output.presents).toMatchObject([{ acquire: null }, { acquire: null }]);
    expect(source.done).toEqual(['a', 'b']);
    expect(logged.filter((line) => line.includes('cannot be waited for'))).toHaveLength(1);
  });

  test('is dropped when the scanout is turned off or the bridge is disposed', async () => {
    const output = screen();
    const fence = newFence();
    source.flip('a', picture().framebuffer, { acquire: fence });
    source.sink.scanout(FIRST, null, { x: 0, y: 0, width: 0, height: 0 });
    expect(output.presents).toMatchObject([{ handle: null }]);
    source.flip('b', picture().framebuffer, { acquire: newFence() });
    bridge[Symbol.dispose]();
    fence.signal();
    await loopTurned();
    expect(output.presents).toHaveLength(1);
    expect(source.done.toSorted()).toEqual(['a', 'b']);
  });
});

describe('a source that takes release fences', () => {
  test('gets one for each flush of the frame', () => {
    const output = screen({ imports: LINEAR, takesFences: true });
    const shown = newFence();
    output.giveFence = () => dupFd(shown);
    const given: OwnedFd[] = [];
    const release = (fence: OwnedFd): void => void given.push(stack.use(fence));
    source.flip('first', picture().asDmabuf, { release });
    source.flip('overtaken', picture().asDmabuf, { release });
    source.flip('newest', picture().asDmabuf, { release });
    expect(given).toHaveLength(1);
    output.vblank();
    expect(given).toHaveLength(3);
  });

  test('gets none if the output has none or several outputs mirror the scanout', () => {
    const given: OwnedFd[] = [];
    const release = (fence: OwnedFd): void => void given.push(stack.use(fence));
    const plain = screen();
    source.flip('a', picture().framebuffer, { release });
    plain.vblank();
    const second = screen({ name: 'second', imports: LINEAR, takesFences: true });
    const shown = newFence();
    second.giveFence = () => dupFd(shown);
    source.flip('b', picture().asDmabuf, { release });
    expect(given).toEqual([]);
  });

  test('causes no fence if its flushes do not ask for one', () => {
    const output = screen({ imports: LINEAR, takesFences: true });
    output.giveFence = () => {
      throw new Error('no flush wants a release fence');
    };
    source.flip('a', picture().asDmabuf);
    output.vblank();
    expect(source.done).toEqual(['a']);
  });
});
