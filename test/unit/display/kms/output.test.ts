import assert from 'node:assert';
import { writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KmsBuffer } from '../../../../display/kms/buffer.ts';
import { GemHandles } from '../../../../display/kms/gem-handles.ts';
import { type CursorChoice, KmsOutput } from '../../../../display/kms/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import {
  type Frame,
  type Handle,
  type Presentation,
  PresentedFlags,
  type ScreenListener,
} from '../../../../src/core/output.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { type Commit, FakeCard } from './fake-card.ts';

vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);

const SCREEN = { x: 0, y: 0, width: 640, height: 480 };
const EINVAL = 22;
/** Longer than a refresh, and than an output waits for its driver. */
const REFRESH_MS = 20;
const PATIENCE_MS = 2100;

let card: FakeCard;
let output: KmsOutput;
let memfd: OwnedFd;
let logged: string[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  logged = [];
  card = new FakeCard((fd) => new GemHandles(fd));
  const planes = [card.pipe.primary, card.pipe.cursor!, card.pipe.overlay!];
  output = new KmsOutput(card.device, {
    connector: card.pipe.connector,
    planes,
    writebacks: [card.writeback],
    background: 0,
    log: (_, message) => void logged.push(message),
  });
  memfd = createMemfd('guest', 4096, 0);
});
afterEach(() => {
  for (const each of [output, card, memfd]) each[Symbol.dispose]();
  vi.useRealTimers();
});

/** Replaces `output`. */
function openOutput(cursor: CursorChoice): void {
  output[Symbol.dispose]();
  output = new KmsOutput(card.device, {
    connector: card.pipe.connector,
    planes: [card.pipe.primary, card.pipe.cursor!, card.pipe.overlay!],
    background: 0,
    cursor,
    log: (_, message) => void logged.push(message),
  });
}

function enable(): void {
  output.enable(card.pipe.connector, card.pipe, [card.mode]);
  card.flip();
}

function importPicture(): Handle {
  const framebuffer = {
    id: newFramebufferId(),
    width: 640,
    height: 480,
    format: DRM_FORMAT.XRGB8888,
    modifier: DRM_FORMAT_MOD_LINEAR,
    planes: [{ offset: 0, stride: 2560 }],
  };
  const handle = output.import({ ...framebuffer, backing: { kind: 'dmabuf', dmabuf: memfd } });
  if (handle instanceof Error) throw handle;
  return handle;
}

/** The framebuffer of a handle; 0 once it is freed. */
function fbOf(handle: Handle): number {
  assert(handle instanceof KmsBuffer);
  return handle.opaqueFb(card.pipe.primary.formats);
}

function frame(handle: Handle | null, changes: Partial<Frame> = {}): Frame {
  const damage = new Damage();
  damage.addRect(SCREEN);
  return {
    canvas: SCREEN,
    primary: { handle, src: SCREEN, dst: SCREEN },
    cursor: { handle: null, src: SCREEN, dst: SCREEN },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage,
    acquire: null,
    release: null,
    ...changes,
  };
}

class Listener implements ScreenListener {
  readonly scanout = 0;
  readonly input = null;
  readonly events: string[] = [];
  onEvent: (event: string) => void = () => undefined;

  presented({ flags }: Presentation): void {
    this.#add((flags & PresentedFlags.HIDDEN) === 0 ? 'presented' : 'hidden');
  }

  released(handle: Handle): void {
    this.#add(`released${handle.isHeld ? ' although held' : ''}`);
  }

  resized(monitor: Monitor | null): void {
    this.#add(monitor ? 'plugged' : 'unplugged');
  }

  importsChanged(): void {
    this.#add('importsChanged');
  }

  closed(): void {
    this.#add('closed');
  }

  #add(event: string): void {
    this.events.push(event);
    this.onEvent(event);
  }
}

/** In place of a sync_file: a descriptor that becomes readable. */
class TestFence implements Disposable {
  readonly #ends = socketPair();

  get fd(): OwnedFd {
    return this.#ends[0];
  }

  /** Before the event loop has looked. */
  signalUnseen(): void {
    writeSync(this.#ends[1].fd, 'x');
  }

  /** Resolves when pollers have been called. */
  async signal(): Promise<void> {
    this.signalUnseen();
    for (let turns = 0; turns < 3; turns++) await new Promise((resolve) => setImmediate(resolve));
  }

  [Symbol.dispose](): void {
    for (const end of this.#ends) end[Symbol.dispose]();
  }
}

/** Where the cursor plane is on screen. */
function cursorAt(): (number | undefined)[] {
  const { CRTC_X, CRTC_Y } = card.shown.get(card.pipe.cursor!.id)!;
  return [CRTC_X, CRTC_Y];
}

/** Attaches a listener and shows a picture. */
function attachAndShow(
  handle: Handle,
  options: { keepLast?: boolean } = {},
): { listener: Listener; attachment: Disposable } {
  const listener = new Listener();
  const attachment = output.attach(listener, options);
  output.present(frame(handle));
  card.flip();
  listener.events.length = 0;
  return { listener, attachment };
}

describe('KmsOutput: detaching its listener', () => {
  beforeEach(enable);

  test('takes the picture off the screen, and frees its buffer when the hardware has let go of it', () => {
    const handle = importPicture();
    const fb = fbOf(handle);
    const { listener, attachment } = attachAndShow(handle);
    expect(card.planes[0]).toBe(fb);
    handle[Symbol.dispose]();
    attachment[Symbol.dispose]();
    expect(card.planes[0]).not.toBe(fb);
    expect([handle.isHeld, card.framebuffers.has(fb)]).toEqual([true, true]);
    card.flip();
    expect([handle.isHeld, card.framebuffers.has(fb)]).toEqual([false, false]);
    expect(listener.events).toEqual([]);
  });

  test('commits the background when the flip in flight has completed', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { listener, attachment } = attachAndShow(first);
    output.present(frame(second));
    const commits = card.commits.length;
    attachment[Symbol.dispose]();
    expect(card.commits).toHaveLength(commits);
    card.flip();
    expect([first.isHeld, second.isHeld, card.planes[0] === fbOf(second)]).toEqual([false, true, false]);
    card.flip();
    expect([second.isHeld, card.isFlipping]).toEqual([false, false]);
    expect(listener.events).toEqual([]);
  });

  test('with keepLast leaves the last frame on screen until the next listener presents', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { attachment } = attachAndShow(first, { keepLast: true });
    const fb = fbOf(first);
    attachment[Symbol.dispose]();
    first[Symbol.dispose]();
    vi.advanceTimersByTime(PATIENCE_MS);
    expect([card.planes[0], first.isHeld, card.framebuffers.has(fb)]).toEqual([fb, true, true]);
    const { listener } = attachAndShow(second);
    expect([card.planes[0], first.isHeld, card.framebuffers.has(fb)]).toEqual([fbOf(second), false, false]);
    expect(listener.events).toEqual([]);
  });

  test('with keepLast keeps a frame that is in flight', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { listener, attachment } = attachAndShow(first, { keepLast: true });
    output.present(frame(second));
    attachment[Symbol.dispose]();
    card.flip();
    expect([first.isHeld, second.isHeld, card.planes[0]]).toEqual([false, true, fbOf(second)]);
    expect([listener.events, card.isFlipping]).toEqual([[], false]);
  });

  test('twice does not detach the next attachment of the same listener', () => {
    const handle = importPicture();
    const { listener, attachment } = attachAndShow(handle);
    attachment[Symbol.dispose]();
    card.flip();
    using _ = output.attach(listener);
    attachment[Symbol.dispose]();
    output.present(frame(handle));
    card.flip();
    expect(listener.events).toEqual(['presented']);
  });

  test('takes back a frame that waits for its fence', () => {
    const handle = importPicture();
    const { attachment } = attachAndShow(importPicture());
    using fence = new TestFence();
    card.isBusy = true;
    output.present(frame(handle, { acquire: fence.fd }));
    expect([handle.isHeld, card.isFlipping]).toEqual([true, false]);
    card.isBusy = false;
    attachment[Symbol.dispose]();
    expect(handle.isHeld).toBe(false);
    card.flip();
    expect(card.isFlipping).toBe(false);
  });

  test('while another program keeps the CRTC busy tries again until the background is on screen', () => {
    const handle = importPicture();
    const fb = fbOf(handle);
    const { attachment } = attachAndShow(handle);
    card.isBusy = true;
    attachment[Symbol.dispose]();
    for (let waited = 0; waited < 3 * PATIENCE_MS; waited += REFRESH_MS) vi.advanceTimersByTime(REFRESH_MS);
    expect([handle.isHeld, card.planes[0]]).toEqual([true, fb]);
    card.isBusy = false;
    vi.advanceTimersByTime(REFRESH_MS);
    card.flip();
    expect([handle.isHeld, card.planes[0] === fb]).toEqual([false, false]);
  });

  test('from inside `released` suppresses the `presented` that would follow', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { listener, attachment } = attachAndShow(first);
    const next = new Listener();
    listener.onEvent = () => {
      attachment[Symbol.dispose]();
      output.attach(next);
    };
    output.present(frame(second));
    card.flip();
    expect([listener.events, next.events]).toEqual([['released'], []]);
  });

  test('releases the buffers of a disabled screen one refresh later', () => {
    const handle = importPicture();
    const { attachment } = attachAndShow(handle);
    output.disable();
    attachment[Symbol.dispose]();
    vi.advanceTimersByTime(REFRESH_MS);
    expect(handle.isHeld).toBe(false);
  });
});

describe('KmsOutput: a flip that does not end', () => {
  /** Presents a frame whose flip does not end, and waits until the output continues without it. */
  function getStuck(listener: Listener, handle: Handle): void {
    output.present(frame(handle));
    vi.advanceTimersByTime(PATIENCE_MS);
    expect(listener.events).toEqual(['released', 'hidden']);
    listener.events.length = 0;
  }

  beforeEach(enable);

  test.each<[string, (attachment: Disposable, shown: Handle, next: Handle) => void]>([
    ['another frame is presented', (_attachment, shown) => output.present(frame(shown))],
    [
      'the buffers are disposed',
      (_attachment, shown, next) => {
        shown[Symbol.dispose]();
        next[Symbol.dispose]();
        vi.advanceTimersByTime(PATIENCE_MS);
      },
    ],
    [
      'the listener is detached',
      (attachment) => {
        attachment[Symbol.dispose]();
        vi.advanceTimersByTime(PATIENCE_MS);
      },
    ],
    ['the monitor is unplugged', () => output.disable()],
    [
      'the monitor is replaced',
      () => {
        output.disable();
        output.enable(card.pipe.connector, card.pipe, [card.mode]);
      },
    ],
    [
      'the seat is resumed',
      () => {
        output.pause();
        output.resume();
        output.enable(card.pipe.connector, card.pipe, [card.mode]);
      },
    ],
    ['the output is disposed', () => output[Symbol.dispose]()],
  ])('blocks nothing when %s', (_, then) => {
    const [shown, next] = [importPicture(), importPicture()];
    const { listener, attachment } = attachAndShow(shown);
    getStuck(listener, next);
    then(attachment, shown, next);
    expect(card.commits.filter(({ mayBlock }) => mayBlock)).toEqual([]);
    expect(card.removed).toEqual([]);
  });

  test('is followed by the newest frame when it has ended after all', () => {
    const [shown, next] = [importPicture(), importPicture()];
    const { listener } = attachAndShow(shown);
    getStuck(listener, next);
    output.present(frame(shown));
    card.flip();
    vi.advanceTimersByTime(REFRESH_MS);
    expect(card.planes[0]).toBe(fbOf(shown));
    card.flip();
    expect(listener.events).toEqual(['released', 'presented']);
  });

  test('is logged once', () => {
    const [shown, next] = [importPicture(), importPicture()];
    const { listener } = attachAndShow(shown);
    getStuck(listener, next);
    output.present(frame(shown));
    for (let waited = 0; waited < PATIENCE_MS; waited += REFRESH_MS) vi.advanceTimersByTime(REFRESH_MS);
    expect(listener.events).toEqual(['released', 'hidden']);
    expect(logged.filter((line) => line.includes('did not say'))).toHaveLength(1);
  });

  test('is waited for longer while a mode is set, which takes some monitors seconds', () => {
    const listener = new Listener();
    output.attach(listener);
    output.disable();
    output.present(frame(importPicture()));
    output.enable(card.pipe.connector, card.pipe, [card.mode]);
    vi.advanceTimersByTime(2 * PATIENCE_MS);
    expect(listener.events).toEqual([]);
    card.flip();
    expect(listener.events).toEqual(['presented']);
  });
});

describe('KmsOutput: a timeout of a program that was held up itself', () => {
  beforeEach(enable);

  test('is not blamed on the driver if the event of the flip has arrived', () => {
    const { listener } = attachAndShow(importPicture());
    output.present(frame(importPicture()));
    card.blank();
    vi.advanceTimersByTime(PATIENCE_MS);
    expect(listener.events).toEqual(['released', 'presented']);
    expect(logged.filter((line) => line.includes('did not say'))).toEqual([]);
  });

  test('does not end a frame that the listener presents for that event', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { listener } = attachAndShow(importPicture());
    listener.onEvent = (event) => {
      if (event === 'presented') output.present(frame(second));
    };
    output.present(frame(first));
    card.blank();
    vi.advanceTimersByTime(PATIENCE_MS);
    expect(listener.events).toEqual(['released', 'presented']);
    expect(card.isFlipping).toBe(true);
  });

  test('is not blamed on a fence that has signalled', () => {
    const { listener } = attachAndShow(importPicture());
    using fence = new TestFence();
    const handle = importPicture();
    card.isBusy = true;
    output.present(frame(handle, { acquire: fence.fd }));
    card.isBusy = false;
    fence.signalUnseen();
    vi.advanceTimersByTime(PATIENCE_MS);
    card.flip();
    expect(listener.events).toEqual(['released', 'presented']);
    expect(logged.filter((line) => line.includes('does not signal'))).toEqual([]);
  });

  test('does not end a frame for a busy CRTC before another attempt', () => {
    const { listener } = attachAndShow(importPicture());
    card.isBusy = true;
    output.present(frame(importPicture()));
    card.isBusy = false;
    const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now() + PATIENCE_MS);
    vi.advanceTimersByTime(REFRESH_MS);
    clock.mockRestore();
    card.flip();
    expect(listener.events).toEqual(['released', 'presented']);
  });
});

describe('KmsOutput: readBack', () => {
  let fence: TestFence;
  beforeEach(() => {
    enable();
    fence = new TestFence();
    card.writebackFence = fence.fd;
  });
  afterEach(() => fence[Symbol.dispose]());

  /** The hardware writes `pixels`, and the monitor has its CRTC for itself again. */
  async function written(...pixels: number[]): Promise<void> {
    card.write(Uint32Array.from(pixels));
    await fence.signal();
    card.flip();
  }

  test('resolves with what the hardware wrote, while the screen shows the same', async () => {
    const handle = importPicture();
    const { listener } = attachAndShow(handle);
    const picture = output.readBack();
    expect([card.connectors, card.planes[0]]).toEqual([[true, true], fbOf(handle)]);
    await written(0x00112233, 0xff445566);
    const { width, height, data } = await picture;
    expect([width, height, ...data.subarray(0, 8)]).toEqual([640, 480, 0x11, 0x22, 0x33, 255, 0x44, 0x55, 0x66, 255]);
    expect([card.connectors, card.planes[0], handle.isHeld]).toEqual([[true, false], fbOf(handle), true]);
    expect(listener.events).toEqual([]);
  });

  test('waits for the frame in flight, and the next frame waits for it', async () => {
    const [first, second, third] = [importPicture(), importPicture(), importPicture()];
    const { listener } = attachAndShow(first);
    output.present(frame(second));
    listener.onEvent = (event) => {
      if (event === 'presented' && listener.events.length < 3) output.present(frame(third));
    };
    const picture = output.readBack();
    expect(card.connectors).toEqual([true, false]);
    card.flip();
    expect([listener.events, card.connectors, card.planes[0]]).toEqual([
      ['released', 'presented'],
      [true, true],
      fbOf(second),
    ]);
    await written(0);
    await picture;
    expect(card.planes[0]).toBe(fbOf(third));
    card.flip();
    expect(listener.events).toEqual(['released', 'presented', 'released', 'presented']);
  });

  test('has a virtual monitor give way if the driver lets the connectors share no CRTC, but not a real one', async () => {
    const isShared = ({ states }: Omit<Commit, 'result'>): boolean =>
      [card.writeback.id, card.pipe.connector.id].every((id) => states.get(id)?.['CRTC_ID'] === card.pipe.crtc.id);
    card.check = (commit) => (isShared(commit) ? -EINVAL : 0);
    await expect(output.readBack()).rejects.toThrow('refuses Writeback-1 beside it (errno 22)');
    expect(card.connectors).toEqual([true, false]);
    const connector = { ...card.pipe.connector, name: 'Virtual-1' };
    output.disable();
    output.enable(connector, { ...card.pipe, connector }, [card.mode]);
    card.flip();
    const picture = output.readBack();
    expect(card.connectors).toEqual([false, true]);
    await written(0);
    await picture;
    expect(card.connectors).toEqual([true, false]);
  });

  test('fails if the driver does not write, and the screen goes on', async () => {
    const { listener } = attachAndShow(importPicture());
    const failure = expect(output.readBack()).rejects.toThrow('the driver wrote nothing for a second');
    vi.advanceTimersByTime(PATIENCE_MS);
    await failure;
    card.flip();
    expect(card.connectors).toEqual([true, false]);
    output.present(frame(importPicture()));
    card.flip();
    expect(listener.events).toEqual(['released', 'presented']);
  });

  test.each<[string, () => void, string]>([
    ['turned off', () => output.disable(), 'it was turned off'],
    ['disposed', () => output[Symbol.dispose](), 'it was turned off'],
    ['paused', () => output.pause(), 'another program has the seat'],
    ['lost', () => output.deviceLost('unplugged'), 'unplugged'],
  ])('fails if the screen is %s meanwhile, and leaves no buffer behind', async (_, end, reason) => {
    attachAndShow(importPicture());
    const before = new Set(card.framebuffers);
    const failure = expect(output.readBack()).rejects.toThrow(reason);
    end();
    await failure;
    expect([...card.framebuffers].filter((fb) => !before.has(fb))).toEqual([]);
  });

  test('is refused for a screen that is off, and on a card without a writeback connector', async () => {
    output.disable();
    await expect(output.readBack()).rejects.toThrow('is not shown now');
    openOutput('guest');
    enable();
    await expect(output.readBack()).rejects.toThrow('its card (fake) has no writeback connector');
  });
});

describe('KmsOutput: a card that is gone', () => {
  beforeEach(enable);

  test('ends with `closed`, and everything made on it is given back without an error', () => {
    const [shown, other] = [importPicture(), importPicture()];
    const { listener, attachment } = attachAndShow(shown);
    using shadow = output.createShadow(64, 48, DRM_FORMAT.XRGB8888);
    card.isGone = true;
    other[Symbol.dispose]();
    shadow[Symbol.dispose]();
    output.present(frame(shown));
    vi.advanceTimersByTime(REFRESH_MS);
    expect(listener.events).toEqual(['closed']);
    shown[Symbol.dispose]();
    attachment[Symbol.dispose]();
    output[Symbol.dispose]();
    expect(shown.isHeld).toBe(false);
  });

  test('refuses imports and shadows', () => {
    card.isGone = true;
    expect(importPicture).toThrow('ENODEV');
    expect(() => output.createShadow(64, 48, DRM_FORMAT.XRGB8888)).toThrow('ENODEV');
  });
});

test.each([
  ['without turning off the plane that shows it', true],
  ['by RMFB where the kernel has no CLOSEFB', false],
])('KmsBuffer: frees its framebuffer %s', (_, hasCloseFb) => {
  card.hasCloseFb = hasCloseFb;
  const handle = importPicture();
  const fb = fbOf(handle);
  expect(card.framebuffers.has(fb)).toBe(true);
  handle[Symbol.dispose]();
  expect(card.framebuffers.has(fb)).toBe(false);
  expect(card.removed).toEqual(hasCloseFb ? [] : [fb]);
});

describe('KmsOutput: attaching the next listener', () => {
  beforeEach(enable);

  test('throws while one is attached', () => {
    using _ = output.attach(new Listener());
    expect(() => output.attach(new Listener())).toThrow('is taken');
  });

  test('takes its first frame while an old one is in flight, and commits it when that has landed', () => {
    const [old, next] = [importPicture(), importPicture()];
    const before = new Listener();
    const attachment = output.attach(before);
    output.present(frame(old));
    attachment[Symbol.dispose]();
    const listener = new Listener();
    output.attach(listener);
    const commits = card.commits.length;
    output.present(frame(next));
    expect([card.commits.length, next.isHeld]).toEqual([commits, true]);
    expect(() => output.present(frame(next))).toThrow('in flight');
    card.flip();
    expect([card.planes[0], listener.events]).toEqual([fbOf(next), []]);
    card.flip();
    expect([old.isHeld, next.isHeld, card.isFlipping]).toEqual([false, true, false]);
    expect([before.events, listener.events]).toEqual([[], ['presented']]);
  });

  test('takes its first frame while the background that followed the last one is in flight', () => {
    const [old, next] = [importPicture(), importPicture()];
    const { attachment } = attachAndShow(old);
    attachment[Symbol.dispose]();
    const listener = new Listener();
    output.attach(listener);
    output.present(frame(next));
    card.flip();
    expect(old.isHeld).toBe(false);
    card.flip();
    expect([card.planes[0], listener.events]).toEqual([fbOf(next), ['presented']]);
  });

  test.each([
    ['signals before the old frame has landed', (fence: TestFence) => fence.signal(), () => undefined],
    ['signals after the old frame has landed', () => undefined, (fence: TestFence) => fence.signal()],
  ])('waits for the fence of its first frame, which %s', async (_, before, after) => {
    const [old, next] = [importPicture(), importPicture()];
    const attachment = output.attach(new Listener());
    output.present(frame(old));
    attachment[Symbol.dispose]();
    const listener = new Listener();
    output.attach(listener);
    using fence = new TestFence();
    output.present(frame(next, { acquire: fence.fd }));
    await before(fence);
    expect(card.planes[0]).toBe(fbOf(old));
    card.flip();
    await after(fence);
    expect(card.planes[0]).toBe(fbOf(next));
    card.flip();
    expect([old.isHeld, listener.events]).toEqual([false, ['presented']]);
  });

  test('does not commit its first frame before its fence has signalled', () => {
    const [old, next] = [importPicture(), importPicture()];
    const attachment = output.attach(new Listener());
    output.present(frame(old));
    attachment[Symbol.dispose]();
    output.attach(new Listener());
    using fence = new TestFence();
    output.present(frame(next, { acquire: fence.fd }));
    card.flip();
    expect([card.planes[0], card.isFlipping]).toEqual([fbOf(old), false]);
  });

  test('completes its first frame by a timer if the screen is disabled before it is committed', () => {
    const [old, next] = [importPicture(), importPicture()];
    const attachment = output.attach(new Listener());
    output.present(frame(old));
    attachment[Symbol.dispose]();
    const listener = new Listener();
    output.attach(listener);
    output.present(frame(next));
    output.disable();
    card.flip();
    vi.advanceTimersByTime(REFRESH_MS);
    vi.advanceTimersByTime(REFRESH_MS);
    expect([old.isHeld, next.isHeld, listener.events]).toEqual([false, true, ['hidden']]);
    enable();
    expect(card.planes[0]).toBe(fbOf(next));
  });

  test('shows its first frame with a mode that is set while an old one is in flight', () => {
    const [old, next] = [importPicture(), importPicture()];
    const attachment = output.attach(new Listener());
    output.present(frame(old));
    attachment[Symbol.dispose]();
    const listener = new Listener();
    output.attach(listener);
    output.present(frame(next));
    output.enable(card.pipe.connector, card.pipe, [card.mode]);
    card.flip();
    vi.advanceTimersByTime(REFRESH_MS);
    expect(card.planes[0]).toBe(fbOf(next));
    card.flip();
    expect([old.isHeld, next.isHeld, listener.events]).toEqual([false, true, ['presented']]);
  });
});

describe('KmsOutput: the next vertical blank', () => {
  const PERIOD_MS = 1000 / 60;

  test('follows from the last one, for a second', () => {
    expect(output.nextBlank(performance.now())).toBe(0);
    enable();
    attachAndShow(importPicture());
    const last = performance.now();
    expect(output.nextBlank(last)).toBeCloseTo(last + PERIOD_MS, 6);
    expect(output.nextBlank(last + 10)).toBeCloseTo(last + PERIOD_MS, 6);
    expect(output.nextBlank(last + 905)).toBeCloseTo(last + 55 * PERIOD_MS, 6);
    expect(output.nextBlank(last + 1001)).toBe(0);
  });

  test('is not known while the screen is off or the card another program’s', () => {
    enable();
    attachAndShow(importPicture());
    expect(output.nextBlank(performance.now())).toBeGreaterThan(0);
    output.pause();
    expect(output.nextBlank(performance.now())).toBe(0);
    output.resume();
    output.disable();
    expect(output.nextBlank(performance.now())).toBe(0);
  });
});

describe('KmsOutput: presenting', () => {
  beforeEach(enable);

  test('holds a buffer from `present` until the frame after it is on screen', () => {
    const [first, second] = [importPicture(), importPicture()];
    const listener = new Listener();
    output.attach(listener);
    expect(first.isHeld).toBe(false);
    output.present(frame(first));
    expect(first.isHeld).toBe(true);
    card.flip();
    output.present(frame(second));
    expect([first.isHeld, second.isHeld]).toEqual([true, true]);
    card.flip();
    expect([first.isHeld, second.isHeld]).toEqual([false, true]);
    expect(listener.events).toEqual(['presented', 'released', 'presented']);
  });

  test('shows frames whose fence cannot be waited for without waiting, and logs that once', () => {
    const [first, second] = [importPicture(), importPicture()];
    const { listener } = attachAndShow(importPicture());
    // epoll takes no descriptor of a file.
    const acquire = memfd;
    card.isBusy = true;
    output.present(frame(first, { acquire }));
    card.isBusy = false;
    vi.advanceTimersByTime(REFRESH_MS);
    card.flip();
    expect([card.planes[0], listener.events]).toEqual([fbOf(first), ['released', 'presented']]);
    output.pause();
    output.resume();
    output.present(frame(second, { acquire }));
    card.flip();
    expect([card.planes[0], listener.events.slice(2)]).toEqual([fbOf(second), ['released', 'presented']]);
    expect(logged.filter((line) => line.includes('cannot be waited for'))).toHaveLength(1);
  });

  test('does not show a picture with a mode that is set before the fence of the picture has signalled', async () => {
    const handle = importPicture();
    const { listener } = attachAndShow(importPicture());
    using fence = new TestFence();
    card.isBusy = true;
    output.present(frame(handle, { acquire: fence.fd }));
    card.isBusy = false;
    enable();
    expect([card.planes[0] === fbOf(handle), listener.events]).toEqual([false, []]);
    await fence.signal();
    card.flip();
    expect([card.planes[0], listener.events]).toEqual([fbOf(handle), ['released', 'presented']]);
  });

  test('shows the background for a handle that was disposed', () => {
    const handle = importPicture();
    const fb = fbOf(handle);
    attachAndShow(handle);
    handle[Symbol.dispose]();
    output.present(frame(handle));
    expect(card.planes[0]).not.toBe(fb);
    card.flip();
    expect(card.framebuffers.has(fb)).toBe(false);
  });

  test('throws while nothing is attached', () => {
    expect(() => output.present(frame(null))).toThrow('nothing is attached');
    output.attach(new Listener())[Symbol.dispose]();
    expect(() => output.present(frame(null))).toThrow('nothing is attached');
  });

  test('makes one atomic ioctl a flip', () => {
    const [first, second] = [importPicture(), importPicture()];
    attachAndShow(first);
    const before = card.commits.length;
    for (let i = 0; i < 4; i++) {
      output.present(frame(i % 2 === 0 ? second : first));
      card.flip();
    }
    expect(card.commits.slice(before).map(({ isTest, result }) => [isTest, result])).toEqual(Array(4).fill([false, 0]));
  });

  test('completes a frame that the driver refuses in every layout one refresh later, flagged HIDDEN', () => {
    const { listener } = attachAndShow(importPicture());
    card.check = () => -EINVAL;
    output.present(frame(importPicture()));
    vi.advanceTimersByTime(REFRESH_MS);
    expect(listener.events).toEqual(['released', 'hidden']);
  });
});

describe('KmsOutput: a screen that is operated', () => {
  beforeEach(enable);

  test('finds the guest pixel under a position on a screen larger than the picture, and on a smaller one', () => {
    const at = { x: 0, y: 0 };
    output.attach(new Listener());
    output.present(frame(importPicture(), { canvas: { width: 320, height: 240 } }));
    output.toGuest(0.5, 0.5, at);
    expect([at, output.guestScale]).toEqual([{ x: 160, y: 120 }, 1]);
    output.toGuest(0, 0, at);
    expect(at).toEqual({ x: -160, y: -120 });

    card.flip();
    // Shrunk to 640x320.
    output.present(frame(importPicture(), { canvas: { width: 1280, height: 640 } }));
    output.toGuest(0.25, 80 / 480, at);
    expect([at, output.guestScale]).toEqual([{ x: 320, y: 0 }, 2]);
  });

  test('says who is attached, and that its listener is leaving', () => {
    const events: unknown[] = [];
    const listener = new Listener();
    output.watch({
      attached: () => events.push(output.listener),
      detached: (left) => events.push([left, output.listener]),
    });
    output.attach(listener)[Symbol.dispose]();
    output.watch(null);
    output.attach(new Listener());
    expect(events).toEqual([listener, [listener, null]]);
  });

  test('with cursor hide gives the planes no cursor', () => {
    openOutput('hide');
    enable();
    const shown = importPicture();
    attachAndShow(shown);
    output.present(frame(shown, { cursor: { handle: importPicture(), src: SCREEN, dst: SCREEN } }));
    card.flip();
    expect(card.planes).toEqual([fbOf(shown), 0, 0]);
  });

  test('with cursor draw shows an arrow where the pointer is, also between frames of the guest, until that draws one', () => {
    openOutput('draw');
    enable();
    const shown = importPicture();
    const { listener } = attachAndShow(shown);
    expect(card.planes[1]).toBe(0);
    output.pointAt(100.7, 50);
    const arrow = card.planes[1]!;
    expect([card.planes, cursorAt()]).toEqual([
      [fbOf(shown), arrow, 0],
      [100, 50],
    ]);
    expect(arrow).not.toBe(0);
    // The newest place of several during a flip.
    output.pointAt(110, 50);
    output.pointAt(120, 60);
    expect(cursorAt()).toEqual([100, 50]);
    card.flip();
    expect(cursorAt()).toEqual([120, 60]);
    card.flip();
    expect([card.isFlipping, listener.events]).toEqual([false, []]);

    const next = importPicture();
    output.present(frame(next));
    expect([card.planes, cursorAt()]).toEqual([
      [fbOf(next), arrow, 0],
      [120, 60],
    ]);
    output.pointAway();
    card.flip();
    expect(card.planes[1]).toBe(0);
    card.flip();
    // Of the guest's picture; the arrow is not the listener's.
    expect(listener.events).toEqual(['released', 'presented']);

    output.pointAt(1, 1);
    card.flip();
    output.present(frame(next, { cursor: { handle: importPicture(), src: SCREEN, dst: SCREEN } }));
    card.flip();
    output.present(frame(next));
    card.flip();
    output.pointAt(2, 2);
    expect([card.planes[1], card.isFlipping]).toEqual([0, false]);
  });

  test("shows a cursor in the upper left of a larger buffer if the driver's hints have none of its size", () => {
    const sizes = [128, 64].map((side) => ({ width: side, height: side }));
    Object.assign(card.pipe.cursor!, { sizeHints: sizes });
    openOutput('guest');
    enable();
    const shown = importPicture();
    attachAndShow(shown);
    const cursor = output.createShadow(32, 20, DRM_FORMAT.ARGB8888);
    const src = { x: 0, y: 0, width: 32, height: 20 };
    output.present(frame(shown, { cursor: { handle: cursor, src, dst: { ...src, x: 7 } }, hotspotX: 3, hotspotY: 2 }));
    card.flip();
    const state = { CRTC_X: 7, CRTC_Y: 0, CRTC_W: 64, CRTC_H: 64, SRC_W: 64 << 16, HOTSPOT_X: 3, HOTSPOT_Y: 2 };
    expect(card.shown.get(card.pipe.cursor!.id)).toMatchObject(state);
    expect(output.createShadow(128, 128, DRM_FORMAT.ARGB8888)).toMatchObject({ width: 128, isPadded: false });
    expect(output.createShadow(200, 20, DRM_FORMAT.ARGB8888)).toMatchObject({ width: 200, isPadded: false });
    cursor[Symbol.dispose]();
  });

  test('with cursor draw delays a frame of the guest that comes while the arrow moves by no more than that flip', () => {
    openOutput('draw');
    enable();
    const { listener } = attachAndShow(importPicture());
    output.pointAt(5, 5);
    const next = importPicture();
    output.present(frame(next));
    card.flip();
    expect([card.planes[0], cursorAt()]).toEqual([fbOf(next), [5, 5]]);
    card.flip();
    expect(listener.events).toEqual(['released', 'presented']);
  });

  test('with cursor draw leaves a picture on screen that the guest has destroyed', () => {
    openOutput('draw');
    enable();
    const shown = importPicture();
    const fb = fbOf(shown);
    attachAndShow(shown);
    shown[Symbol.dispose]();
    output.pointAt(5, 5);
    expect([card.planes[0], card.isFlipping]).toEqual([fb, false]);
  });

  test('asleep is off, keeps its monitor for the guest, ends frames by a timer, and shows the newest when it is enabled', () => {
    const { listener } = attachAndShow(importPicture());
    output.sleep();
    expect([card.planes, output.monitor?.width]).toEqual([[0, 0, 0], 640]);
    const newest = importPicture();
    output.present(frame(newest));
    vi.advanceTimersByTime(REFRESH_MS);
    expect(listener.events).toEqual(['released', 'hidden']);
    enable();
    output.announce();
    expect(card.planes[0]).toBe(fbOf(newest));
    expect(listener.events).toEqual(['released', 'hidden']);
  });
});
