import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  WpLinuxDrmSyncobjManagerV1,
  type WpLinuxDrmSyncobjTimelineV1,
  WlBuffer,
} from '../../../../display/wayland/client/index.ts';
import type { Compositor } from '../../../../display/wayland/compositor.ts';
import type { BufferPoints, ExplicitSync } from '../../../../display/wayland/explicit-sync.ts';
import { Surface, SurfaceBuffer } from '../../../../display/wayland/surface.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { SeatRig } from './seat/seat-rig.ts';

expectNoLeaks();

/** Has points that a test signals, in place of those of a DRM device. */
class SyncedBuffer extends SurfaceBuffer {
  readonly #timeline: WpLinuxDrmSyncobjTimelineV1 | null;
  isFreed = false;
  failure: SysError | null = null;

  /** Without a timeline it is synchronised implicitly. */
  constructor(timeline: WpLinuxDrmSyncobjTimelineV1 | null) {
    super(8, 8);
    this.#timeline = timeline;
  }

  override points(): BufferPoints | null {
    if (this.failure) throw this.failure;
    const timeline = this.#timeline;
    if (!timeline) return null;
    const set: BufferPoints['set'] = (surface, isFenced) => {
      surface.setAcquirePoint(timeline, 0, isFenced ? 2 : 1);
      surface.setReleasePoint(timeline, 0, 3);
    };
    return { begin: () => undefined, set } as unknown as BufferPoints;
  }

  signal(): void {
    this.released(true);
  }

  protected override create(compositor: Compositor): void {
    const buffer = compositor.surfaces.connection.objects.create(WlBuffer, 1);
    rig.server.client.newObject('wl_buffer', 1, buffer.id);
    this.adopt(compositor, buffer);
  }

  protected override free(): void {
    this.isFreed = true;
  }
}

let rig: SeatRig;
let surface: Surface;
let sync: { manager: WpLinuxDrmSyncobjManagerV1; isOff: boolean; turnOff: (reason: SysError) => void };
let synced: SyncedBuffer;
let implicit: SyncedBuffer;

beforeEach(async () => {
  rig = await SeatRig.open(['wp_linux_drm_syncobj_manager_v1']);
  const manager = rig.display.bind(WpLinuxDrmSyncobjManagerV1, 1)!;
  sync = { manager, isOff: false, turnOff: vi.fn(() => (sync.isOff = true)) };
  surface = new Surface(rig.host, { isOpaque: true, sync: sync as unknown as ExplicitSync });
  using memfd = createMemfd('timeline', 0);
  synced = new SyncedBuffer(manager.importTimeline(memfd));
  implicit = new SyncedBuffer(null);
  await rig.asked();
});
afterEach(() => {
  surface[Symbol.dispose]();
  rig[Symbol.dispose]();
  vi.useRealTimers();
});

function show(buffer: SurfaceBuffer | null): void {
  expect(surface.attach(buffer, null, null)).toBe(true);
  surface.commit();
}

describe('Surface: explicit synchronisation', () => {
  test('sets an acquire and a release point in each commit of a buffer that has points', async () => {
    using fence = EventFd.create();
    show(synced);
    expect(surface.attach(synced, new Damage(), fence)).toBe(true);
    surface.commit();
    const attach = 'wl_surface.attach 0 0';
    expect((await rig.asked()).filter((request) => !request.startsWith('wl_surface.damage'))).toEqual([
      ...['wp_linux_drm_syncobj_manager_v1.get_surface', 'wp_linux_drm_syncobj_surface_v1.set_acquire_point 0 1'],
      ...['wp_linux_drm_syncobj_surface_v1.set_release_point 0 3', attach, 'wl_surface.commit'],
      ...[
        'wp_linux_drm_syncobj_surface_v1.set_acquire_point 0 2',
        'wp_linux_drm_syncobj_surface_v1.set_release_point 0 3',
        attach,
        'wl_surface.commit',
      ],
    ]);
  });

  test('is switched off before a buffer without points is attached, and stays for no buffer', async () => {
    show(synced);
    show(null);
    await rig.asked();
    show(implicit);
    expect((await rig.asked())[0]).toBe('wp_linux_drm_syncobj_surface_v1.destroy');
    show(synced);
    expect((await rig.asked())[0]).toBe('wp_linux_drm_syncobj_manager_v1.get_surface');
  });

  test('unlocks a buffer when its point signals, and not by wl_buffer.release', async () => {
    show(synced);
    show(implicit);
    await rig.settle();
    const buffers = [...rig.server.client.objects.values()].filter((object) => object.interface.name === 'wl_buffer');
    buffers[0]!.send('release');
    await rig.settle();
    expect([synced.isHeld, implicit.isHeld]).toEqual([true, true]);
    synced.signal();
    expect([synced.isHeld, implicit.isHeld]).toEqual([false, true]);
  });

  test('keeps a replaced buffer that waits for its point while the surface is hidden, but not for longer than two seconds', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const other = new SyncedBuffer(null);
    show(synced);
    show(implicit);
    show(other);
    surface.hidden();
    expect([synced.isHeld, implicit.isHeld, other.isHeld]).toEqual([true, false, true]);
    await vi.advanceTimersByTimeAsync(2000);
    expect([synced.isHeld, other.isHeld]).toEqual([false, true]);
  });

  test('ends when there is no memory for points, and a fence cannot be passed on any more', () => {
    using fence = EventFd.create();
    synced.failure = new SysError('ioctl(DRM_IOCTL_SYNCOBJ_CREATE)', 'ENOMEM');
    expect(surface.takesFences).toBe(true);
    expect(surface.attach(synced, null, fence)).toBe(false);
    expect(sync.turnOff).toHaveBeenCalledExactlyOnceWith(synced.failure);
    expect(surface.takesFences).toBe(false);
    show(synced);
    expect(synced.isHeld).toBe(true);
  });
});

describe('SurfaceBuffer', () => {
  test('frees its memory when it is disposed and nothing locks it any more', () => {
    show(implicit);
    implicit.lock();
    implicit[Symbol.dispose]();
    surface[Symbol.dispose]();
    expect([implicit.isFreed, implicit.isGone]).toEqual([false, false]);
    implicit.unlock();
    expect([implicit.isFreed, implicit.isGone]).toEqual([true, true]);
  });
});
