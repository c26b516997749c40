import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { type Frame, type Handle, type Presentation, PresentedFlags } from '../../src/core/output.ts';
import { type Flush } from '../../src/core/source.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { Vgem } from '../rig/vgem.ts';
import { withFreeFds } from '../unit/sys/few-fds.ts';
import { accept, dmabufHost } from '../unit/display/wayland/dmabuf-host.ts';
import type { FakeHostOptions } from '../unit/display/wayland/fake-host.ts';
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
} from '../unit/display/wayland/window-rig.ts';
import { expectNothingLeft, skipWithoutUdmabuf } from './machine.ts';
import { commitsOf, deviceNumber, type SyncedCommit, syncNodes, TimelineReader } from './sync-host.ts';

const isSkipped = skipWithoutUdmabuf();
const DISPLAY_ONLY = '/dev/dri/card0';

let nodes: ReturnType<typeof syncNodes>;
let timelines: TimelineReader;
let gpu: Vgem;

/** A compositor with explicit synchronisation whose main device has this node. */
function syncHost(node: string): FakeHostOptions {
  const options = dmabufHost({ version: 5, mainDevice: deviceNumber(node) });
  return { ...options, globals: { ...options.globals, wp_linux_drm_syncobj_manager_v1: 1 } };
}

async function openSynced(node = nodes.render): Promise<void> {
  await open(syncHost(node));
  accept(host);
  await settle();
}

/** The commits of the newest window's picture, checked; adds their timelines to `timelines`. */
function commits(): SyncedCommit[] {
  timelines.take(host.server.requests);
  return commitsOf(host.picture, host.server.requests);
}

/** The newest commit. */
function last(): SyncedCommit {
  return commits().at(-1)!;
}

/** Shows a picture; resolves when the compositor has drawn it. `isDone`: the flush is done. */
async function present(
  framebuffer: Framebuffer,
  fence: Pick<Flush, 'acquire'> = {},
): Promise<{ done: Promise<void>; isDone: () => boolean }> {
  const commit = nextPicture();
  const flushed = begin(framebuffer, fence);
  await commit;
  host.repaint();
  await settle();
  return flushed;
}

function begin(
  framebuffer: Framebuffer,
  fence: Pick<Flush, 'acquire'>,
): { done: Promise<void>; isDone: () => boolean } {
  const damage = new Damage();
  damage.add(0, 0, WIDTH, HEIGHT);
  let isDone = false;
  guest.show(framebuffer);
  const done = new Promise<void>((resolve) =>
    guest.sink.flush(0, damage, {
      isFenced: true,
      ...fence,
      done() {
        isDone = true;
        resolve();
      },
    }),
  );
  return { done, isDone: () => isDone };
}

/** Takes the place of the bridge and records the output's events. */
class Screen {
  readonly heard: string[] = [];
  readonly #waiting = new Map<string, () => void>();

  constructor() {
    bridge.hide(output);
    const nothing = () => undefined;
    const presented = ({ flags }: Presentation) => this.#hear(flags & PresentedFlags.HIDDEN ? 'hidden' : 'shown');
    output.attach({
      scanout: 0,
      input: null,
      presented,
      released: () => this.#hear('released'),
      resized: nothing,
      closed: nothing,
      importsChanged: nothing,
    });
  }

  import(): Handle {
    return output.import(picture().asDmabuf) as Handle;
  }

  frame(handle: Handle, acquire: BorrowedFd | null = null): Frame {
    const rect = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
    return {
      canvas: rect,
      primary: { handle, src: rect, dst: rect },
      cursor: { handle: null, src: rect, dst: rect },
      hotspotX: 0,
      hotspotY: 0,
      isCursorNew: false,
      damage: new Damage(),
      acquire,
      release: null,
    };
  }

  async show(handle: Handle): Promise<void> {
    const commit = nextPicture();
    const ended = Promise.race([this.next('shown'), this.next('hidden')]);
    output.present(this.frame(handle));
    await commit;
    host.repaint();
    await ended;
  }

  next(what: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.set(what, resolve));
  }

  #hear(what: string): void {
    this.heard.push(what);
    this.#waiting.get(what)?.();
  }
}

describe.skipIf(isSkipped)('WaylandOutput: explicit synchronisation', () => {
  beforeAll(() => {
    gpu = new Vgem();
    nodes = syncNodes();
  });
  afterAll(() => gpu[Symbol.dispose]());
  expectNothingLeft();
  useWindows();
  beforeEach(() => {
    timelines = new TimelineReader(nodes.render);
  });
  afterEach(() => timelines[Symbol.dispose]());

  test.each(['card', 'render'] as const)(
    'sets a signalled acquire point and a release point, with the %s node as main device',
    async (node) => {
      await openSynced(nodes[node]);
      await present(picture().asDmabuf);
      const { acquire, release } = last();
      expect(host.server.requestNames.filter((name) => name.startsWith('wp_linux_drm_syncobj'))).toEqual([
        'wp_linux_drm_syncobj_manager_v1.import_timeline',
        'wp_linux_drm_syncobj_manager_v1.import_timeline',
        'wp_linux_drm_syncobj_manager_v1.get_surface',
        'wp_linux_drm_syncobj_surface_v1.set_acquire_point',
        'wp_linux_drm_syncobj_surface_v1.set_release_point',
      ]);
      expect([acquire, release]).toMatchObject([{ point: 1 }, { point: 1 }]);
      expect([timelines.hasSignalled(acquire!), timelines.hasSignalled(release!)]).toEqual([true, false]);
      expect(output.takesFences).toBe(true);
    },
  );

  test('releases a buffer when its point signals, regardless of wl_buffer.release', async () => {
    await openSynced();
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    await (
      await present(a)
    ).done;
    const first = last();
    // The compositor sends wl_buffer.release for what this replaces.
    const { done, isDone } = await present(b);
    expect([first.buffer.isDestroyed, isDone()]).toEqual([false, false]);
    timelines.signal(first.release!);
    await done;
  });

  test('imports nothing for flips, and counts the points of each buffer', async () => {
    await openSynced();
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    for (const each of [a, b, a, b, a]) {
      const before = commits().at(-1);
      const { done } = await present(each);
      if (before) timelines.signal(before.release!);
      await done;
    }
    expect(commits().map(({ release }) => release!.point)).toEqual([1, 1, 2, 2, 3]);
    expect(new Set(commits().map(({ acquire }) => acquire!.timeline)).size).toBe(1);
    expect(host.count('wp_linux_drm_syncobj_manager_v1.import_timeline')).toBe(3);
    expect(host.count('wp_linux_drm_syncobj_manager_v1.get_surface')).toBe(1);
  });

  test('releases a buffer that was committed twice when the second point signals', async () => {
    await openSynced();
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    await (
      await present(a)
    ).done;
    const first = last();
    await (
      await present(a)
    ).done;
    const second = last();
    const { done, isDone } = await present(b);
    timelines.signal(first.release!);
    await settle();
    expect(isDone()).toBe(false);
    timelines.signal(second.release!);
    await done;
  });

  test('passes the fence of a picture on as its acquire point', async () => {
    await openSynced();
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    for (const each of [a, b, a]) {
      const before = commits().at(-1);
      const { done } = await present(each);
      if (before) timelines.signal(before.release!);
      await done;
    }
    const shown = last();
    using work = gpu.begin();
    const { done } = await present(b, { acquire: work.fence });
    const { acquire } = last();
    expect(acquire!.timeline).not.toBe(commits()[1]!.acquire!.timeline);
    expect(timelines.hasSignalled(acquire!)).toBe(false);
    work.end();
    expect(timelines.hasSignalled(acquire!)).toBe(true);
    timelines.signal(shown.release!);
    await done;
  });

  test('commits a picture whose wl_buffer came late when its fence has signalled', async () => {
    await openSynced();
    using work = gpu.begin();
    const created = host.server.next('zwp_linux_buffer_params_v1.create');
    const commit = nextPicture();
    const { done } = begin(picture().asDmabuf, { acquire: work.fence });
    await created;
    await settle();
    expect(commits()).toEqual([]);
    work.end();
    await commit;
    expect(timelines.hasSignalled(last().acquire!)).toBe(true);
    host.repaint();
    await done;
  });

  test('is switched off for shared memory on the same surface', async () => {
    await openSynced();
    const [dmabuf, copied] = [picture().asDmabuf, picture().framebuffer];
    for (const each of [dmabuf, copied, dmabuf]) {
      const before = commits().at(-1);
      const { done } = await present(each);
      if (before?.release) timelines.signal(before.release);
      await done;
    }
    expect(commits().map(({ release }) => release?.point ?? null)).toEqual([1, null, 2]);
    expect(host.count('wp_linux_drm_syncobj_surface_v1.destroy')).toBe(1);
  });

  test('keeps the buffers of a hidden window until their points signal', async () => {
    await openSynced();
    const screen = new Screen();
    using a = screen.import();
    using b = screen.import();
    await screen.show(a);
    const first = last();
    host.isHidden = true;
    await screen.show(b);
    expect([screen.heard.at(-1), screen.heard.includes('released')]).toEqual(['hidden', false]);
    const released = screen.next('released');
    timelines.signal(first.release!);
    await released;
  });

  test('is off for good when descriptors run out, and frames are shown without', async () => {
    await openSynced();
    const screen = new Screen();
    using a = screen.import();
    using b = screen.import();
    using work = gpu.begin();
    // Its wl_buffer is created, but not committed.
    const hidden = screen.next('hidden');
    output.present(screen.frame(a, work.fence));
    await hidden;
    await screen.show(b);
    await settle();
    expect(last().release).not.toBeNull();
    const commit = nextPicture();
    withFreeFds(work.fence, 0, () => output.present(screen.frame(a)));
    await commit;
    expect(last()).toMatchObject({ acquire: null, release: null });
    expect(output.takesFences).toBe(false);
    expect(log).toContain(
      'cannot synchronise explicitly with the compositor any longer: ioctl(DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD): EMFILE',
    );
  });

  test('is used on the next compositor', async () => {
    await openSynced();
    await (
      await present(picture().asDmabuf)
    ).done;
    host[Symbol.dispose]();
    listen(syncHost(nodes.render));
    accept(host);
    await host.server.next('xdg_surface.get_toplevel');
    timelines[Symbol.dispose]();
    timelines = new TimelineReader(nodes.render);
    await nextPicture();
    expect(last()).toMatchObject({ acquire: { point: 1 }, release: { point: 1 } });
    host.repaint();
    await settle();
  });

  test('is not used again when the compositor has ended the connection over it', async () => {
    await openSynced();
    await (
      await present(picture().asDmabuf)
    ).done;
    expect(last().release).not.toBeNull();
    host.server.client.refuse(host.bound('wp_linux_drm_syncobj_manager_v1'), 1, 'told to');
    await host.server.next('xdg_surface.get_toplevel');
    await nextPicture();
    expect(last()).toMatchObject({ acquire: null, release: null });
    expect(output.takesFences).toBe(false);
    host.repaint();
    await settle();
  });

  test('is off, with a line in the log, on a device that has no render node', async () => {
    await openSynced(DISPLAY_ONLY);
    await (
      await present(picture().asDmabuf)
    ).done;
    expect(last()).toMatchObject({ acquire: null, release: null });
    expect(output.takesFences).toBe(false);
    expect(log.filter((line) => line.includes('synchronise explicitly'))).toEqual([
      expect.stringMatching(/^cannot synchronise explicitly with the compositor: open: ENODEV/),
    ]);
  });
});
