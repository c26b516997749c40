import { describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import type { Output } from '../../../../src/core/output.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { words } from './fake-vmm.ts';
import {
  type Box,
  type Cursor,
  frame,
  guest,
  importOf,
  Listener,
  ONE_SECOND,
  open,
  scanout,
  show,
  update,
  useVmm,
  vmm,
} from './session.ts';

expectNoLeaks();
useVmm();

const WHOLE: Box = [0, 0, 100, 80];
const DMABUF2 = 0b10;
const DMABUF_OFF = words(9, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
const UPDATED = words(10, 4, 0);

/** Presents a dma-buf; resolves when the VMM has said that it showed it. */
async function showDmabuf(output: Output, listener: Listener, shown: ReturnType<typeof frame>): Promise<void> {
  show(output, shown);
  vmm.takeFd()?.[Symbol.dispose]();
  const presented = listener.next();
  vmm.reply(UPDATED);
  await presented;
}

describe('VmmOutput: detaching its listener', () => {
  test('turns the console off and hides the cursor, and tells the listener nothing', async () => {
    const output = (await open()).outputs[0]!;
    const listener = new Listener(output);
    const cursor: Cursor = { handle: importOf(output, guest(8, 8, DRM_FORMAT.ARGB8888).framebuffer), at: [2, 3, 8, 8] };
    const handle = importOf(output, guest(20, 10).framebuffer);
    show(output, frame(handle, [0, 0, 20, 10], [], cursor));
    output.present(frame(handle, [0, 0, 20, 10], [], cursor));
    const before = listener.events.length;
    listener.attachment[Symbol.dispose]();
    vi.advanceTimersByTime(ONE_SECOND);
    expect(vmm.takeNow()).toEqual(Buffer.concat([words(5, 0, 12, 0, 2, 3), scanout(0, 0, 0)]));
    expect([listener.events.length, handle.isHeld, cursor.handle.isHeld]).toEqual([before, false, false]);
  });

  test('with keepLast leaves the console as it is', async () => {
    const output = (await open()).outputs[0]!;
    const listener = new Listener(output, { keepLast: true });
    const picture = guest(20, 10);
    const handle = importOf(output, picture.framebuffer);
    show(output, frame(handle, [0, 0, 20, 10]));
    listener.attachment[Symbol.dispose]();
    vi.advanceTimersByTime(ONE_SECOND);
    expect(vmm.takeNow()).toEqual(Buffer.alloc(0));
    const next = new Listener(output);
    expect(show(output, frame(handle, [0, 0, 20, 10]))).toEqual(update(0, [0, 0, 20, 10], picture.read()));
    expect(next.events).toEqual(['released 0', 'presented']);
  });

  test('takes a dma-buf away, and holds it until that is sent and a refresh has passed', async () => {
    const output = (await open({ dmabuf: true })).outputs[0]!;
    const handle = importOf(output, guest(100, 80).asDmabuf);
    const listener = new Listener(output);
    await showDmabuf(output, listener, frame(handle, WHOLE));
    listener.attachment[Symbol.dispose]();
    const next = new Listener(output);
    expect(handle.isHeld).toBe(true);
    vi.advanceTimersByTime(ONE_SECOND);
    expect(handle.isHeld).toBe(false);
    expect(vmm.takeNow()).toEqual(Buffer.concat([DMABUF_OFF, scanout(0, 0, 0)]));
    expect([listener.events, next.events]).toEqual([['presented'], []]);
  });

  test('with keepLast holds a dma-buf, although it is disposed, until the next listener has replaced it', async () => {
    const output = (await open({ dmabuf: true }, DMABUF2)).outputs[0]!;
    const [first, second] = [importOf(output, guest(100, 80).asDmabuf), importOf(output, guest(100, 80).asDmabuf)];
    const listener = new Listener(output, { keepLast: true });
    await showDmabuf(output, listener, frame(first, WHOLE));
    listener.attachment[Symbol.dispose]();
    first[Symbol.dispose]();
    vi.advanceTimersByTime(ONE_SECOND);
    expect(first.isHeld).toBe(true);
    const next = new Listener(output);
    await showDmabuf(output, next, frame(second, WHOLE));
    expect([first.isHeld, second.isHeld]).toEqual([false, true]);
    expect(next.events).toEqual(['presented']);
  });
});

describe('VmmOutput: attaching the next listener', () => {
  test('is refused while one is attached', async () => {
    const output = (await open()).outputs[0]!;
    const listener = new Listener(output);
    expect(() => new Listener(output)).toThrow('is taken');
    listener.attachment[Symbol.dispose]();
    expect(() => output.present(frame(null, [0, 0, 0, 0]))).toThrow('nothing is attached');
  });

  test('takes its first frame while an old one waits for a VMM that does not read', async () => {
    const output = (await open()).outputs[0]!;
    const [large, small] = [guest(1280, 800), guest(20, 10)];
    const listener = new Listener(output);
    output.present(frame(importOf(output, large.framebuffer), [0, 0, 1280, 800]));
    vi.advanceTimersByTime(ONE_SECOND);
    listener.attachment[Symbol.dispose]();
    const next = new Listener(output);
    const presented = next.next();
    output.present(frame(importOf(output, small.framebuffer), [0, 0, 20, 10]));
    vi.advanceTimersByTime(ONE_SECOND);
    expect(next.events).toEqual([]);
    const expected = Buffer.concat([
      ...[scanout(0, 1280, 800), update(0, [0, 0, 1280, 800], large.read()), scanout(0, 0, 0)],
      ...[scanout(0, 20, 10), update(0, [0, 0, 20, 10], small.read())],
    ]);
    const bytes = await vmm.take(expected.length);
    await presented;
    expect(bytes.equals(expected)).toBe(true);
    expect([listener.events, next.events]).toEqual([[], ['released 1', 'presented']]);
  });

  test('keeps a dma-buf held that it shows again', async () => {
    const output = (await open({ dmabuf: true }, DMABUF2)).outputs[0]!;
    const handle = importOf(output, guest(100, 80).asDmabuf);
    const listener = new Listener(output);
    await showDmabuf(output, listener, frame(handle, WHOLE));
    listener.attachment[Symbol.dispose]();
    const next = new Listener(output);
    await showDmabuf(output, next, frame(handle, WHOLE));
    expect([handle.isHeld, next.events]).toEqual([true, ['presented']]);
  });
});

describe('VmmOutput: presenting', () => {
  test('holds a buffer until the frame is shown', async () => {
    const output = (await open()).outputs[0]!;
    new Listener(output);
    const handle = importOf(output, guest(20, 10).framebuffer);
    expect(handle.isHeld).toBe(false);
    output.present(frame(handle, [0, 0, 20, 10]));
    expect(handle.isHeld).toBe(true);
    vi.advanceTimersByTime(ONE_SECOND);
    expect(handle.isHeld).toBe(false);
  });

  test.each([
    ['pages', (output: Output) => importOf(output, guest(100, 80).framebuffer)],
    ['a dma-buf', (output: Output) => importOf(output, guest(100, 80).asDmabuf)],
    ['a shadow', (output: Output) => output.createShadow(100, 80, DRM_FORMAT.XRGB8888)],
  ])('turns the console off for a handle of %s that was disposed', async (_, make) => {
    const output = (await open({ dmabuf: true }, DMABUF2)).outputs[0]!;
    show(output, frame(importOf(output, guest(20, 10).framebuffer), [0, 0, 20, 10]));
    const handle = make(output);
    handle[Symbol.dispose]();
    expect(show(output, frame(handle, WHOLE))).toEqual(scanout(0, 0, 0));
    expect(handle.isHeld).toBe(false);
  });
});
