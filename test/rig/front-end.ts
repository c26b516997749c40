/** What tests need of a vhost-user front end beyond what a replay does: requests with promises, and ill behaviour. */
import * as wire from '../../protocols/vhost-user.ts';
import type { DriverMemory, DriverRegion } from '../../src/guest/replay/driver-memory.ts';
import type { DriverQueueOptions, UsedCallback } from '../../src/guest/replay/driver-queue.ts';
import { encodeRegion, type FrontEndOptions, ReplayFrontEnd } from '../../src/guest/replay/front-end.ts';
import { FrontEndChannel, FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { Poll } from '../../src/sys/poll.ts';
import { socketPair, UnixConnection } from '../../src/sys/socket.ts';
import { HostileQueue } from './hostile-queue.ts';

const F = wire.VHOST_USER_PROTOCOL_F;
const HEADER_SIZE = wire.VhostUserHeader.size;

/** All protocol features that a back end of this project offers. */
const PROTOCOL_FEATURES = [F.MQ, F.REPLY_ACK, F.BACKEND_REQ, F.CONFIG, F.RESET_DEVICE, F.CONFIGURE_MEM_SLOTS].reduce(
  (bits, bit) => bits | (1n << BigInt(bit)),
  0n,
);

export interface TestFrontEndOptions extends FrontEndOptions {
  /** Virtio features that `start` acknowledges of those offered; default all. */
  readonly features?: bigint;
}

/** A channel that can also send bytes which are no message. */
export class RawChannel extends FrontEndChannel {
  /** `fds` are borrowed. */
  sendRaw(bytes: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    this.connection.send(bytes, fds);
  }
}

interface Waiter {
  resolve(response: Uint8Array): void;
  reject(error: FrontEndError): void;
}

/**
 * A VMM and its guest's driver, in this process:
 *
 *     using frontEnd = FrontEnd.create({ socket, memory: [{ guestAddress: 0, size: 2 ** 20 }] });
 *     await frontEnd.connect();
 *     const response = await frontEnd.request(0, getDisplayInfo, 408);
 */
export class FrontEnd extends ReplayFrontEnd {
  declare readonly channel: RawChannel;
  declare driver: DriverMemory;
  declare protocolFeatures: bigint;
  /** Called when the back end says that the config space changed. */
  onConfigChanged: (() => void) | null = null;
  readonly #features: bigint;
  readonly #waiters = new Map<string, Waiter>();
  readonly #listeners: (UsedCallback | undefined)[] = [];
  readonly #stack = new DisposableStack();
  /** The memory slots the back end has. */
  #slots: readonly DriverRegion[] = [];

  private constructor(options: TestFrontEndOptions) {
    super(
      { ...options, protocolFeatures: PROTOCOL_FEATURES & (options.protocolFeatures ?? ~0n) },
      new RawChannel(options.socket),
    );
    this.#features = options.features ?? ~0n;
    this.onStopped = (error) => {
      for (const waiter of this.#waiters.values()) waiter.reject(error);
      this.#waiters.clear();
    };
    this.onUsed = (queue, token, response, written) => this.#used(queue, token, response, written);
  }

  static create(options: TestFrontEndOptions): FrontEnd {
    return new FrontEnd(options);
  }

  /** `negotiate` and `start`. */
  async connect(): Promise<void> {
    await this.negotiate();
    await this.start();
  }

  override async negotiate(): Promise<void> {
    await super.negotiate();
    if (this.has(F.BACKEND_REQ)) await this.#openBackendChannel();
  }

  override start(features = this.#features): Promise<void> {
    return super.start(features);
  }

  /** The ring of a running queue. FrontEndError `reset` before `start`. */
  ring(index: number): HostileQueue {
    const { ring } = this.queue(index);
    if (!(ring instanceof HostileQueue)) throw new TypeError('a ring that `createRing` did not make');
    return ring;
  }

  /** Kicks, whether the device wants it or not. */
  forceKick(index: number): void {
    const { ring, kickFd } = this.queue(index);
    ring.takeKick();
    kickFd.signal();
  }

  /** Called for every used chain of a queue that is not one of `request`; survives `stop` and `start`. */
  whenUsed(queue: number, callback: UsedCallback): void {
    this.#listeners[queue] = callback;
  }

  /** Submits, kicks, and resolves with a copy of the response. Rejects FrontEndError `full`, `reset`, `closed`. */
  request(queue: number, request: Uint8Array, responseSpace: number): Promise<Uint8Array> {
    const token = this.submit(queue, request, responseSpace);
    if (token < 0) return Promise.reject(new FrontEndError('full', 'the ring is full'));
    this.kick(queue);
    return new Promise((resolve, reject) => this.#waiters.set(`${queue} ${token}`, { resolve, reject }));
  }

  /** `length` bytes of the device's config space. Needs the protocol feature CONFIG. */
  async readConfig(offset: number, length: number): Promise<Uint8Array> {
    const request = Buffer.concat([
      wire.VhostUserConfig.encode({ offset, size: length, flags: 0 }),
      new Uint8Array(length),
    ]);
    const reply = await this.channel.call(wire.VHOST_USER.GET_CONFIG, request);
    if (reply.length < request.length)
      throw new FrontEndError('refused', `the back end has no config space of ${length} bytes at ${offset}`);
    return reply.subarray(wire.VhostUserConfig.size);
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    const head = wire.VhostUserConfig.encode({
      offset,
      size: bytes.length,
      flags: wire.VHOST_SET_CONFIG_TYPE_FRONTEND,
    });
    await this.channel.set(wire.VHOST_USER.SET_CONFIG, Buffer.concat([head, bytes]));
  }

  /** A piece of driver memory, as an offset into `driver`. It is free again after the next `start`. */
  allocate(length: number): number {
    const at = this.driver.pool.take(length);
    if (at < 0) throw new FrontEndError('full', `no room for ${length} bytes`);
    return at;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
  }

  protected override createRing(options: DriverQueueOptions): HostileQueue {
    return new HostileQueue(this.driver, options);
  }

  /** With memory slots, ADD_MEM_REG and REM_MEM_REG for what changed. */
  protected override async sendMemory(regions: readonly DriverRegion[]): Promise<void> {
    if (!this.has(F.CONFIGURE_MEM_SLOTS)) return super.sendMemory(regions);
    const isIn = (table: readonly DriverRegion[], { guestAddress, size }: DriverRegion): boolean =>
      table.some((other) => other.guestAddress === guestAddress && other.size === size);
    for (const region of this.#slots)
      if (!isIn(regions, region)) await this.channel.set(wire.VHOST_USER.REM_MEM_REG, slot(region));
    for (const region of regions)
      if (!isIn(this.#slots, region))
        await this.channel.set(wire.VHOST_USER.ADD_MEM_REG, slot(region), [this.fdOf(region)]);
    this.#slots = regions;
  }

  #used(queue: number, token: number, response: Uint8Array, written: number): void {
    const key = `${queue} ${token}`;
    const waiter = this.#waiters.get(key);
    this.#waiters.delete(key);
    if (waiter) waiter.resolve(response.slice());
    else this.#listeners[queue]?.(token, response, written);
  }

  async #openBackendChannel(): Promise<void> {
    const [ours, theirs] = socketPair();
    using far = theirs;
    this.#stack.use(new BackendRequests(ours, () => this.onConfigChanged?.()));
    await this.channel.set(wire.VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far]);
  }
}

/** The channel on which the back end sends requests; CONFIG_CHANGE_MSG, which is a header only, is the one there is. */
class BackendRequests implements Disposable {
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #bytes = new Uint8Array(HEADER_SIZE);

  constructor(socket: OwnedFd, onConfigChanged: () => void) {
    this.#connection = UnixConnection.adopt(socket);
    this.#poll = Poll.readable(this.#connection, () => {
      const count = this.#connection.recv(this.#bytes, 0, HEADER_SIZE);
      if (count === 0) this.#poll[Symbol.dispose]();
      if (
        count === HEADER_SIZE &&
        wire.VhostUserHeader.decode(this.#bytes).request === wire.VHOST_USER_BACKEND.CONFIG_CHANGE_MSG
      )
        onConfigChanged();
    });
  }

  [Symbol.dispose](): void {
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }
}

/** The payload of ADD_MEM_REG and REM_MEM_REG. */
function slot(region: DriverRegion): Uint8Array {
  const payload = new Uint8Array(wire.VhostUserMemRegMsg.size);
  payload.set(encodeRegion(region), wire.VhostUserMemRegMsg.offset.region);
  return payload;
}
