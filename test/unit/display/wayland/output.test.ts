import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { withFreeFds } from '../../sys/few-fds.ts';
import type { FakeObject } from './fake-server.ts';
import { frameOf, OutputRig, SIDE } from './output-rig.ts';
import { SinkLog } from './sink-log.ts';
import { eventually } from '../../../rig/eventually.ts';

expectNoLeaks();

let rig: OutputRig;
afterEach(() => {
  rig[Symbol.dispose]();
  vi.useRealTimers();
});

describe('WaylandOutput: a buffer that the compositor does not give back', () => {
  test('is taken back, and the late wl_buffer.release does not count for its next commit', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.host.committed.get(rig.host.picture)!.buffer!;
    await rig.show(b);
    expect(rig.heard.lines).not.toContain('released A');
    await vi.advanceTimersByTimeAsync(2000);
    expect(rig.heard.lines.at(-1)).toBe('released A');

    rig.present(a);
    // On its way while the client commits the buffer again.
    first.send('release');
    const second = await rig.committed();
    rig.host.repaint();
    await rig.settle();
    expect(rig.heard.lines.filter((line) => line === 'released A')).toHaveLength(1);

    await rig.show(b);
    second.send('release');
    await rig.settle();
    expect(rig.heard.lines.filter((line) => line === 'released A')).toHaveLength(2);
  });

  test('is committed with the same wl_buffer when the release came before', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.host.committed.get(rig.host.picture)!.buffer!;
    await rig.show(b);
    await vi.advanceTimersByTimeAsync(2000);
    first.send('release');
    await rig.settle();
    await rig.show(a);
    expect(await rig.committed()).toBe(first);
  });
});

test('WaylandOutput: the release a hidden window did not wait for does not count for the next commit', async () => {
  rig = await OutputRig.open();
  rig.host.releases = false;
  using a = rig.shadow('A');
  using b = rig.shadow('B');
  await rig.show(a);
  await rig.show(b);
  const buffer = await rig.committed();
  rig.host.isHidden = true;
  await rig.show(a);
  expect(rig.heard.lines.slice(-2)).toEqual(['released B', 'hidden']);
  await rig.show(b);
  rig.host.isHidden = false;
  rig.host.repaint();
  await rig.settle();
  expect(await rig.committed()).toBe(buffer);
  await rig.show(a);
  const before = rig.heard.lines.length;
  buffer.send('release');
  await rig.settle();
  expect(rig.heard.lines.slice(before)).toEqual([]);
  buffer.send('release');
  await rig.settle();
  expect(rig.heard.lines.slice(before)).toEqual(['released B']);
});

describe('WaylandOutput: in a process that was stopped, with the compositor’s events unread', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });

  /** As if the process were stopped for a second in which the compositor does this: all timers are due before the event loop reads. */
  async function stopped(compositor: () => void): Promise<void> {
    await setImmediate();
    compositor();
    vi.advanceTimersByTime(1000);
  }

  test('a buffer that was released is not taken back, and is committed again with the same wl_buffer', async () => {
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.shown!;
    await rig.show(b);
    const presented = new Promise<void>((resolve) => {
      rig.heard.released = () => {
        rig.present(a);
        resolve();
      };
    });
    await stopped(() => first.send('release'));
    await presented;
    expect(await rig.committed()).toBe(first);
  });

  test('a frame that was presented does not count as hidden', async () => {
    rig = await OutputRig.open();
    using a = rig.shadow('A');
    rig.present(a);
    await rig.committed();
    await stopped(() => rig.host.repaint());
    await rig.settle();
    expect(rig.heard.lines).toEqual(['presented']);
  });
});

describe('WaylandOutput: a handle', () => {
  test('is held from present until the compositor has released it', async () => {
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    expect(a.isHeld).toBe(false);
    rig.present(a);
    expect(a.isHeld).toBe(true);
    const buffer = await rig.committed();
    rig.host.repaint();
    await rig.settle();
    await rig.show(b);
    expect(a.isHeld).toBe(true);
    buffer.send('release');
    await rig.settle();
    expect(a.isHeld).toBe(false);
    expect(rig.heard.lines).toEqual(['presented', 'presented', 'released A']);
  });

  test('that no window can show is held until the next frame replaces it', async () => {
    rig = await OutputRig.open();
    rig.host[Symbol.dispose]();
    await eventually(() => expect(rig.output.isOpen).toBe(false));
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    let ended = rig.heard.frameEnded();
    rig.present(a);
    await ended;
    expect([a.isHeld, rig.heard.lines]).toEqual([true, ['hidden']]);
    ended = rig.heard.frameEnded();
    rig.present(b);
    await ended;
    expect([a.isHeld, b.isHeld, rig.heard.lines]).toEqual([false, true, ['hidden', 'released A', 'hidden']]);
  });

  test('that is disposed while it is held keeps its memory until the compositor has released it', async () => {
    rig = await OutputRig.open();
    rig.host.releases = false;
    const a = rig.shadow('A');
    a.pixels.bytes.fill(0x11);
    using b = rig.shadow('B');
    await rig.show(a);
    const buffer = rig.shown!;
    a[Symbol.dispose]();
    await rig.show(b);
    expect([a.isHeld, a.pixels.bytes[0]]).toEqual([true, 0x11]);
    buffer.send('release');
    await rig.settle();
    expect(a.isHeld).toBe(false);
    expect(() => a.pixels.bytes).toThrow();
    expect(buffer.isDestroyed).toBe(true);
  });

  test('that was disposed counts as none in a frame', async () => {
    rig = await OutputRig.open();
    using a = rig.shadow('A');
    await rig.show(a);
    const gone = rig.shadow('gone');
    gone[Symbol.dispose]();
    const ended = rig.heard.frameEnded();
    rig.present(gone);
    await ended;
    await rig.settle();
    expect(rig.shown).toBeNull();
    expect([gone.isHeld, a.isHeld]).toEqual([false, false]);
  });
});

test('WaylandOutput: shows frames at once, with one line in the log, when it has no descriptor to wait for their fences with', async () => {
  const log: string[] = [];
  rig = await OutputRig.open({}, { log: (_, message) => log.push(message) });
  using fence = EventFd.create();
  using a = rig.shadow('A');
  using b = rig.shadow('B');
  const buffers: FakeObject[] = [];
  await rig.show(a);
  await rig.show(b);
  for (const each of [a, b]) {
    const ended = rig.heard.frameEnded();
    withFreeFds(fence, 0, () => rig.present(each, fence));
    buffers.push(await rig.committed());
    rig.host.repaint();
    await ended;
  }
  expect(new Set(buffers).size).toBe(2);
  expect(rig.heard.lines.filter((line) => !line.startsWith('released'))).toEqual(Array(4).fill('presented'));
  expect(log).toEqual(['wayland:0: showing pictures without waiting for their fences: epoll_create1: EMFILE']);
});

describe('WaylandOutput: attach', () => {
  test('throws while another listener is attached', async () => {
    rig = await OutputRig.open();
    expect(() => rig.attach()).toThrow('wayland:0 is taken');
    rig.detach();
    rig.detach();
    rig.attach();
  });

  test('throws after the user has closed the window, and after dispose', async () => {
    rig = await OutputRig.open();
    rig.host.toplevel.send('close');
    await rig.host.server.next('xdg_toplevel.destroy');
    expect(rig.heard.lines).toEqual(['closed']);
    rig.detach();
    expect(() => rig.attach()).toThrow('wayland:0: its window was closed');
    rig.output[Symbol.dispose]();
    expect(() => rig.attach()).toThrow('wayland:0');
  });
});

test('WaylandOutput: nothing follows closed, with a frame in flight and another compositor', async () => {
  rig = await OutputRig.open();
  using a = rig.shadow('A');
  using b = rig.shadow('B');
  rig.present(a);
  await rig.committed();
  rig.host.toplevel.send('close');
  await rig.host.server.next('xdg_toplevel.destroy');
  expect(rig.heard.lines.at(-1)).toBe('closed');
  const before = rig.heard.lines.length;
  rig.present(b);
  rig.replaceHost();
  await eventually(() => rig.windows.roundtrip());
  expect(rig.heard.lines.slice(before)).toEqual([]);
});

test('WaylandOutput: present throws while nothing is attached', async () => {
  rig = await OutputRig.open();
  rig.detach();
  expect(() => rig.present(null)).toThrow('wayland:0: present while nothing is attached');
});

describe('WaylandOutput: detach', () => {
  test('takes the picture off the window, gives its buffers back and tells the listener nothing', async () => {
    rig = await OutputRig.open();
    using a = rig.shadow('A');
    await rig.show(a);
    const before = rig.heard.lines.length;
    rig.detach();
    await rig.settle();
    expect([rig.shown, a.isHeld]).toEqual([null, false]);
    expect(rig.heard.lines.slice(before)).toEqual([]);
    expect(rig.output.isOpen).toBe(true);
  });

  test.each([
    ['with wp_presentation', {}],
    ['without wp_presentation', { wp_presentation: 0 }],
  ])(
    'with a frame in flight lets the next listener present at once, and each hears only of its own frames, %s',
    async (_, globals) => {
      rig = await OutputRig.open({ globals });
      using a = rig.shadow('A');
      using b = rig.shadow('B');
      rig.present(a);
      await rig.committed();
      const first = rig.heard;
      rig.detach();
      const second = rig.attach();
      rig.present(b);
      expect(() => rig.present(b)).toThrow('in flight');
      await rig.committed();
      rig.host.repaint();
      await rig.settle();
      expect([first.lines, second.lines.at(-1), second.lines.filter((line) => line === 'presented').length]).toEqual([
        [],
        'presented',
        1,
      ]);
      expect([a.isHeld, b.isHeld]).toEqual([false, true]);
    },
  );

  test('ends a frame that waits for its fence, and its buffer is not held any more', async () => {
    rig = await OutputRig.open();
    using fence = EventFd.create();
    using a = rig.shadow('A');
    rig.present(a, fence);
    expect(a.isHeld).toBe(true);
    rig.detach();
    expect(a.isHeld).toBe(false);
    fence.signal();
    await rig.settle();
    expect([rig.shown, rig.heard.lines]).toEqual([null, []]);
  });

  test('with keepLast leaves the last frame, whose buffer lives until the next listener’s first frame', async () => {
    rig = await OutputRig.open({}, { keepLast: true });
    const a = rig.shadow('A');
    a.pixels.bytes.fill(0x22);
    await rig.show(a);
    // As compositors that have copied it do.
    rig.shown!.send('release');
    await rig.settle();
    rig.detach();
    a[Symbol.dispose]();
    await rig.settle();
    expect(rig.host.pixels(rig.shown!)[0]).toBe(0x22222222);
    expect(a.isHeld).toBe(true);

    await rig.restartHost();
    expect(rig.host.pixels(rig.shown!)[0]).toBe(0x22222222);

    rig.attach();
    await rig.settle();
    expect(rig.host.pixels(rig.shown!)[0]).toBe(0x22222222);
    using b = rig.shadow('B');
    await rig.show(b);
    await rig.settle();
    expect(a.isHeld).toBe(false);
    expect(() => a.pixels.bytes).toThrow();
  });

  test('with keepLast still commits a frame that waits for its fence', async () => {
    rig = await OutputRig.open({}, { keepLast: true });
    using fence = EventFd.create();
    const a = rig.shadow('A');
    a.pixels.bytes.fill(0x33);
    rig.present(a, fence);
    rig.detach();
    a[Symbol.dispose]();
    await rig.settle();
    expect(rig.shown).toBeNull();
    const commit = rig.host.server.next('wl_surface.attach');
    fence.signal();
    await commit;
    await rig.settle();
    expect(rig.host.pixels(rig.shown!)[0]).toBe(0x33333333);
    expect(rig.heard.lines).toEqual([]);
  });

  test('from inside presented and released tells neither listener anything more of that frame', async () => {
    rig = await OutputRig.open();
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.heard;
    rig.host.isHidden = true;
    rig.host.releases = false;
    const ended = new Promise<void>((resolve) => {
      const { released } = first;
      first.released = (handle) => {
        released(handle);
        rig.detach();
        rig.attach();
        resolve();
      };
    });
    rig.present(b);
    await ended;
    await rig.settle();
    expect([first.lines, rig.heard.lines]).toEqual([['presented', 'released A'], []]);
    const next = rig.heard.frameEnded();
    rig.present(a);
    await next;
  });

  test('disposes the output from inside an event', async () => {
    rig = await OutputRig.open();
    using a = rig.shadow('A');
    const { presented } = rig.heard;
    rig.heard.presented = (presentation) => {
      presented(presentation);
      rig.output[Symbol.dispose]();
    };
    await rig.show(a);
    expect([rig.output.isOpen, a.isHeld]).toEqual([false, false]);
  });
});

describe('WaylandOutput: input', () => {
  const KEY_A = 30;
  const LEFT = 0x110;
  const seat = {
    globals: { wl_seat: 9 },
    onBind: (object: FakeObject) => {
      if (object.interface.name === 'wl_seat') object.send('capabilities', 3);
    },
  };
  const base = (): FakeObject => rig.host.last('wl_subcompositor.get_subsurface')!['parent'] as FakeObject;
  const keyboard = (): FakeObject => rig.host.bound('wl_keyboard');
  const pointer = (): FakeObject => rig.host.bound('wl_pointer');

  test('held down at a window is released when its listener detaches', async () => {
    const sink = new SinkLog();
    rig = await OutputRig.open(seat, { input: sink });
    keyboard().send('enter', 1, base(), new Uint8Array());
    keyboard().send('key', 2, 0, KEY_A, 1);
    pointer().send('enter', 3, base(), 1, 1);
    pointer().send('button', 4, 0, LEFT, 1);
    pointer().send('frame');
    await rig.settle();
    sink.lines.length = 0;
    rig.detach();
    expect(sink.lines).toEqual([`key ${KEY_A} up`, 'frame', `button ${LEFT} up`, 'frame']);
    keyboard().send('key', 5, 0, KEY_A, 0);
    await rig.settle();
    expect(sink.lines).toHaveLength(4);
  });

  test('goes to the next listener at once, where pointer and keyboard are in the window already', async () => {
    rig = await OutputRig.open(seat, { input: new SinkLog() });
    using a = rig.shadow('A');
    await rig.show(a);
    keyboard().send('enter', 1, base(), new Uint8Array(new Uint32Array([29]).buffer));
    pointer().send('enter', 3, base(), 7, 8);
    pointer().send('frame');
    await rig.settle();
    rig.detach();
    const sink = new SinkLog();
    rig.attach({ input: sink });
    expect(sink.lines).toEqual(['to 0 7 8', 'frame', 'key 29 down', 'frame']);
    keyboard().send('key', 2, 0, KEY_A, 1);
    pointer().send('motion', 0, 9, 10);
    pointer().send('frame');
    await rig.settle();
    expect(sink.lines.slice(4)).toEqual([`key ${KEY_A} down`, 'frame', 'to 0 9 10', 'frame']);
  });

  test('of a detached window is not announced by its title', async () => {
    const title = (): unknown => rig.host.last('xdg_toplevel.set_title')?.['title'];
    rig = await OutputRig.open(
      { ...seat, globals: { ...seat.globals, zwp_keyboard_shortcuts_inhibit_manager_v1: 1 } },
      { input: new SinkLog(), title: 'a guest' },
    );
    expect(title()).toBe('a guest — Ctrl+Alt+G to grab');
    rig.detach();
    await rig.settle();
    expect(title()).toBe('a guest');
  });
});

test('WaylandOutput: a frame with a cursor holds its image until another replaces it, and detaching gives it back', async () => {
  rig = await OutputRig.open();
  const cursor = rig.output.createShadow(SIDE, SIDE, DRM_FORMAT.ARGB8888);
  rig.names.set(cursor, 'the cursor');
  using a = rig.shadow('A');
  rig.output.present({ ...frameOf(a), cursor: { ...frameOf(cursor).primary }, isCursorNew: true });
  expect(cursor.isHeld).toBe(true);
  await rig.committed();
  rig.host.repaint();
  await rig.settle();
  expect(cursor.isHeld).toBe(true);
  rig.detach();
  await rig.settle();
  expect([cursor.isHeld, rig.heard.lines]).toEqual([false, ['presented']]);
  cursor[Symbol.dispose]();
});
