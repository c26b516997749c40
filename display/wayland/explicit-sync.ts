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
import { type WaylandDisplay, WpLinuxDrmSyncobjManagerV1, type WpLinuxDrmSyncobjSurfaceV1, type WpLinuxDrmSyncobjTimelineV1 } from './client/index.ts';

/** A timeline that the compositor knows too. */
interface SharedTimeline {
  readonly kernel: Timeline;
  readonly wire: WpLinuxDrmSyncobjTimelineV1;
}

/**
 * linux-drm-syncobj-v1 on one connection: the compositor waits for points of ours before it reads,
 * and signals others when it has read. One eventfd tells of all of them.
 */
export class ExplicitSync implements Disposable {
  readonly manager: WpLinuxDrmSyncobjManagerV1;
  readonly device: SyncDevice;
  /** Its point 1 has signalled: for whatever may be read at once. */
  readonly signalled: SharedTimeline;
  readonly #log: Log;
  readonly #resources: DisposableStack;
  readonly #event: EventFd;
  #waiting = new Bag<BufferPoints>();
  #stillWaiting = new Bag<BufferPoints>();
  readonly #over = new Bag<BufferPoints>();
  #isOff = false;

  private constructor(manager: WpLinuxDrmSyncobjManagerV1, mainDevice: bigint, log: Log) {
    using stack = new DisposableStack();
    this.manager = stack.use(manager);
    this.#log = log;
    this.device = stack.use(SyncDevice.open(mainDevice));
    this.#event = stack.use(EventFd.create());
    const signalled = this.device.newTimeline();
    this.device.signal(signalled, 1);
    // So that a kernel that cannot is known.
    this.device.watch(signalled, 1, this.#event);
    stack.use(Poll.readable(this.#event, () => this.#readReleases()));
    this.signalled = this.#share(signalled);
    this.#resources = stack.move();
  }

  /** Null where the compositor does not offer it, or, with a line in the log, where this machine does not have it. */
  static open(display: WaylandDisplay, mainDevice: bigint | null, log: Log): ExplicitSync | null {
    const manager = mainDevice === null ? null : display.bind(WpLinuxDrmSyncobjManagerV1, 1);
    if (mainDevice === null || manager === null) return null;
    try {
      return new ExplicitSync(manager, mainDevice, log);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      log('info', `no explicit synchronisation with the compositor: ${error.message}`);
      return null;
    }
  }

  /** Commits do without from now on; what was committed before is still told of. */
  get isOff(): boolean {
    return this.#isOff;
  }

  turnOff(reason: SysError): void {
    this.#isOff = true;
    this.#log('warn', `no explicit synchronisation with the compositor any more: ${reason.message}`);
  }

  /** SysError EMFILE, ENOMEM. */
  newTimeline(): SharedTimeline {
    return this.#share(this.device.newTimeline());
  }

  destroy({ kernel, wire }: SharedTimeline): void {
    wire[Symbol.dispose]();
    this.device.destroy(kernel);
  }

  /** The point will wake us. SysError ENOMEM. */
  watch({ kernel }: SharedTimeline, point: number): void {
    this.device.watch(kernel, point, this.#event);
  }

  /** `released` will be called, once for however often this is. */
  wait(points: BufferPoints): void {
    if (!this.#waiting.has(points)) this.#waiting.add(points);
  }

  forget(points: BufferPoints): void {
    this.#waiting.remove(points);
    this.#over.remove(points);
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
    for (let each = this.#waiting.pop(); each; each = this.#waiting.pop()) (each.isOver ? this.#over : this.#stillWaiting).add(each);
    const waiting = this.#stillWaiting;
    this.#stillWaiting = this.#waiting;
    this.#waiting = waiting;
    // Whoever is told may present, and wait anew.
    for (let each = this.#over.pop(); each; each = this.#over.pop()) each.released();
  }
}

/**
 * The points of one buffer's commits, counted from 1: when it may be read, and when it has been.
 * A buffer has timelines of its own, because one point signals those before it, and a compositor
 * may be done with buffers in another order than it was given them.
 *
 *     begin -> set -> the commit -> released
 */
export class BufferPoints implements Disposable {
  readonly sync: ExplicitSync;
  readonly #onReleased: () => void;
  readonly #release: SharedTimeline;
  /** Made for the first fence. */
  #acquire: SharedTimeline | null = null;
  #begun = 0;
  #committed = 0;

  /** `onReleased`: the compositor has signalled the point of the newest commit. SysError EMFILE, ENOMEM. */
  constructor(sync: ExplicitSync, onReleased: () => void) {
    this.sync = sync;
    this.#onReleased = onReleased;
    this.#release = sync.newTimeline();
  }

  /** A commit in which the buffer may be read when `acquire` has signalled, null: at once. SysError; there is no such commit then. */
  begin(acquire: BorrowedFd | null): void {
    const point = ++this.#begun;
    if (acquire) {
      this.#acquire ??= this.sync.newTimeline();
      this.sync.device.signalWith(this.#acquire.kernel, point, acquire);
    }
    this.sync.watch(this.#release, point);
  }

  /** Sets what was begun; `isFenced` is whether with a fence. The buffer is attached in the same commit of `surface`. */
  set(surface: WpLinuxDrmSyncobjSurfaceV1, isFenced: boolean): void {
    const point = this.#begun;
    if (isFenced) setPoint(surface, 'setAcquirePoint', this.#acquire!.wire, point);
    else setPoint(surface, 'setAcquirePoint', this.sync.signalled.wire, 1);
    setPoint(surface, 'setReleasePoint', this.#release.wire, point);
    this.#committed = point;
    this.sync.wait(this);
  }

  get isOver(): boolean {
    return this.sync.device.lastSignalled(this.#release.kernel) >= this.#committed;
  }

  released(): void {
    this.#onReleased();
  }

  [Symbol.dispose](): void {
    this.sync.forget(this);
    this.sync.destroy(this.#release);
    if (this.#acquire) this.sync.destroy(this.#acquire);
  }
}

function setPoint(surface: WpLinuxDrmSyncobjSurfaceV1, request: 'setAcquirePoint' | 'setReleasePoint', timeline: WpLinuxDrmSyncobjTimelineV1, point: number): void {
  surface[request](timeline, Math.floor(point / 2 ** 32), point >>> 0);
}

/** A timeline, as its device knows it. Points are numbers from 1 on, each above those before. */
type Timeline = number & { readonly __brand: 'Timeline' };

/* Where the arguments of a frame's ioctls lie. */
const EVENTFD_AT = 0;
const IMPORT_AT = EVENTFD_AT + drm_syncobj_eventfd.size;
const TRANSFER_AT = IMPORT_AT + drm_syncobj_handle.size;
const ARRAY_AT = TRANSFER_AT + drm_syncobj_transfer.size;
const POINT_AT = ARRAY_AT + drm_syncobj_timeline_array.size;
const HANDLE_AT = POINT_AT + addr64.size;
const ARGUMENTS_SIZE = HANDLE_AT + u32.size;

/**
 * A DRM device as a maker of timelines. These are the kernel's, not the device's: whoever gets the
 * descriptor of one may use it on another. What is made is freed with the device.
 */
class SyncDevice implements Disposable {
  readonly #fd: OwnedFd;
  readonly #arguments: NativeBuffer;
  /** A fence is here on its way into a timeline. */
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

  /** `device` is the dev_t of any node of it. SysError: it cannot be opened, or has no timelines. */
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

  /** A descriptor of it, the caller's. SysError EMFILE. */
  share(timeline: Timeline): OwnedFd {
    const argument = drm_syncobj_handle.encode({ handle: timeline });
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, 'DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD', argument);
    return OwnedFd.adopt(drm_syncobj_handle.decode(argument).fd);
  }

  /** The point has signalled, and those before it. SysError ENOMEM; EOPNOTSUPP. */
  signal(timeline: Timeline, point: number): void {
    const { view } = this.#arguments;
    u32.set(view, HANDLE_AT, timeline);
    addr64.set(view, POINT_AT, point);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, 'DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL', this.#arguments.address + ARRAY_AT);
  }

  /** The point signals with `fence`, a sync_file that stays the caller's. SysError EINVAL, ENOMEM. */
  signalWith(timeline: Timeline, point: number, fence: BorrowedFd): void {
    const { address, view } = this.#arguments;
    drm_syncobj_handle.field.fd.set(view, IMPORT_AT, fence.fd);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', address + IMPORT_AT);
    drm_syncobj_transfer.field.dst_handle.set(view, TRANSFER_AT, timeline);
    drm_syncobj_transfer.field.dst_point.set(view, TRANSFER_AT, point);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_TRANSFER, 'DRM_IOCTL_SYNCOBJ_TRANSFER', address + TRANSFER_AT);
  }

  /** `event`, an eventfd that stays the caller's, counts one when the point signals, by whomever. SysError ENOMEM; EINVAL before Linux 6.6. */
  watch(timeline: Timeline, point: number, event: BorrowedFd): void {
    const { address, view } = this.#arguments;
    drm_syncobj_eventfd.field.handle.set(view, EVENTFD_AT, timeline);
    drm_syncobj_eventfd.field.point.set(view, EVENTFD_AT, point);
    drm_syncobj_eventfd.field.fd.set(view, EVENTFD_AT, event.fd);
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_EVENTFD, 'DRM_IOCTL_SYNCOBJ_EVENTFD', address + EVENTFD_AT);
  }

  /** The last point that has signalled; 0 for a device that is gone. */
  lastSignalled(timeline: Timeline): number {
    const { address, view } = this.#arguments;
    u32.set(view, HANDLE_AT, timeline);
    addr64.set(view, POINT_AT, 0);
    tryIoctl(this.#fd, DRM_IOCTL_SYNCOBJ_QUERY, address + ARRAY_AT);
    return addr64.get(view, POINT_AT);
  }

  /** Ours; others keep theirs. Nothing once the device is closed. */
  destroy(timeline: Timeline): void {
    if (this.#fd.closed) return;
    ioctl(this.#fd, DRM_IOCTL_SYNCOBJ_DESTROY, 'DRM_IOCTL_SYNCOBJ_DESTROY', drm_syncobj_destroy.encode({ handle: timeline }));
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

/** Its render node, whichever node was named: who opens a primary one may become master, and drivers that only display have no timelines. */
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
