import * as wire from '../../../protocols/vhost-user.ts';
import * as ring from '../../../protocols/virtio-ring.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Mapping } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { Poll } from '../../sys/poll.ts';
import {
  BufferPool,
  DRIVER_ADDRESS,
  DRIVER_SIZE,
  type DriverMemory,
  type DriverRegion,
  SparseMemory,
} from './driver-memory.ts';
import { DriverQueue, type DriverQueueOptions, type UsedCallback } from './driver-queue.ts';
import { FrontEndChannel, FrontEndError } from './front-end-channel.ts';

/** All features of a device, and those of rings that DriverQueue implements. */
const KNOWN_FEATURES =
  0xff_ffffn |
  bit(ring.VIRTIO_RING_F_INDIRECT_DESC) |
  bit(ring.VIRTIO_RING_F_EVENT_IDX) |
  bit(ring.VIRTIO_F_VERSION_1) |
  bit(wire.VHOST_USER_F_PROTOCOL_FEATURES);

const PROTOCOL_FEATURES = bit(wire.VHOST_USER_PROTOCOL_F.REPLY_ACK) | bit(wire.VHOST_USER_PROTOCOL_F.RESET_DEVICE);

/** User addresses differ from guest physical ones, so that a back end which mixes them up fails. */
const USER_BASE = 0x1000_0000_0000;

export interface FrontEndOptions {
  /** Connected to the back end; consumed, even on failure. */
  readonly socket: OwnedFd;
  readonly memory: readonly DriverRegion[];
  /** Pays for the guest memory that is written. */
  readonly budget?: MemoryBudget;
  /** Entries of each queue; the default is a GPU's control and cursor queue in QEMU. */
  readonly queueSizes?: readonly number[];
  /** The vhost-user protocol features to use where the back end offers them. */
  readonly protocolFeatures?: bigint;
  /** The most bytes one descriptor describes; default 64 KiB. */
  readonly maxSegment?: number;
}

/** `UsedCallback` with the index of the queue. */
export type QueueUsedCallback = (queue: number, token: number, response: Uint8Array, written: number) => void;

/**
 * Stands in for a VMM and its guest's driver: memory, the handshake, and the driver's side of the rings.
 * The back end may run in the same process and event loop, so everything that waits for it is a promise.
 *
 * Rejections are FrontEndError.
 */
export class ReplayFrontEnd implements Disposable {
  readonly memory: SparseMemory;
  /** Called once when the back end is gone or broke the protocol. */
  onClosed: ((error: FrontEndError) => void) | null = null;
  /** Called for every chain that the device has used. */
  onUsed: QueueUsedCallback | null = null;
  /** Called when the queues are gone; `error` says why chains in flight get no answer. */
  protected onStopped: ((error: FrontEndError) => void) | null = null;
  protected readonly channel: FrontEndChannel;
  /** Rings and requests; a new pool after each `start`. */
  protected driver: DriverMemory;
  /** Those in use. */
  protected protocolFeatures = 0n;
  readonly #options: FrontEndOptions;
  readonly #resources: DisposableStack;
  readonly #driverFd: OwnedFd;
  readonly #driverMapping: Mapping;
  #offered = 0n;
  #queues: readonly FrontEndQueue[] = [];

  protected constructor(options: FrontEndOptions, channel: FrontEndChannel) {
    using resources = new DisposableStack();
    this.#options = options;
    this.channel = resources.use(channel);
    channel.onClosed = (error) => {
      this.#stopped(error);
      this.onClosed?.(error);
    };
    this.memory = resources.use(SparseMemory.create(options.memory, options.budget));
    this.#driverFd = resources.use(createMemfd('driver', DRIVER_SIZE));
    this.#driverMapping = resources.use(Mapping.file(this.#driverFd, 0, DRIVER_SIZE, 'read-write'));
    this.driver = emptyDriverMemory(this.#driverMapping);
    this.#resources = resources.move();
  }

  /** Sends nothing before `negotiate`. SysError if the machine runs out of descriptors or memory. */
  static open(options: FrontEndOptions): ReplayFrontEnd {
    return new ReplayFrontEnd(options, new FrontEndChannel(options.socket));
  }

  get running(): boolean {
    return this.#queues.length > 0;
  }

  /** The part of the handshake that a VMM does before its guest has a driver. */
  async negotiate(): Promise<void> {
    const { channel } = this;
    this.#offered = await channel.get(wire.VHOST_USER.GET_FEATURES);
    const offered = await channel.get(wire.VHOST_USER.GET_PROTOCOL_FEATURES);
    this.protocolFeatures = offered & (this.#options.protocolFeatures ?? PROTOCOL_FEATURES);
    channel.send(wire.VHOST_USER.SET_PROTOCOL_FEATURES, wire.VhostUserU64.encode({ u64: this.protocolFeatures }));
    channel.acknowledged = this.has(wire.VHOST_USER_PROTOCOL_F.REPLY_ACK);
    await channel.set(wire.VHOST_USER.SET_OWNER);
  }

  /** Hands over memory and new, empty rings, as a driver does when it is loaded. `features`: virtio features to acknowledge. */
  async start(features: bigint): Promise<void> {
    if (this.running) throw new FrontEndError('refused', 'the front end is started already');
    const agreed = this.#offered & KNOWN_FEATURES & (features | bit(wire.VHOST_USER_F_PROTOCOL_FEATURES));
    await this.channel.set(wire.VHOST_USER.SET_FEATURES, wire.VhostUserU64.encode({ u64: agreed }));
    await this.#shareMemory();
    this.driver = emptyDriverMemory(this.#driverMapping);
    this.#queues = this.#createQueues(agreed);
    for (const index of this.#queues.keys()) await this.#startQueue(index);
    for (const index of this.#queues.keys()) {
      await this.channel.set(wire.VHOST_USER.SET_VRING_ENABLE, wire.vhost_vring_state.encode({ index, num: 1 }));
    }
  }

  /** Does what a VMM does when its guest resets the device: takes the rings back, then resets. Chains in flight are lost. */
  async stop(): Promise<void> {
    if (!this.running) return;
    for (const index of this.#queues.keys()) {
      await this.channel.call(wire.VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index, num: 0 }));
    }
    this.#stopped(new FrontEndError('reset', 'the device was reset'));
    if (this.has(wire.VHOST_USER_PROTOCOL_F.RESET_DEVICE)) await this.channel.set(wire.VHOST_USER.RESET_DEVICE);
  }

  /** Replaces the memory table; what lies in both tables keeps its contents. */
  async setMemory(regions: readonly DriverRegion[]): Promise<void> {
    this.memory.setRegions(regions);
    if (!this.running) return;
    await this.#shareMemory();
    // A kick may be seen before messages sent earlier. Without acknowledgements, another reply shows that they were handled.
    if (!this.channel.acknowledged) await this.channel.get(wire.VHOST_USER.GET_FEATURES);
  }

  /**
   * Makes a request available without telling the device, which `kick` does. A token that is unique until it is
   * used; -1 if the ring is full. Allocates nothing in steady state. FrontEndError `reset` before `start`.
   */
  submit(queue: number, request: Uint8Array, responseSpace: number): number {
    return this.queue(queue).ring.submit(request, responseSpace);
  }

  /** Kicks the device, if it asked for a kick for what was submitted. */
  kick(queue: number): void {
    const { ring, kickFd } = this.queue(queue);
    if (ring.takeKick()) kickFd.signal();
  }

  [Symbol.dispose](): void {
    this.#stopped(new FrontEndError('closed', 'the front end was disposed'));
    this.#resources[Symbol.dispose]();
  }

  /** A running queue; `start` makes new ones. FrontEndError `reset` before `start`. */
  protected queue(index: number): FrontEndQueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new FrontEndError('reset', `queue ${index} is not running`);
    return queue;
  }

  protected createRing(options: DriverQueueOptions): DriverQueue {
    return new DriverQueue(this.driver, options);
  }

  protected has(protocolFeature: number): boolean {
    return (this.protocolFeatures & bit(protocolFeature)) !== 0n;
  }

  /** SET_MEM_TABLE: the whole table at once. */
  protected async sendMemory(regions: readonly DriverRegion[]): Promise<void> {
    const most = wire.VHOST_MEMORY_BASELINE_NREGIONS;
    if (regions.length > most) {
      throw new FrontEndError(
        'refused',
        `cannot share ${regions.length} memory regions: one message has room for ${most}`,
      );
    }
    const payload = Buffer.concat([
      wire.VhostUserMemory.encode({ nregions: regions.length }),
      ...regions.map(encodeRegion),
    ]);
    await this.channel.set(
      wire.VHOST_USER.SET_MEM_TABLE,
      payload,
      regions.map((region) => this.fdOf(region)),
    );
  }

  protected fdOf(region: DriverRegion): BorrowedFd {
    return region.guestAddress === DRIVER_ADDRESS ? this.#driverFd : this.memory.memfd;
  }

  #stopped(error: FrontEndError): void {
    const queues = this.#queues;
    this.#queues = [];
    for (const queue of queues) queue[Symbol.dispose]();
    this.onStopped?.(error);
  }

  #shareMemory(): Promise<void> {
    return this.sendMemory([...this.memory.regions, { guestAddress: DRIVER_ADDRESS, size: DRIVER_SIZE }]);
  }

  #createQueues(features: bigint): readonly FrontEndQueue[] {
    using resources = new DisposableStack();
    const { queueSizes = [256, 16], maxSegment = 65536 } = this.#options;
    const options = {
      indirect: (features & bit(ring.VIRTIO_RING_F_INDIRECT_DESC)) !== 0n,
      eventIdx: (features & bit(ring.VIRTIO_RING_F_EVENT_IDX)) !== 0n,
      maxSegment,
    };
    const queues = queueSizes.map((size, index) => {
      const onUsed: UsedCallback = (token, response, written) => this.onUsed?.(index, token, response, written);
      return resources.use(new FrontEndQueue(this.createRing({ ...options, size }), onUsed));
    });
    resources.move();
    return queues;
  }

  /** Tells the back end where the ring is and which eventfds it has. */
  async #startQueue(index: number): Promise<void> {
    const { channel } = this;
    const { ring, kickFd, callFd } = this.queue(index);
    const { desc, avail, used } = ring.at;
    const user = USER_BASE + DRIVER_ADDRESS;
    const addresses = { desc_user_addr: user + desc, avail_user_addr: user + avail, used_user_addr: user + used };
    const number = wire.VhostUserU64.encode({ u64: BigInt(index) });
    await channel.set(wire.VHOST_USER.SET_VRING_NUM, wire.vhost_vring_state.encode({ index, num: ring.size }));
    await channel.set(wire.VHOST_USER.SET_VRING_BASE, wire.vhost_vring_state.encode({ index, num: 0 }));
    await channel.set(wire.VHOST_USER.SET_VRING_ADDR, wire.vhost_vring_addr.encode({ index, ...addresses }));
    await channel.set(wire.VHOST_USER.SET_VRING_CALL, number, [callFd]);
    await channel.set(wire.VHOST_USER.SET_VRING_KICK, number, [kickFd]);
  }
}

/** A ring and its two eventfds, from one `start` to the next `stop`. */
export class FrontEndQueue implements Disposable {
  readonly ring: DriverQueue;
  /** Signalled to tell the device of new chains. */
  readonly kickFd: EventFd;
  /** Signalled by the device when it has used chains. */
  readonly callFd: EventFd;
  readonly #resources: DisposableStack;

  constructor(ring: DriverQueue, onUsed: UsedCallback) {
    using resources = new DisposableStack();
    this.ring = ring;
    this.kickFd = resources.use(EventFd.create());
    this.callFd = resources.use(EventFd.create());
    const interrupted = (): void => {
      this.callFd.consume();
      ring.drain(onUsed);
    };
    resources.use(Poll.readable(this.callFd, interrupted));
    this.#resources = resources.move();
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

/** A VhostUserMemoryRegion. */
export function encodeRegion({ guestAddress, size }: DriverRegion): Uint8Array {
  return wire.VhostUserMemoryRegion.encode({
    guest_phys_addr: guestAddress,
    memory_size: size,
    userspace_addr: USER_BASE + guestAddress,
    // The file offsets of guest memory are its addresses; the driver's own memfd starts at 0.
    mmap_offset: guestAddress === DRIVER_ADDRESS ? 0 : guestAddress,
  });
}

function emptyDriverMemory(mapping: Mapping): DriverMemory {
  return { address: DRIVER_ADDRESS, bytes: mapping.bytes, view: mapping.view, pool: new BufferPool(0, DRIVER_SIZE) };
}

function bit(number: number): bigint {
  return 1n << BigInt(number);
}
