import { Bag } from '../../src/core/bag.ts';
import type { Log } from '../../src/core/log.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { Poll } from '../../src/sys/poll.ts';
import { type WaylandDisplay, WpLinuxDrmSyncobjManagerV1, type WpLinuxDrmSyncobjTimelineV1 } from './client/index.ts';
import { SyncDevice, type Timeline } from './sync-device.ts';

/** Something that waits until the compositor has signalled a point. */
export interface ReleaseWait {
  readonly isOver: boolean;
  /** It is, and waits no more. */
  released(): void;
}

/** A timeline that the compositor knows too. */
export interface SharedTimeline {
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
  #waiting = new Bag<ReleaseWait>();
  #stillWaiting = new Bag<ReleaseWait>();
  readonly #over = new Bag<ReleaseWait>();
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
  wait(release: ReleaseWait): void {
    if (!this.#waiting.has(release)) this.#waiting.add(release);
  }

  forget(release: ReleaseWait): void {
    this.#waiting.remove(release);
    this.#over.remove(release);
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
