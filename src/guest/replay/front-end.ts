import * as wire from '../../../protocols/vhost-user.ts';
import * as ring from '../../../protocols/virtio-ring.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Mapping } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { socketPair } from '../../sys/socket.ts';
import { BufferPool, DRIVER_ADDRESS, DRIVER_SIZE, type DriverRegion, SparseMemory } from './driver-memory.ts';
import type { DriverMemory, UsedCallback } from './driver-queue.ts';
import { FrontEndChannel, FrontEndError } from './front-end-channel.ts';
import { bit, KNOWN_FEATURES, KNOWN_PROTOCOL_FEATURES } from './front-end-features.ts';
import { FrontEndQueue } from './front-end-queue.ts';
import { sendTable, updateSlots } from './memory-table.ts';

const F = wire.VHOST_USER_PROTOCOL_F;
const DRIVER_STATUS = ring.VIRTIO_CONFIG_S_ACKNOWLEDGE | ring.VIRTIO_CONFIG_S_DRIVER | ring.VIRTIO_CONFIG_S_FEATURES_OK;

export interface FrontEndOptions {
  /** Connected to the back end; consumed. */
  readonly socket: OwnedFd;
  readonly memory: readonly DriverRegion[];
  /** Entries of each queue; the default is a GPU's control and cursor queue in QEMU. */
  readonly queueSizes?: readonly number[];
  /** Virtio features the driver takes of those offered; all unless told otherwise, here or to `start`. */
  readonly features?: bigint;
  /** The same for vhost-user protocol features. */
  readonly protocolFeatures?: bigint;
  /** Bytes of a descriptor's buffer at most; default 64 KiB. */
  readonly maxSegment?: number;
}

/**
 * What a VMM and its guest's driver are to a vhost-user back end, in this process: memory, the
 * handshake, and the driver's side of the rings. The back end may live in the same process and
 * event loop, hence everything that waits for it is a promise.
 *
 *     await frontEnd.connect();
 *     const response = await frontEnd.request(0, getDisplayInfo, 408);
 *
 * Rejections are FrontEndError.
 */
export class FrontEnd implements Disposable {
  readonly channel: FrontEndChannel;
  readonly memory: SparseMemory;
  /** Called once when the back end is gone or broke the protocol; what was not answered is rejected before. */
  onClosed: ((error: FrontEndError) => void) | null = null;
  /** Called when the back end says that the config space changed. */
  onConfigChanged: (() => void) | null = null;
  readonly #options: FrontEndOptions;
  readonly #resources: DisposableStack;
  readonly #driverFd: OwnedFd;
  readonly #driver: Mapping;
  readonly #onUsed: (UsedCallback | null)[];
  #offered = 0n;
  #features = 0n;
  #protocolFeatures = 0n;
  #queues: readonly FrontEndQueue[] = [];
  #mapped: readonly DriverRegion[] = [];
  #driverMemory: DriverMemory;

  private constructor(options: FrontEndOptions, resources: DisposableStack) {
    this.#options = options;
    this.channel = resources.use(new FrontEndChannel(options.socket));
    this.channel.onClosed = (error) => {
      this.#stopped(error);
      this.onClosed?.(error);
    };
    this.memory = resources.use(SparseMemory.create(options.memory));
    this.#driverFd = resources.use(createMemfd('driver', DRIVER_SIZE));
    this.#driver = resources.use(Mapping.file(this.#driverFd, 0, DRIVER_SIZE, 'read-write'));
    this.#driverMemory = driverMemory(this.#driver);
    this.#onUsed = this.queueSizes.map(() => null);
    this.#resources = resources.move();
  }

  /** Nothing is sent before `connect` or `negotiate`. SysError when the machine is out of something. */
  static create(options: FrontEndOptions): FrontEnd {
    using resources = new DisposableStack();
    return new FrontEnd(options, resources);
  }

  get queueSizes(): readonly number[] {
    return this.#options.queueSizes ?? [256, 16];
  }

  /** Virtio features agreed on. */
  get features(): bigint {
    return this.#features;
  }

  get protocolFeatures(): bigint {
    return this.#protocolFeatures;
  }

  get running(): boolean {
    return this.#queues.length > 0;
  }

  /** `negotiate` and `start`. */
  async connect(): Promise<void> {
    await this.negotiate();
    await this.start();
  }

  /** Everything a VMM says before its guest has a driver. */
  async negotiate(): Promise<void> {
    const { channel } = this;
    this.#offered = await channel.get(wire.VHOST_USER.GET_FEATURES);
    if ((this.#offered & bit(wire.VHOST_USER_F_PROTOCOL_FEATURES)) !== 0n) {
      const offered = await channel.get(wire.VHOST_USER.GET_PROTOCOL_FEATURES);
      this.#protocolFeatures = offered & KNOWN_PROTOCOL_FEATURES & (this.#options.protocolFeatures ?? ~0n);
      channel.send(wire.VHOST_USER.SET_PROTOCOL_FEATURES, wire.VhostUserU64.encode({ u64: this.#protocolFeatures }));
      channel.acknowledged = this.#has(F.REPLY_ACK);
      if (this.#has(F.MQ)) await this.#checkQueueCount();
      if (this.#has(F.BACKEND_REQ)) await this.#openBackendChannel();
    }
    await channel.set(wire.VHOST_USER.SET_OWNER);
  }

  /** Hands over memory and fresh, empty rings, as a driver that was just loaded does. */
  async start(features = this.#options.features ?? ~0n): Promise<void> {
    if (this.running) throw new FrontEndError('refused', 'the front end is started already');
    this.#features = this.#offered & KNOWN_FEATURES & (features | bit(wire.VHOST_USER_F_PROTOCOL_FEATURES));
    await this.channel.set(wire.VHOST_USER.SET_FEATURES, wire.VhostUserU64.encode({ u64: this.#features }));
    if (this.#has(F.STATUS)) await this.#setStatus(DRIVER_STATUS);
    await this.#sendMemory();
    this.#driverMemory = driverMemory(this.#driver);
    this.#queues = this.#createQueues();
    for (const index of this.#queues.keys()) await this.queue(index).start(this.channel, index);
    if ((this.#features & bit(wire.VHOST_USER_F_PROTOCOL_FEATURES)) !== 0n) {
      for (const index of this.#queues.keys()) {
        await this.channel.set(wire.VHOST_USER.SET_VRING_ENABLE, wire.vhost_vring_state.encode({ index, num: 1 }));
      }
    }
    if (this.#has(F.STATUS)) await this.#setStatus(DRIVER_STATUS | ring.VIRTIO_CONFIG_S_DRIVER_OK);
  }

  /**
   * What a VMM does when the guest resets the device: takes the rings back, then resets. Requests
   * that were not answered are rejected with `reset`.
   */
  async stop(): Promise<void> {
    if (!this.running) return;
    for (const index of this.#queues.keys()) {
      await this.channel.call(wire.VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index, num: 0 }));
    }
    this.#stopped(new FrontEndError('reset', 'the device was reset'));
    if (this.#has(F.STATUS)) await this.#setStatus(0);
    else if (this.#has(F.RESET_DEVICE)) await this.channel.set(wire.VHOST_USER.RESET_DEVICE);
  }

  /** Tells the back end of another memory table; contents of addresses in both stay. */
  async setMemory(regions: readonly DriverRegion[]): Promise<void> {
    this.memory.setRegions(regions);
    if (this.running) await this.#sendMemory();
  }

  /** `length` bytes of the device's config space. Needs the protocol feature CONFIG. */
  async readConfig(offset: number, length: number): Promise<Uint8Array> {
    const request = new Uint8Array(wire.VhostUserConfig.size + length);
    request.set(wire.VhostUserConfig.encode({ offset, size: length, flags: 0 }));
    const reply = await this.channel.call(wire.VHOST_USER.GET_CONFIG, request);
    if (reply.length < request.length) throw new FrontEndError('refused', `the back end has no config space of ${length} bytes at ${offset}`);
    return reply.subarray(wire.VhostUserConfig.size);
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    const request = new Uint8Array(wire.VhostUserConfig.size + bytes.length);
    request.set(wire.VhostUserConfig.encode({ offset, size: bytes.length, flags: wire.VHOST_SET_CONFIG_TYPE_FRONTEND }));
    request.set(bytes, wire.VhostUserConfig.size);
    await this.channel.set(wire.VHOST_USER.SET_CONFIG, request);
  }

  /** A queue; another one after each `start`. Throws FrontEndError `reset` when not started. */
  queue(index: number): FrontEndQueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new FrontEndError('reset', `queue ${index} is not running`);
    return queue;
  }

  /** Rings and buffers: what `queue(i).ring.at` and `allocate` point into. */
  get driver(): DriverMemory {
    return this.#driverMemory;
  }

  /** A piece of driver memory for raw chains, as an offset into `driver`; it is free after the next `start`. */
  allocate(length: number): number {
    const at = this.#driverMemory.pool.take(length);
    if (at < 0) throw new FrontEndError('full', `no room for ${length} bytes`);
    return at;
  }

  /**
   * Makes a request available without telling the device: `kick` does. A token unique until its
   * `onUsed`; -1 if the ring is full. No allocation in steady state.
   */
  submit(queue: number, request: Uint8Array, responseSpace: number, length = request.length): number {
    return this.queue(queue).submit(request, responseSpace, length);
  }

  /** Kicks if the device wants to know of what was submitted. */
  kick(queue: number): void {
    this.queue(queue).kick();
  }

  /** Called for every used chain that is not one of `request`; survives `stop` and `start`. */
  onUsed(queue: number, callback: UsedCallback | null): void {
    this.#onUsed[queue] = callback;
    const running = this.#queues[queue];
    if (running !== undefined) running.onUsed = callback;
  }

  /** Submits, kicks, and resolves with a copy of the response. Rejects `full`, `reset`, `closed`. */
  request(queue: number, request: Uint8Array, responseSpace: number): Promise<Uint8Array> {
    return this.queue(queue).request(request, responseSpace);
  }

  [Symbol.dispose](): void {
    this.#stopped(new FrontEndError('closed', 'the front end was disposed'));
    this.#resources[Symbol.dispose]();
  }

  #has(protocolFeature: number): boolean {
    return (this.#protocolFeatures & bit(protocolFeature)) !== 0n;
  }

  #createQueues(): readonly FrontEndQueue[] {
    using resources = new DisposableStack();
    const options = {
      indirect: (this.#features & bit(ring.VIRTIO_RING_F_INDIRECT_DESC)) !== 0n,
      eventIdx: (this.#features & bit(ring.VIRTIO_RING_F_EVENT_IDX)) !== 0n,
      maxSegment: this.#options.maxSegment ?? 65536,
    };
    const queues = this.queueSizes.map((size, index) =>
      resources.use(new FrontEndQueue(this.#driverMemory, { ...options, size }, this.#onUsed[index]!)),
    );
    resources.move();
    return queues;
  }

  #stopped(error: FrontEndError): void {
    const queues = this.#queues;
    this.#queues = [];
    for (const queue of queues) {
      queue[Symbol.dispose]();
      queue.rejectAll(error);
    }
  }

  #setStatus(status: number): Promise<void> {
    return this.channel.set(wire.VHOST_USER.SET_STATUS, wire.VhostUserU64.encode({ u64: BigInt(status) }));
  }

  async #checkQueueCount(): Promise<void> {
    const count = await this.channel.get(wire.VHOST_USER.GET_QUEUE_NUM);
    if (count < this.queueSizes.length) throw new FrontEndError('refused', `the back end has ${count.toString()} queues, not ${this.queueSizes.length}`);
  }

  async #openBackendChannel(): Promise<void> {
    const [ours, theirs] = socketPair();
    using far = theirs;
    const backend = this.#resources.use(new FrontEndChannel(ours, (request) => this.#backendRequest(request)));
    await this.channel.set(wire.VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far]);
    backend.acknowledged = this.#has(F.REPLY_ACK);
  }

  #backendRequest(request: number): bigint {
    if (request !== wire.VHOST_USER_BACKEND.CONFIG_CHANGE_MSG) return 1n;
    this.onConfigChanged?.();
    return 0n;
  }

  async #sendMemory(): Promise<void> {
    const driver = { guestAddress: DRIVER_ADDRESS, size: DRIVER_SIZE };
    const wanted = [...this.memory.regions, driver];
    const fdOf = (region: DriverRegion): BorrowedFd => (region.guestAddress === DRIVER_ADDRESS ? this.#driverFd : this.memory.memfd);
    if (this.#has(F.CONFIGURE_MEM_SLOTS)) await updateSlots(this.channel, this.#mapped, wanted, fdOf);
    else await sendTable(this.channel, wanted, fdOf);
    this.#mapped = wanted;
  }
}

function driverMemory(mapping: Mapping): DriverMemory {
  return { address: DRIVER_ADDRESS, bytes: mapping.bytes, view: mapping.view, pool: new BufferPool(0, DRIVER_SIZE) };
}
