import assert from 'node:assert';
import { writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KmsBuffer, ShadowMemory } from '../../../../display/kms/buffer.ts';
import { KmsOutput } from '../../../../display/kms/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import { type Frame, type Handle, PresentedFlags, type ScreenListener } from '../../../../src/core/output.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { GbmError } from '../../../../src/sys/lib/gbm.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { FakeCard } from './fake-card.ts';

vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);

const SCREEN = { x: 0, y: 0, width: 640, height: 480 };
const EINVAL = 22;
/** Longer than a refresh, and than an output waits for its driver. */
const REFRESH_MS = 20;
const PATIENCE_MS = 1100;

let card: FakeCard;
let shadows: ShadowMemory;
let output: KmsOutput;
let memfd: OwnedFd;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  card = new FakeCard();
  shadows = new ShadowMemory(card.device, () => new GbmError('device-refused', 'none here'));
  const planes = [card.pipe.primary, card.pipe.cursor!, card.pipe.overlay!];
  output = new KmsOutput(card.device, {
    connector: card.pipe.connector,
    planes,
    shadows,
    background: 0,
    log: () => undefined,
  });
  memfd = createMemfd('guest', 4096, 0);
});
afterEach(() => {
  for (const each of [output, shadows, card, memfd]) each[Symbol.dispose]();
  vi.useRealTimers();
});

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

  presented(_timeMs: number, _refreshMhz: number, _sequence: number, flags: number): void {
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

  /** Resolves when pollers have been called. */
  async signal(): Promise<void> {
    writeSync(this.#ends[1].fd, 'x');
    for (let turns = 0; turns < 3; turns++) await new Promise((resolve) => setImmediate(resolve));
  }

  [Symbol.dispose](): void {
    for (const end of this.#ends) end[Symbol.dispose]();
  }
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
    expect(card.planes[0]).toBe(fbOf(next));
    card.flip();
    expect([old.isHeld, next.isHeld, listener.events]).toEqual([false, true, ['presented']]);
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
