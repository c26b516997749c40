import { constants, openSync, readdirSync, statSync } from 'node:fs';
import { capability } from '../../display/kms/device.ts';
import {
  DRM_CAP_SYNCOBJ_TIMELINE,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  drm_syncobj_handle,
  drm_syncobj_timeline_array,
} from '../../protocols/drm.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import type { FakeObject, FakeRequest } from '../unit/display/wayland/fake-server.ts';

/** Device nodes of the card whose driver supports timelines, which vkms and vgem do not. */
export function syncNodes(): { card: string; render: string } {
  const render = readdirSync('/dev/dri').find((name) => name.startsWith('renderD') && hasTimelines(`/dev/dri/${name}`));
  if (render === undefined) throw new Error('no card has a driver with timelines');
  const card = readdirSync(`/sys/class/drm/${render}/device/drm`).find((name) => name.startsWith('card'));
  return { card: `/dev/dri/${card!}`, render: `/dev/dri/${render}` };
}

function hasTimelines(path: string): boolean {
  using fd = OwnedFd.adopt(openSync(path, constants.O_RDWR));
  return capability(fd, DRM_CAP_SYNCOBJ_TIMELINE) === 1;
}

/** Device number, as compositors send it. */
export function deviceNumber(path: string): bigint {
  return BigInt(statSync(path).rdev);
}

/** A compositor's side of the timelines that its client sent. */
export class TimelineReader implements Disposable {
  readonly #fd: OwnedFd;
  readonly #handles = new Map<FakeObject, number>();

  constructor(path: string) {
    this.#fd = OwnedFd.adopt(openSync(path, constants.O_RDWR));
  }

  /** Imports the timelines that are new among `requests` (`import_timeline`). */
  take(requests: readonly FakeRequest[]): void {
    for (const { name, args } of requests) {
      if (name !== 'wp_linux_drm_syncobj_manager_v1.import_timeline' || this.#handles.has(args.id as FakeObject))
        continue;
      const argument = drm_syncobj_handle.encode({ fd: (args.fd as BorrowedFd).fd });
      ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', argument);
      this.#handles.set(args.id as FakeObject, drm_syncobj_handle.decode(argument).handle);
    }
  }

  hasSignalled({ timeline, point }: Point): boolean {
    return this.#onPoint(DRM_IOCTL_SYNCOBJ_QUERY, timeline, 0n) >= point;
  }

  signal({ timeline, point }: Point): void {
    this.#onPoint(DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, timeline, BigInt(point));
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  #onPoint(request: number, timeline: FakeObject, point: bigint): bigint {
    using memory = NativeBuffer.allocate(16);
    memory.view.setBigUint64(0, point, true);
    memory.view.setUint32(8, this.#handles.get(timeline)!, true);
    ioctl(
      this.#fd,
      request,
      'DRM_IOCTL_SYNCOBJ_*',
      drm_syncobj_timeline_array.encode({ handles: memory.address + 8, points: memory.address, count_handles: 1 }),
    );
    return memory.view.getBigUint64(0, true);
  }
}

export interface Point {
  readonly timeline: FakeObject;
  readonly point: number;
}

export interface SyncedCommit {
  readonly buffer: FakeObject;
  /** Both are null if the commit is synchronised implicitly. */
  readonly acquire: Point | null;
  readonly release: Point | null;
}

/** The commits among `requests` that attach a buffer to `surface`. Throws for those that the protocol forbids. */
export function commitsOf(surface: FakeObject, requests: readonly FakeRequest[]): SyncedCommit[] {
  const commits: SyncedCommit[] = [];
  const shmBuffers = new Set<unknown>();
  let synced: FakeObject | null = null;
  let buffer: FakeObject | null = null;
  let acquire: Point | null = null;
  let release: Point | null = null;
  for (const { name, object, args } of requests) {
    const point = (): Point => ({
      timeline: args.timeline as FakeObject,
      point: (args.point_hi as number) * 2 ** 32 + (args.point_lo as number),
    });
    if (name === 'wl_shm_pool.create_buffer') shmBuffers.add(args.id);
    if (name === 'wp_linux_drm_syncobj_manager_v1.get_surface' && args.surface === surface) {
      if (synced) throw new Error('surface_exists');
      synced = args.id as FakeObject;
    }
    if (object === synced && name.endsWith('.destroy')) synced = acquire = release = null;
    if (object === synced && name.endsWith('.set_acquire_point')) acquire = point();
    if (object === synced && name.endsWith('.set_release_point')) release = point();
    if (object !== surface) continue;
    if (name === 'wl_surface.destroy' && synced)
      throw new Error('the surface was destroyed before its synchronisation object');
    if (name === 'wl_surface.attach') buffer = args.buffer as FakeObject | null;
    if (name !== 'wl_surface.commit') continue;
    if (!buffer && (acquire ?? release)) throw new Error('no_buffer');
    if (synced && buffer && !acquire) throw new Error('no_acquire_point');
    if (synced && buffer && !release) throw new Error('no_release_point');
    if (synced && shmBuffers.has(buffer)) throw new Error('unsupported_buffer');
    if (acquire && acquire.timeline === release?.timeline && acquire.point >= release.point)
      throw new Error('conflicting_points');
    if (buffer) commits.push({ buffer, acquire, release });
    buffer = acquire = release = null;
  }
  return commits;
}
