import * as wire from '../../../protocols/vhost-user.ts';
import * as ring from '../../../protocols/virtio-ring.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { BorrowedFd, OwnedFd } from '../../sys/fd.ts';
import { Mapping } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { Poll } from '../../sys/poll.ts';
import { socketPair } from '../../sys/socket.ts';
import { BufferPool } from './buffer-pool.ts';
import { type DriverMemory, DriverQueue, type UsedCallback } from './driver-queue.ts';
import { FrontEndChannel, FrontEndError } from './front-end-channel.ts';
import { type MemoryRegion, SparseMemory } from './sparse-memory.ts';

const F = wire.VHOST_USER_PROTOCOL_F;
const bit = (n: number): bigint => 1n << BigInt(n);

/** What this front end can do; a mask in the options takes bits away. */
const KNOWN_PROTOCOL_FEATURES =
  bit(F.MQ) | bit(F.REPLY_ACK) | bit(F.BACKEND_REQ) | bit(F.CONFIG) | bit(F.BACKEND_SEND_FD) | bit(F.RESET_DEVICE) | bit(F.CONFIGURE_MEM_SLOTS) | bit(F.STATUS);

const DRIVER_STATUS = ring.VIRTIO_CONFIG_S_ACKNOWLEDGE | ring.VIRTIO_CONFIG_S_DRIVER | ring.VIRTIO_CONFIG_S_FEATURES_OK;

/** Rings and buffers of the driver lie here, above any machine's memory. */
const DRIVER_ADDRESS = 2 ** 46;
const DRIVER_SIZE = 64 * 2 ** 20;
/** A front end's virtual addresses are not guest physical ones; keep them apart so that mixing them up fails. */
const USER_BASE = 0x7000_0000_0000;

export interface FrontEndOptions {
  /** Connected to the back end; consumed. */
  readonly socket: OwnedFd;
  readonly memory: readonly MemoryRegion[];
  /** Entries of each queue; the default is a GPU's control and cursor queue in QEMU. */
  readonly queueSizes?: readonly number[];
  /** Virtio features the driver takes of those offered; all unless told otherwise. */
  readonly features?: bigint;
  /** The same for vhost-user protocol features. */
  readonly protocolFeatures?: bigint;
  /** Bytes of a descriptor's buffer at most; default 64 KiB. */
  readonly maxSegment?: number;
}

interface Waiter {
  resolve(response: Uint8Array): void;
  reject(error: FrontEndError): void;
}

interface RunningQueue {
  readonly ring: DriverQueue;
  readonly kick: EventFd;
  readonly waiters: Map<number, Waiter>;
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
  /** Called when the back end says that the config space changed. */
  onConfigChanged: (() => void) | null = null;
  readonly #options: FrontEndOptions;
  readonly #resources: DisposableStack;
  readonly #driverFd: OwnedFd;
  readonly #driver: Mapping;
  readonly #onUsed: (UsedCallback | null)[];
  #features = 0n;
  #protocolFeatures = 0n;
  #offered = 0n;
  #queues: RunningQueue[] = [];
  #running: DisposableStack | null = null;
  #mapped: readonly MemoryRegion[] = [];
  #driverMemory: DriverMemory;

  private constructor(options: FrontEndOptions, resources: DisposableStack) {
    this.#options = options;
    this.channel = resources.use(new FrontEndChannel(options.socket));
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
    return this.#running !== null;
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
    const transport = bit(wire.VHOST_USER_F_PROTOCOL_FEATURES);
    this.#features = this.#offered & ((this.#options.features ?? ~0n) | transport);
  }

  /** Hands over memory and fresh, empty rings, as a driver that was just loaded does. */
  async start(): Promise<void> {
    if (this.#running !== null) throw new FrontEndError('refused', 'the front end is started already');
    await this.channel.set(wire.VHOST_USER.SET_FEATURES, wire.VhostUserU64.encode({ u64: this.#features }));
    if (this.#has(F.STATUS)) await this.#setStatus(DRIVER_STATUS);
    await this.#sendMemory();
    this.#driverMemory = driverMemory(this.#driver);
    const running = (this.#running = new DisposableStack());
    this.#queues = this.queueSizes.map((size) => ({
      ring: new DriverQueue(this.#driverMemory, {
        size,
        indirect: (this.#features & bit(ring.VIRTIO_RING_F_INDIRECT_DESC)) !== 0n,
        eventIdx: (this.#features & bit(ring.VIRTIO_RING_F_EVENT_IDX)) !== 0n,
        maxSegment: this.#options.maxSegment ?? 65536,
      }),
      kick: running.use(EventFd.create()),
      waiters: new Map(),
    }));
    for (let index = 0; index < this.#queues.length; index++) await this.#startQueue(index, running);
    if ((this.#features & bit(wire.VHOST_USER_F_PROTOCOL_FEATURES)) !== 0n) {
      for (let index = 0; index < this.#queues.length; index++) {
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
    if (this.#running === null) return;
    for (let index = 0; index < this.#queues.length; index++) {
      await this.channel.call(wire.VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index, num: 0 }));
    }
    this.#stopped(new FrontEndError('reset', 'the device was reset'));
    if (this.#has(F.STATUS)) await this.#setStatus(0);
    else if (this.#has(F.RESET_DEVICE)) await this.channel.set(wire.VHOST_USER.RESET_DEVICE);
  }

  /** Tells the back end of another memory table; contents of addresses in both stay. */
  async setMemory(regions: readonly MemoryRegion[]): Promise<void> {
    this.memory.setRegions(regions);
    if (this.#running !== null) await this.#sendMemory();
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

  /** The ring of a queue, for raw access; another one after each `start`. */
  queue(index: number): DriverQueue {
    return this.#queue(index).ring;
  }

  /** Rings and buffers: what `queue(i).at` and `allocate` point into. */
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
    return this.#queue(queue).ring.submit(request, responseSpace, length);
  }

  /** Kicks if the device wants to know of what was submitted. */
  kick(queue: number): void {
    const { ring: driverQueue, kick } = this.#queue(queue);
    if (driverQueue.takeKick()) kick.signal();
  }

  /** Kicks, wanted or not. */
  forceKick(queue: number): void {
    const { ring: driverQueue, kick } = this.#queue(queue);
    driverQueue.takeKick();
    kick.signal();
  }

  /** Called for every used chain of a queue that is not one of `request`. */
  onUsed(queue: number, callback: UsedCallback | null): void {
    this.#onUsed[queue] = callback;
  }

  /** Submits, kicks, and resolves with a copy of the response. Rejects `full`, `reset`, `closed`. */
  request(queue: number, request: Uint8Array, responseSpace: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const token = this.submit(queue, request, responseSpace);
      if (token < 0) {
        reject(new FrontEndError('full', `queue ${queue} is full`));
        return;
      }
      this.#queue(queue).waiters.set(token, { resolve, reject });
      this.kick(queue);
    });
  }

  /** Takes used chains back now, without waiting for the device's interrupt. */
  poll(queue: number): number {
    const { ring: driverQueue, waiters } = this.#queue(queue);
    return driverQueue.drain(this.#usedOf(queue, waiters));
  }

  [Symbol.dispose](): void {
    this.#stopped(new FrontEndError('closed', 'the front end was disposed'));
    this.#resources[Symbol.dispose]();
  }

  #queue(index: number): RunningQueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new FrontEndError('reset', `queue ${index} is not running`);
    return queue;
  }

  #has(protocolFeature: number): boolean {
    return (this.#protocolFeatures & bit(protocolFeature)) !== 0n;
  }
