import { constants, openSync, readdirSync } from 'node:fs';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_EVENTFD,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
  drm_syncobj_create,
  drm_syncobj_destroy,
  drm_syncobj_eventfd,
  drm_syncobj_handle,
  drm_syncobj_timeline_array,
  drm_syncobj_transfer,
} from '../../protocols/drm.ts';
import { addr64, u32 } from '../../protocols/layout.ts';
import { Bag } from '../../src/core/bag.ts';
import type { Log } from '../../src/core/log.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl, tryIoctl } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { Poll } from '../../src/sys/poll.ts';
import {
  type WaylandDisplay,
  WpLinuxDrmSyncobjManagerV1,
  type WpLinuxDrmSyncobjSurfaceV1,
  type WpLinuxDrmSyncobjTimelineV1,
} from './client/index.ts';

/** A timeline that is shared with the compositor. */
interface SharedTimeline {
  readonly kernel: Timeline;
  readonly wire: WpLinuxDrmSyncobjTimelineV1;
}

/**
 * linux-drm-syncobj-v1 on one connection: the compositor waits for the acquire point of a commit
 * before it reads the buffer, and signals its release point when it has read it. One eventfd counts
 * all release points that signal.
 */
export class ExplicitSync implements Disposable {
  readonly manager: WpLinuxDrmSyncobjManagerV1;
  readonly device: SyncDevice;
  /** Its point 1 has signalled: the acquire point of buffers that may be read at once. */
  readonly signalled: SharedTimeline;
  readonly #log: Log;
  readonly #resources: DisposableStack;
  readonly #event: EventFd;
  #waiting = new Bag<BufferPoints>();
  #stillWaiting = new Bag<BufferPoints>();
  readonly #released = new Bag<BufferPoints>();
  #isOff = false;

  private constructor(manager: WpLinuxDrmSyncobjManagerV1, mainDevice: bigint, log: Log) {
    using stack = new DisposableStack();
    this.manager = stack.use(manager);
    this.#log = log;
    this.device = stack.use(SyncDevice.open(mainDevice));
    this.#event = stack.use(EventFd.create());
    const signalled = this.device.newTimeline();
    this.device.signal(signalled, 1);
    // Fails on a kernel that cannot watch timelines, before anything depends on it.
    this.device.watch(signalled, 1, this.#event);
    stack.use(Poll.readable(this.#event, () => this.#readReleases()));
    this.signalled = this.#share(signalled);
    this.#resources = stack.move();
  }

  /** Null if the compositor does not offer it or, with a line in the log, if this machine does not have it. */
  static open(display: WaylandDisplay, mainDevice: bigint | null, log: Log): ExplicitSync | null {
    const manager = mainDevice === null ? null : display.bind(WpLinuxDrmSyncobjManagerV1, 1);
    if (mainDevice === null || manager === null) return null;
    try {
      return new ExplicitSync(manager, mainDevice, log);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      log('info', `cannot synchronise explicitly with the compositor: ${error.message}`);
      return null;
    }
  }

  /** Later commits must be synchronised implicitly. The release points of earlier ones still count. */
  get isOff(): boolean {
    return this.#isOff;
  }

  turnOff(reason: SysError): void {
    this.#isOff = true;
    this.#log('warn', `cannot synchronise explicitly with the compositor any longer: ${reason.message}`);
  }

  /** SysError EMFILE, ENOMEM. */
  newTimeline(): SharedTimeline {
    return this.#share(this.device.newTimeline());
  }

  destroy({ kernel, wire }: SharedTimeline): void {
    wire[Symbol.dispose]();
    this.device.destroy(kernel);
  }

  /** Makes the eventfd count the point when it signals. SysError ENOMEM. */
  watch({ kernel }: SharedTimeline, point: number): void {
    this.device.watch(kernel, point, this.#event);
  }

  /** Calls `released` once the newest point of `points` has signalled; once, however often this is called before. */
  wait(points: BufferPoints): void {
    if (!this.#waiting.has(points)) this.#waiting.add(points);
  }

  cancel(points: BufferPoints): void {
    this.#waiting.remove(points);
    this.#released.remove(points);
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }

  /** Consumes `kernel`. */
  #share(kernel: Timeline): SharedTimeline {
    using stack = new DisposableStack();
    stack.defer(() => this.device.destroy(kernel));
    using fd = this.device.share(kernel);
    const wire = this.manager.importTimeline(fd);
    stack.move();
    return { kernel, wire };
  }

  #readReleases(): void {
    this.#event.consume();
    for (let each = this.#waiting.pop(); each; each = this.#waiting.pop())
      (each.isReleased ? this.#released : this.#stillWaiting).add(each);
    const waiting = this.#stillWaiting;
    this.#stillWaiting = this.#waiting;
    this.#waiting = waiting;
    // A callee may commit the buffer again, and wait again.
    for (let each = this.#released.pop(); each; each = this.#released.pop()) each.released();
  }
}

/**
 * The acquire and release points of one buffer's commits, counted from 1. Each buffer has timelines
 * of its own: a point that signals signals all before it, and a compositor may be done with buffers
 * in another order than they were committed in.
 *
 *     begin -> set -> the commit -> released
 */
export class BufferPoints implements Disposable {
  readonly sync: ExplicitSync;
  readonly #onReleased: () => void;
  readonly #release: SharedTimeline;
  /** Created for the first fence. */
  #acquire: SharedTimeline | null = null;
  #begun = 0;
  #committed = 0;

  /**
   * `onReleased` is called when the compositor has signalled the release point of the newest
   * commit. SysError EMFILE, ENOMEM.
   */
  constructor(sync: ExplicitSync, onReleased: () => void) {
    this.sync = sync;
    this.#onReleased = onReleased;
    this.#release = sync.newTimeline();
  }

  /**
   * Prepares the points of a commit whose buffer may be read when `acquire` has signalled; null: at
   * once. After a SysError nothing is prepared.
   */
  begin(acquire: BorrowedFd | null): void {
    const point = ++this.#begun;
    if (acquire) {
      this.#acquire ??= this.sync.newTimeline();
      this.sync.device.signalWith(this.#acquire.kernel, point, acquire);
    }
    this.sync.watch(this.#release, point);
  }

  /**
   * Sets the points that `begin` prepared, with a fence if `isFenced`. The same commit of the
   * surface must attach the buffer.
   */
  set(surface: WpLinuxDrmSyncobjSurfaceV1, isFenced: boolean): void {
    const point = this.#begun;
    const high = Math.floor(point / 2 ** 32);
    const low = point >>> 0;
    if (isFenced) surface.setAcquirePoint(this.#acquire!.wire, high, low);
    else surface.setAcquirePoint(this.sync.signalled.wire, 0, 1);
    surface.setReleasePoint(this.#release.wire, high, low);
    this.#committed = point;
    this.sync.wait(this);
  }

  /** The newest commit has been read. */
  get isReleased(): boolean {
    return this.sync.device.lastSignalled(this.#release.kernel) >= this.#committed;
  }

  released(): void {
    this.#onReleased();
  }

  [Symbol.dispose](): void {
    this.sync.cancel(this);
    this.sync.destroy(this.#release);
    if (this.#acquire) this.sync.destroy(this.#acquire);
  }
}

/** A timeline as a handle of its device. Points are numbers from 1 on, each above the ones before. */
type Timeline = number & { readonly __brand: 'Timeline' };

/* Offsets of the arguments of a frame's ioctls, which are allocated once. */
const EVENTFD_AT = 0;
const IMPORT_AT = EVENTFD_AT + drm_syncobj_eventfd.size;
const TRANSFER_AT = IMPORT_AT + drm_syncobj_handle.size;
const ARRAY_AT = TRANSFER_AT + drm_syncobj_transfer.size;
const POINT_AT = ARRAY_AT + drm_syncobj_timeline_array.size;
const HANDLE_AT = POINT_AT + addr64.size;
const DESTROY_AT = HANDLE_AT + u32.size;
const ARGUMENTS_SIZE = DESTROY_AT + drm_syncobj_destroy.size;

/**
 * A DRM device that makes timelines. They belong to the kernel, not to the device: their
 * descriptors work on other devices too. The handles are freed with the device.
 */
class SyncDevice implements Disposable {
  readonly #fd: OwnedFd;
  readonly #arguments: NativeBuffer;
  /** A syncobj that each fence passes through on its way into a timeline. */
  readonly #passage: number;

  private constructor(fd: OwnedFd, memory: NativeBuffer) {
    this.#fd = fd;
    this.#arguments = memory;
    this.#passage = this.#create();
    const { address, view } = memory;
    drm_syncobj_timeline_array.field.handles.set(view, ARRAY_AT, address + HANDLE_AT);
    drm_syncobj_timeline_array.field.points.set(view, ARRAY_AT, address + POINT_AT);
    drm_syncobj_timeline_array.field.count_handles.set(view, ARRAY_AT, 1);
    drm_syncobj_handle.field.flags.set(view, IMPORT_AT, DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE);
    drm_syncobj_handle.field.handle.set(view, IMPORT_AT, this.#passage);
    drm_syncobj_transfer.field.src_handle.set(view, TRANSFER_AT, this.#passage);
  }

  /** `device` is the dev_t of any of its nodes. SysError if it cannot be opened or has no timelines. */
  static open(device: bigint): SyncDevice {
    using stack = new DisposableStack();
    const fd = stack.use(openRenderNode(device));
    const opened = new SyncDevice(fd, stack.use(NativeBuffer.allocate(ARGUMENTS_SIZE)));
    stack.move();
    return opened;
  }

  /** SysError ENOMEM; EOPNOTSUPP. */
  newTimeline(): Timeline {
    return this.#create() as Timeline;
  }

  /** A new descriptor of the timeline, owned by the caller. SysError EMFILE. */
  share(timeline: Timeline): OwnedFd {
    const argument = drm_syncobj_handle.encode({ handle: timeline });
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, 'DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD', argument);
    return OwnedFd.adopt(drm_syncobj_handle.decode(argument).fd);
  }

  /** Signals the point and those before it. SysError ENOMEM; EOPNOTSUPP. */
  signal(timeline: Timeline, point: number): void {
    const { view } = this.#arguments;
    u32.set(view, HANDLE_AT, timeline);
    addr64.set(view, POINT_AT, point);
    ioctl(
      this.#fd,
      DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
      'DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL',
      this.#arguments.address + ARRAY_AT,
    );
  }

  /** Makes the point signal when `fence` does, a sync_file that stays the caller's. SysError EINVAL, ENOMEM. */
  signalWith(timeline: Timeline, point: number, fence: BorrowedFd): void {
    const { address, view } = this.#arguments;
    drm_syncobj_handle.field.fd.set(view, IMPORT_AT, fence.fd);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', address + IMPORT_AT);
    drm_syncobj_transfer.field.dst_handle.set(view, TRANSFER_AT, timeline);
    drm_syncobj_transfer.field.dst_point.set(view, TRANSFER_AT, point);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_TRANSFER, 'DRM_IOCTL_SYNCOBJ_TRANSFER', address + TRANSFER_AT);
  }

  /**
   * Adds 1 to `event`, an eventfd that stays the caller's, when the point signals. SysError ENOMEM;
   * EINVAL before Linux 6.6.
   */
  watch(timeline: Timeline, point: number, event: BorrowedFd): void {
    const { address, view } = this.#arguments;
    drm_syncobj_eventfd.field.handle.set(view, EVENTFD_AT, timeline);
    drm_syncobj_eventfd.field.point.set(view, EVENTFD_AT, point);
    drm_syncobj_eventfd.field.fd.set(view, EVENTFD_AT, event.fd);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_EVENTFD, 'DRM_IOCTL_SYNCOBJ_EVENTFD', address + EVENTFD_AT);
  }

  /** The last point that has signalled; 0 if the device is gone. */
  lastSignalled(timeline: Timeline): number {
    const { address, view } = this.#arguments;
    u32.set(view, HANDLE_AT, timeline);
    addr64.set(view, POINT_AT, 0);
    tryIoctl(this.#fd, DRM_IOCTL_SYNCOBJ_QUERY, address + ARRAY_AT);
    return addr64.get(view, POINT_AT);
  }

  /** Frees the handle of this device; the compositor keeps its own. Does nothing once the device is closed. */
  destroy(timeline: Timeline): void {
    if (this.#fd.closed) return;
    const { address, view } = this.#arguments;
    drm_syncobj_destroy.field.handle.set(view, DESTROY_AT, timeline);
    // Fails on a device that was unplugged, which leaves nothing to free.
    tryIoctl(this.#fd, DRM_IOCTL_SYNCOBJ_DESTROY, address + DESTROY_AT);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
    this.#arguments[Symbol.dispose]();
  }

  #create(): number {
    const argument = drm_syncobj_create.encode({});
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_CREATE, 'DRM_IOCTL_SYNCOBJ_CREATE', argument);
    return drm_syncobj_create.decode(argument).handle;
  }
}

/**
 * Opens the device's render node, whichever node `device` names: opening a primary node may make
 * this process DRM master, and drivers that only display have no timelines.
 */
function openRenderNode(device: bigint): OwnedFd {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n);
  try {
    const node = readdirSync(`/sys/dev/char/${major}:${minor}/device/drm`).find((name) => name.startsWith('renderD'));
    if (node === undefined) throw new SysError('open', 'ENODEV', `device ${major}:${minor} has no render node`);
    return OwnedFd.adopt(openSync(`/dev/dri/${node}`, constants.O_RDWR));
  } catch (cause) {
    if (cause instanceof SysError) throw cause;
    const { syscall = 'open', code = 'EIO', path } = cause as NodeJS.ErrnoException;
    throw new SysError(syscall, code, path);
  }
}
