/** Failures between a guest's windows and their compositor, one at a time. */
import { describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { eventually } from '../../../rig/eventually.ts';
import { mappingCount, openFds } from '../../../rig/process-resources.ts';
import { fewFds } from '../../sys/few-fds.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { accept, dmabufHost, sendFeedback } from './dmabuf-host.ts';
import type { FakeObject } from './fake-server.ts';
import {
  bridge,
  guest,
  HEIGHT,
  host,
  listen,
  log,
  nextPicture,
  open,
  output,
  picture,
  settle,
  useWindows,
  WIDTH,
  showPicture,
} from './window-rig.ts';

// Memfds stand in for dma-bufs.
vi.mock('../../../../src/sys/dma-buf.ts', async (original) => ({
  ...(await original<object>()),
  readDmabuf: (_: unknown, read: () => unknown) => read(),
}));

expectNoLeaks();
useWindows();

const LINEAR = dmabufHost({ version: 5 });

type Shown = ReturnType<typeof picture>;

async function openDmabuf(): Promise<void> {
  await open(LINEAR);
  await settle();
}

async function show(framebuffer = picture().framebuffer): Promise<void> {
  await showPicture(framebuffer);
}

function filled(colour: number): Shown {
  const made = picture();
  made.fill(0, 0, WIDTH, HEIGHT, colour);
  return made;
}

const primary = () => bridge.stats[0]!.screens[0]!.primary;
const firstPixel = (): number => host.pixels(host.committed.get(host.picture)!.buffer!)[0]!;
const alive = (name: string): number =>
  [...host.server.client.objects.values()].filter((object) => object.interface.name === name).length;
const surfaceFeedback = (): FakeObject =>
  host.server.requests.findLast(({ name }) => name === 'zwp_linux_dmabuf_v1.get_surface_feedback')!.args
    .id as FakeObject;

/** Resolves with the next line of the log that contains `text`. */
function logged(text: string): Promise<string> {
  return new Promise((resolve) => {
    const push = log.push.bind(log);
    log.push = (...lines) => {
      const found = lines.find((line) => line.includes(text));
      if (found !== undefined) resolve(found);
      return push(...lines);
    };
  });
}

/** Flips between pictures as fast as the flushes are done; `stop` returns how often. */
function flipping(framebuffers: readonly Shown['framebuffer'][]): { stop(): Promise<number> } {
  const end = new AbortController();
  const flips = (async () => {
    let count = 0;
    for (; !end.signal.aborted; count++) {
      guest.show(framebuffers[count % framebuffers.length]!);
      await guest.flush(0, 0, WIDTH, HEIGHT);
    }
    return count;
  })();
  return {
    stop() {
      end.abort();
      return flips;
    },
  };
}

describe('WaylandOutput: an import', () => {
  test('is made again by the next compositor if the first exits before it answers, and does not block the guest', async () => {
    await openDmabuf();
    const shown = picture().asReadableDmabuf;
    guest.show(shown);
    const asked = host.server.next('zwp_linux_buffer_params_v1.create');
    const done = guest.flush(0, 0, WIDTH, HEIGHT);
    await asked;
    host[Symbol.dispose]();
    await done;
    listen(LINEAR);
    accept(host);
    await nextPicture();
    expect(primary()).toMatchObject({ rung: 'dmabuf', copiedBytes: 0 });
  });

  test('without an answer does not block the guest, and is shown once the answer comes', async () => {
    await openDmabuf();
    accept(host);
    await show(picture().asReadableDmabuf);
    let answer = (): void => undefined;
    host.server.on(
      'zwp_linux_buffer_params_v1.create',
      ({ client, object }) => (answer = () => object.send('created', client.newObject('wl_buffer', 1))),
    );
    const [b, c] = [picture().asReadableDmabuf, picture().asReadableDmabuf];
    for (const each of [b, c, b, c]) {
      guest.show(each);
      await guest.flush(0, 0, WIDTH, HEIGHT);
    }
    const commit = nextPicture();
    answer();
    await commit;
    expect(primary()).toMatchObject({ rung: 'dmabuf' });
  });

  test('that fails is not tried again on this compositor, but on the next one, and others are', async () => {
    await openDmabuf();
    host.server.on('zwp_linux_buffer_params_v1.create', ({ object }) => object.send('failed'));
    const [a, b] = [picture().asReadableDmabuf, picture().asReadableDmabuf];
    guest.show(a);
    const commit = nextPicture();
    await guest.flush(0, 0, WIDTH, HEIGHT);
    await commit;
    host.repaint();
    accept(host);
    for (const each of [b, a]) await show(each);
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(2);
    expect(primary()).toMatchObject({ rung: 'shadow' });

    host[Symbol.dispose]();
    listen(LINEAR);
    accept(host);
    await nextPicture();
    expect(primary()).toMatchObject({ rung: 'dmabuf' });
  });

  test('that ends the connection is not made again: the windows copy that picture and share others', async () => {
    await openDmabuf();
    host.server.on('zwp_linux_buffer_params_v1.create', ({ client, object }) =>
      client.refuse(object, 4, 'not that one'),
    );
    guest.show(picture().asReadableDmabuf);
    const back = host.server.next('xdg_surface.get_toplevel');
    await guest.flush(0, 0, WIDTH, HEIGHT);
    await back;
    accept(host);
    await nextPicture();
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(1);
    expect(primary()).toMatchObject({ rung: 'shadow' });
    host.repaint();
    await show(picture().asReadableDmabuf);
    expect(primary()).toMatchObject({ rung: 'dmabuf' });
    expect(log).toContainEqual(
      expect.stringMatching(
        /over zwp_linux_buffer_params_v1#\d+: error invalid_format: not that one \(the last request to it was create\)$/,
      ),
    );
  });

  test('is not tried while the compositor does not offer the format, and is made as soon as it does', async () => {
    await openDmabuf();
    accept(host);
    await show(picture().asReadableDmabuf);
    sendFeedback(surfaceFeedback(), [[[DRM_FORMAT.RGB565, DRM_FORMAT_MOD_LINEAR]]]);
    await nextPicture();
    expect(primary()).toMatchObject({ rung: 'shadow' });
    host.repaint();
    sendFeedback(surfaceFeedback(), [[[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]]);
    await host.server.next('zwp_linux_buffer_params_v1.create');
    expect(primary()).toMatchObject({ rung: 'dmabuf' });
  });
});

test('WaylandWindows: a protocol error is logged with object, error and request, and the windows open again', async () => {
  await open();
  await show(filled(0x00336699).framebuffer);
  const back = host.server.next('xdg_surface.get_toplevel');
  host.server.client.refuse(host.toplevel, 2, 'told to');
  await back;
  await nextPicture();
  expect(firstPixel()).toBe(0x00336699);
  expect(log).toContainEqual(
    expect.stringMatching(
      /^lost the compositor, the guest keeps running: .* over xdg_toplevel#\d+: error invalid_size: told to \(the last request to it was set_min_size\)$/,
    ),
  );
});

describe('WaylandWindows: on the first version of every global', () => {
  const names = [
    'wl_compositor',
    'wl_subcompositor',
    'wl_shm',
    'wl_output',
    'wl_seat',
    'xdg_wm_base',
    'wp_viewporter',
    'wp_presentation',
    'wp_fractional_scale_manager_v1',
  ];
  const more = [
    'zxdg_decoration_manager_v1',
    'wp_tearing_control_manager_v1',
    'zwp_pointer_constraints_v1',
    'zwp_relative_pointer_manager_v1',
    'zwp_keyboard_shortcuts_inhibit_manager_v1',
  ];
  const globals = Object.fromEntries([...names, ...more].map((name) => [name, 1]));

  test.each(['wl_shm', 'zwp_linux_dmabuf_v1'])(
    'shows the guest by %s, also after the compositor was restarted',
    async (way) => {
      const dmabuf = dmabufHost({ version: 1 });
      const isDmabuf = way === 'zwp_linux_dmabuf_v1';
      const options = isDmabuf ? { ...dmabuf, globals: { ...globals, ...dmabuf.globals } } : { globals };
      await open(options);
      accept(host);
      const shown = filled(0x00a0b0c0);
      await show(isDmabuf ? shown.asReadableDmabuf : shown.framebuffer);
      host.configure(500, 400);
      await settle();
      expect(primary()).toMatchObject({ rung: isDmabuf ? 'dmabuf' : 'shadow' });
      host[Symbol.dispose]();
      listen(options);
      accept(host);
      await nextPicture();
    },
  );
});

test('WaylandOutput: without linux-dmabuf copies pictures in guest pages and in dma-bufs', async () => {
  await open();
  await show(filled(0x00123456).framebuffer);
  expect([firstPixel(), primary()]).toEqual([0x00123456, expect.objectContaining({ rung: 'shadow', imports: 0 })]);
  await show(picture().asReadableDmabuf);
  expect(primary()).toMatchObject({ rung: 'shadow', imports: 0 });
});

test.each([
  ['with viewports', {}],
  ['without viewports', { wp_viewporter: 0 }],
  ['with a title bar', { zxdg_decoration_manager_v1: 0 }],
])(
  'WaylandOutput: 500 sizes, some followed by the guest, leave no memory, descriptors or objects behind %s',
  { timeout: 180_000 },
  async (_, globals) => {
    await open({ globals });
    await show();
    host.configure(640, 480);
    await settle();
    const resources = () => ({
      mappings: mappingCount(/scanout-window/),
      // The fake compositor keeps the descriptors it was sent.
      fds:
        [...openFds().values()].filter((target) => target.includes('scanout-window')).length -
        host.count('wl_shm.create_pool'),
      objects: host.server.client.objects.size,
    });
    // A frame that is on its way has a callback and a feedback.
    const atRest = async () => {
      for (let i = 0; i < 3; i++) {
        host.repaint();
        await settle();
      }
      return resources();
    };
    const before = await atRest();
    for (let i = 1; i <= 500; i++) {
      host.configure(64 + i, 64 + i);
      if (i % 10 === 0) await show(picture(64 + i, 64 + i).framebuffer);
      else await settle();
    }
    await settle();
    await show();
    host.configure(640, 480);
    await eventually(async () => expect(await atRest()).toEqual(before));
  },
);

describe('WaylandOutput: for a minute', () => {
  const minute = (): Promise<unknown> => vi.advanceTimersByTimeAsync(60_000);

  test.each([
    ['copied', (made: Shown) => made.framebuffer],
    ['shared', (made: Shown) => made.asReadableDmabuf],
  ])(
    'in a hidden window without releases, a guest whose pages are %s flips ten times a second, and nothing is committed',
    { timeout: 180_000 },
    async (_, backing) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
      await openDmabuf();
      accept(host);
      const pictures = [picture(), picture()].map(backing);
      for (const each of pictures) await show(each);
      host.isHidden = true;
      host.releases = false;
      const commits = host.count('wl_surface.commit');
      const guestFlips = flipping(pictures);
      await minute();
      const stopped = guestFlips.stop();
      await vi.advanceTimersByTimeAsync(1000);
      const flips = await stopped;
      // The first frame waits 250 ms for a compositor that may only be slow.
      expect(flips).toBeGreaterThan(10 * 60 - 5);
      expect(flips).toBeLessThanOrEqual(10 * 60 + 2);
      // That frame, and the question when the window is seen again.
      expect(host.count('wl_surface.commit') - commits).toBeLessThanOrEqual(2);
    },
  );

  test.each([
    ['copied', (made: Shown) => made.framebuffer, 3],
    ['shared', (made: Shown) => made.asReadableDmabuf, 2],
  ])(
    'on a compositor that releases no buffer, a guest whose pages are %s keeps flipping with the same number of buffers',
    { timeout: 180_000 },
    async (_, backing, buffers) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
      await openDmabuf();
      accept(host);
      const pictures = [picture(), picture()].map(backing);
      host.releases = false;
      const painting = new AbortController();
      const repaint = (): void => {
        if (painting.signal.aborted) return;
        host.repaint();
        setTimeout(repaint, 16);
      };
      repaint();
      const guestFlips = flipping(pictures);
      await minute();
      const stopped = guestFlips.stop();
      await vi.advanceTimersByTimeAsync(2000);
      const flips = await stopped;
      painting.abort();
      expect(flips).toBeGreaterThan(50);
      // One more is the backdrop's.
      expect(alive('wl_buffer')).toBeLessThanOrEqual(buffers + 1);
    },
  );
});

describe('WaylandWindows: without a free file descriptor', () => {
  test('for what the compositor sends, the windows open again once there are some', async () => {
    await openDmabuf();
    accept(host);
    await show(picture().asReadableDmabuf);
    using table = createMemfd('table', 16);
    const logLine = logged('lost the compositor');
    {
      using _ = fewFds(table, 0);
      surfaceFeedback().send('format_table', table, 16);
      expect(await logLine).toMatch(/RLIMIT_NOFILE/);
      for (let i = 0; i < 3; i++) await guest.flush(0, 0, WIDTH, HEIGHT);
    }
    await nextPicture();
    expect(log.at(-1)).toBe('connected to a compositor again');
  });

  test('for a copy, the picture stays, the reason is logged, and the next flush shows it', async () => {
    await open();
    using any = createMemfd('any', 1);
    const shown = filled(0x00446688);
    {
      using _ = fewFds(any, 0);
      guest.show(shown.framebuffer);
      await guest.flush(0, 0, WIDTH, HEIGHT);
    }
    expect(log).toContainEqual(expect.stringMatching(/no memory for a shadow .*memfd_create: EMFILE/));
    await show(shown.framebuffer);
    expect(firstPixel()).toBe(0x00446688);
  });

  test.each([
    ['a copy', (made: Shown) => made.framebuffer, 'shadow'],
    ['a dma-buf', (made: Shown) => made.asReadableDmabuf, 'dmabuf'],
  ])('to send %s with, the windows open again', async (_, backing, rung) => {
    await openDmabuf();
    accept(host);
    using any = createMemfd('any', 1);
    const shown = backing(picture());
    const back = host.server.next('xdg_surface.get_toplevel');
    {
      using _one = fewFds(any, 1);
      guest.show(shown);
      void guest.flush(0, 0, WIDTH, HEIGHT);
    }
    await back;
    accept(host);
    await nextPicture();
    expect(primary()).toMatchObject({ rung });
    expect(log).toContainEqual(
      expect.stringMatching(/^lost the compositor, the guest keeps running: cannot keep the windows open: .*EMFILE/),
    );
  });

  test('for a handle, the dma-buf is copied, and imported by a later flip', async () => {
    await openDmabuf();
    accept(host);
    await show(picture().asReadableDmabuf);
    using any = createMemfd('any', 1);
    const [a, b] = [picture().asReadableDmabuf, picture().asReadableDmabuf];
    {
      using _ = fewFds(any, 0);
      guest.show(a);
      void guest.flush(0, 0, WIDTH, HEIGHT);
    }
    expect(primary()).toMatchObject({ rung: 'shadow' });
    // It is not tried again with every flip.
    do for (const flipped of [b, a]) await show(flipped);
    while (primary().rung === 'shadow');
    expect(primary()).toMatchObject({ rung: 'dmabuf', imports: 3 });
  });

  test('for a window, it opens as soon as there are some', async () => {
    await open();
    await show();
    using any = createMemfd('any', 1);
    host.configure(0, 0);
    bridge.hide(output);
    const back = host.server.next('xdg_surface.get_toplevel');
    host.server.client[Symbol.dispose]();
    await back;
    const failed = logged('cannot keep the windows open');
    // The first configure is on its way; the backdrop's buffer is made when it arrives.
    using few = fewFds(any, 0);
    expect(await failed).toMatch(/memfd_create: EMFILE/);
    few[Symbol.dispose]();
    await host.server.next('wl_subsurface.set_desync');
  });
});
