import * as wire from '../../../protocols/vhost-user.ts';
import {
  VIRTIO_F_VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../../protocols/virtio-ring.ts';
import type { Log } from '../../core/log.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { SysError } from '../../sys/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import { Pump } from '../../sys/pump.ts';
import { UnixConnection } from '../../sys/socket.ts';
import { GuestMemory, GuestMemoryError, type RegionDescription } from '../memory.ts';
import type { VirtioDevice, VirtioTransport } from '../virtio/device.ts';
import { type RawMessage, VhostUserConnection } from './connection.ts';
import { VhostUserError } from './errors.ts';
import { type FrontEndMessage, decode } from './messages.ts';
import { Ring } from './ring.ts';

const { VHOST_USER, VHOST_USER_PROTOCOL_F: F } = wire;

const EVENT_IDX = bit(VIRTIO_RING_F_EVENT_IDX);
const INDIRECT_DESC = bit(VIRTIO_RING_F_INDIRECT_DESC);

/** A feature of vhost-user alone, never passed to a device: protocol features, and SET_VRING_ENABLE, are in use. */
const HAS_PROTOCOL_FEATURES = bit(wire.VHOST_USER_F_PROTOCOL_FEATURES);

/** Offered for every device, together with its own features. */
const TRANSPORT_FEATURES = bit(VIRTIO_F_VERSION_1) | INDIRECT_DESC | EVENT_IDX | HAS_PROTOCOL_FEATURES;

/**
 * STATUS is left out: QEMU sends status 0 for a guest that is merely paused as well, whose screen must
 * stay. Real resets show as RESET_DEVICE, or as rings that start over at index 0.
 */
const PROTOCOL_FEATURES = bit(F.MQ) | bit(F.REPLY_ACK) | bit(F.BACKEND_REQ) | bit(F.CONFIG) | bit(F.RESET_DEVICE);
const MEMORY_SLOTS = bit(F.CONFIGURE_MEM_SLOTS);

const NOTHING = new Uint8Array(0);
const DONE = u64(0n);
const REFUSED = u64(1n);
const CONFIG_CHANGED = wire.VhostUserHeader.encode({
  request: wire.VHOST_USER_BACKEND.CONFIG_CHANGE_MSG,
  flags: wire.VHOST_USER_VERSION,
});

export interface BackendOptions {
  readonly log?: Log | undefined;
  /**
   * Takes the socket of the VMM's own display, a new one after each reset or pause. Do not close it before the
   * VMM has: QEMU 10.0 spins on a socket that its peer closed first.
   */
  readonly onDisplaySocket?: ((fd: OwnedFd) => void) | undefined;
  /**
   * Whether to offer memory slots, which let one region come or go alone. QEMU then sends each region only
   * once, and not again to a back end that took over the connection: such a back end must not offer them.
   */
  readonly memorySlots: boolean;
  /** Whether memory that the VMM can truncate is accepted: see GuestMemoryOptions. Default false. */
  readonly allowUnsealedMemory?: boolean | undefined;
  /**
   * The front end is gone (null), or something that it sent or did could not be handled: VhostUserError,
   * GuestMemoryError, SysError, or any other error if this program has a bug. Called once, after the back end was
   * disposed; not when the caller disposes it.
   */
  readonly onEnded: (error: unknown) => void;
}

/**
 * The back end's side of the vhost-user protocol for one connection (docs/interop/vhost-user.rst of QEMU).
 * Disposing it resets and detaches the device.
 *
 * Requests are checked against what this back end offers, not against what the front end acknowledged
 * with SET_PROTOCOL_FEATURES. That is a deliberate deviation from the specification (rust-vmm checks
 * both): a back end that takes over a connection after a restart talks to a front end that negotiated
 * with the process before it and never does so again, so what was acknowledged is not known.
 */
export class VhostUserBackend implements VirtioTransport, Disposable {
  readonly #connection: VhostUserConnection;
  readonly #poll: Poll;
  readonly #messages: Pump;
  readonly #device: VirtioDevice;
  readonly #options: BackendOptions;
  readonly #log: Log;
  readonly #rings: readonly Ring[];
  readonly #channel: BackendChannel;
  #memory: GuestMemory | null = null;
  /** The features that the driver acknowledged, of those offered; null before it did. */
  #features: bigint | null = null;
  /** Kept open where there is no `onDisplaySocket`. */
  #displaySocket: OwnedFd | null = null;
  #disposed = false;

  /** Consumes `socket`, which is connected to a front end. */
  constructor(socket: OwnedFd, device: VirtioDevice, options: BackendOptions) {
    using stack = new DisposableStack();
    this.#device = device;
    this.#options = options;
    this.#log = options.log ?? (() => undefined);
    this.#connection = stack.use(new VhostUserConnection(socket));
    this.#messages = stack.use(new Pump(() => this.#handleNext()));
    this.#poll = stack.use(Poll.readable(this.#connection, () => this.#messages.start()));
    this.#connection.onDrained = () => {
      this.#poll.resume();
      this.#messages.start();
    };
    this.#channel = new BackendChannel(this.#log);
    this.#rings = Array.from(
      { length: device.queueCount },
      (_, index) => new Ring(index, device, this.#log, (error) => this.#end(error)),
    );
    device.attached(this);
    stack.move();
  }

  configChanged(): boolean {
    return this.#channel.configChanged();
  }

  failed(error: unknown): void {
    this.#end(error);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const ring of this.#rings) this.#stop(ring);
    this.#device.reset();
    this.#device.detached();
    this.#displaySocket?.[Symbol.dispose]();
    this.#channel[Symbol.dispose]();
    for (const ring of this.#rings.toReversed()) ring[Symbol.dispose]();
    this.#memory?.[Symbol.dispose]();
    this.#messages[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  /** Handles one message; false if none has arrived in full, or the front end does not read its replies. */
  #handleNext(): boolean {
    try {
      if (this.#connection.isCongested) {
        this.#poll.pause();
        return false;
      }
      const raw = this.#connection.receive();
      if (raw === null) {
        if (this.#connection.ended) this.#end(null);
        return false;
      }
      this.#answer(raw);
    } catch (error) {
      this.#end(error);
    }
    return true;
  }

  /**
   * Ends the connection. For any error, a bug of this program included: the process serves others too. Does nothing if
   * the caller has disposed the back end meanwhile.
   */
  #end(error: unknown): void {
    if (this.#disposed) return;
    this[Symbol.dispose]();
    this.#options.onEnded(error);
  }

  #answer({ request, needReply, payload, fds }: RawMessage): void {
    try {
      const reply = this.#handle(decode(request, payload, fds));
      if (this.#disposed) return;
      if (reply !== null) this.#connection.reply(request, reply);
      else if (needReply) this.#connection.reply(request, DONE);
    } catch (error) {
      if (!isRefusal(error) || !needReply) throw error;
      this.#log('warn', `refused ${wire.requestName(request)}: ${error.message}`);
      this.#connection.reply(request, REFUSED);
    }
  }

  /**
   * Does what a message asks and returns the payload of its reply; null if it has none. Consumes its
   * descriptors. VhostUserError, GuestMemoryError, and SysError if the host runs out of something.
   */
  #handle(message: FrontEndMessage): Uint8Array | null {
    switch (message.request) {
      case VHOST_USER.GET_FEATURES:
        return u64(this.#offered);
      case VHOST_USER.SET_FEATURES:
        this.#setFeatures(message.bits);
        return null;
      case VHOST_USER.GET_PROTOCOL_FEATURES:
        return u64(this.#offeredProtocol);
      case VHOST_USER.SET_PROTOCOL_FEATURES:
        this.#withoutUnoffered('protocol feature', message.bits, this.#offeredProtocol);
        return null;
      case VHOST_USER.GET_QUEUE_NUM:
        return u64(BigInt(this.#rings.length));
      case VHOST_USER.GET_MAX_MEM_SLOTS:
        this.#mustOfferSlots(message.request);
        return u64(BigInt(wire.VHOST_USER_MAX_RAM_SLOTS));
      case VHOST_USER.SET_OWNER:
        return null;
      case VHOST_USER.RESET_OWNER:
        for (const ring of this.#rings) this.#halt(ring);
        return null;
      case VHOST_USER.RESET_DEVICE:
        this.#reset();
        return null;
      case VHOST_USER.SET_MEM_TABLE:
        this.#setMemory(this.#map(message.regions, message.fds));
        return null;
      case VHOST_USER.ADD_MEM_REG:
        this.#mustOfferSlots(message.request, message.fd);
        this.#addMemory(message);
        return null;
      case VHOST_USER.REM_MEM_REG:
        this.#mustOfferSlots(message.request);
        if (this.#memory === null) throw new VhostUserError('memory', 'cannot remove a memory region: there is none');
        this.#setMemory(this.#memory.without(message.region));
        return null;
      case VHOST_USER.SET_VRING_NUM:
        this.#ring(message.ring).setSize(message.value);
        return null;
      case VHOST_USER.SET_VRING_BASE:
        this.#setBase(this.#ring(message.ring), message.value);
        return null;
      case VHOST_USER.SET_VRING_ADDR:
        if (message.flags !== 0)
          throw new VhostUserError('ring', 'SET_VRING_ADDR asks for logging of ring writes, which was not offered');
        this.#ring(message.ring).setAddresses(message.addresses, this.#memory);
        return null;
      case VHOST_USER.GET_VRING_BASE: {
        const ring = this.#ring(message.ring);
        this.#halt(ring);
        if (this.#rings.every(({ queue }) => queue === null)) this.#device.halted();
        return wire.vhost_vring_state.encode({ index: ring.index, num: ring.base });
      }
      case VHOST_USER.SET_VRING_KICK: {
        const ring = this.#ring(message.ring, message.fd);
        ring.setKick(message.fd);
        this.#update(ring);
        return null;
      }
      case VHOST_USER.SET_VRING_CALL:
        this.#ring(message.ring, message.fd).setCall(message.fd);
        return null;
      case VHOST_USER.SET_VRING_ERR:
        this.#ring(message.ring, message.fd).setError(message.fd);
        return null;
      case VHOST_USER.SET_VRING_ENABLE: {
        const ring = this.#ring(message.ring);
        if (message.value > 1) throw new VhostUserError('message', `SET_VRING_ENABLE of ${message.value}`);
        ring.enabled = message.value === 1;
        this.#update(ring);
        return null;
      }
      case VHOST_USER.GET_CONFIG:
        return this.#readConfig(message.offset, message.length);
      case VHOST_USER.SET_CONFIG:
        this.#device.writeConfig(message.offset, message.bytes);
        return null;
      case VHOST_USER.SET_BACKEND_REQ_FD:
        this.#channel.connect(message.fd);
        return null;
      case VHOST_USER.GPU_SET_SOCKET:
        this.#takeDisplaySocket(message.fd);
        return null;
    }
  }

  get #offered(): bigint {
    return this.#device.features | TRANSPORT_FEATURES;
  }

  get #offeredProtocol(): bigint {
    return this.#options.memorySlots ? PROTOCOL_FEATURES | MEMORY_SLOTS : PROTOCOL_FEATURES;
  }

  #takeDisplaySocket(fd: OwnedFd): void {
    if (this.#options.onDisplaySocket !== undefined) {
      this.#options.onDisplaySocket(fd);
      return;
    }
    this.#displaySocket?.[Symbol.dispose]();
    this.#displaySocket = fd;
  }

  /** The ring `index`. Closes `fd` if there is none. */
  #ring(index: number, fd: OwnedFd | null = null): Ring {
    const ring = this.#rings[index];
    if (ring !== undefined) return ring;
    fd?.[Symbol.dispose]();
    throw new VhostUserError('message', `there is no ring ${index}; the device has ${this.#rings.length}`);
  }

  #setFeatures(acknowledged: bigint): void {
    this.#features = this.#withoutUnoffered('feature', acknowledged, this.#offered);
    this.#device.negotiated(this.#features & ~HAS_PROTOCOL_FEATURES);
  }

  /** QEMU's generic devices pass on acknowledged bits that only QEMU offered. */
  #withoutUnoffered(what: string, acknowledged: bigint, offered: bigint): bigint {
    const unoffered = acknowledged & ~offered;
    if (unoffered !== 0n) this.#log('info', `ignoring ${what} bits that were not offered: 0x${unoffered.toString(16)}`);
    return acknowledged & offered;
  }

  /** Closes `fd` if this connection was not offered memory slots. */
  #mustOfferSlots(request: number, fd: OwnedFd | null = null): void {
    if (this.#options.memorySlots) return;
    fd?.[Symbol.dispose]();
    throw new VhostUserError('request', `${wire.requestName(request)} was not offered on this connection`);
  }

  #addMemory({ region, fd }: { readonly region: RegionDescription; readonly fd: OwnedFd }): void {
    if (this.#memory !== null && this.#memory.regionCount >= wire.VHOST_USER_MAX_RAM_SLOTS) {
      fd[Symbol.dispose]();
      throw new VhostUserError(
        'memory',
        `cannot add a memory region: there are ${wire.VHOST_USER_MAX_RAM_SLOTS} already`,
      );
    }
    this.#setMemory(this.#memory === null ? this.#map([region], [fd]) : this.#memory.with(region, fd));
  }

  #map(regions: readonly RegionDescription[], fds: readonly OwnedFd[]): GuestMemory {
    return GuestMemory.map(regions, fds, { allowUnsealed: this.#options.allowUnsealedMemory ?? false });
  }

  /** Takes over `memory`. */
  #setMemory(memory: GuestMemory): void {
    const old = this.#memory;
    this.#memory = memory;
    for (const ring of this.#rings) {
      if (ring.queue === null) continue;
      try {
        ring.remap(memory);
      } catch (error) {
        if (!isPeerFault(error)) throw error;
        this.#log('error', `ring ${ring.index} stops: ${error.message}`);
        this.#halt(ring);
      }
    }
    this.#device.memoryChanged(memory);
    old?.[Symbol.dispose]();
  }

  /**
   * A ring that starts over at 0 means a reset for which the front end had no message (QEMU before 9.1). One that
   * was only paused resumes at its index.
   */
  #setBase(ring: Ring, base: number): void {
    const startsOver = base === 0 && ring.base !== 0;
    if (startsOver && this.#rings.every(({ queue }) => queue === null)) this.#reset();
    ring.setBase(base);
  }

  #reset(): void {
    for (const ring of this.#rings) {
      this.#halt(ring);
      ring.enabled = null;
      ring.setBase(0);
    }
    this.#device.reset();
    // The memory table survives a reset, and an older front end sends the features before the reset shows.
    if (this.#features !== null) this.#device.negotiated(this.#features & ~HAS_PROTOCOL_FEATURES);
    if (this.#memory !== null) this.#device.memoryChanged(this.#memory);
  }

  /** Starts or stops a ring, whichever its state now calls for. */
  #update(ring: Ring): void {
    const features = this.#features ?? 0n;
    const enabled = ring.enabled ?? (features & HAS_PROTOCOL_FEATURES) === 0n;
    if (!enabled) this.#stop(ring);
    else if (ring.queue === null && ring.hasKick) this.#start(ring, features);
  }

  #start(ring: Ring, features: bigint): void {
    if (this.#memory === null)
      throw new VhostUserError('ring', `cannot start ring ${ring.index}: no memory table was sent`);
    const queue = ring.start(this.#memory, {
      eventIdx: (features & EVENT_IDX) !== 0n,
      indirect: (features & INDIRECT_DESC) !== 0n,
    });
    this.#device.queueStarted(ring.index, queue);
    // There is no kick for chains made available earlier, for instance on an earlier connection.
    if (ring.queue === queue) this.#device.kicked(ring.index);
  }

  /** The device can still push what it has popped, because the queue stops after the call. */
  #stop(ring: Ring): void {
    if (ring.queue === null) return;
    this.#device.queueStopped(ring.index);
    ring.stop();
  }

  #halt(ring: Ring): void {
    this.#stop(ring);
    ring.halt();
  }

  /**
   * Bytes beyond the device's config space belong to features that were not offered, and read as zero: QEMU 11.1
   * reads 20 bytes of a GPU's. By the specification, an empty reply refuses the request.
   */
  #readConfig(offset: number, length: number): Uint8Array {
    if (offset + length > wire.VHOST_USER_MAX_CONFIG_SIZE) {
      this.#log(
        'warn',
        `refused to read ${length} bytes at ${offset} of the config space, which has at most ${wire.VHOST_USER_MAX_CONFIG_SIZE}`,
      );
      return NOTHING;
    }
    const reply = new Uint8Array(wire.VhostUserConfig.size + length);
    reply.set(wire.VhostUserConfig.encode({ offset, size: length }));
    reply.set(this.#device.config.subarray(offset, offset + length), wire.VhostUserConfig.size);
    return reply;
  }
}

/** The channel on which the back end sends requests to the front end, once it has been given one. No replies come back. */
class BackendChannel implements Disposable {
  readonly #log: Log;
  #connection: UnixConnection | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Consumes `fd`, which replaces the socket in use. */
  connect(fd: OwnedFd): void {
    this[Symbol.dispose]();
    this.#connection = UnixConnection.adopt(fd);
  }

  /** False if the front end cannot be notified. */
  configChanged(): boolean {
    if (this.#connection === null) return false;
    // A queued notification already covers this change.
    if (this.#connection.queuedBytes > 0) return true;
    try {
      this.#connection.send(CONFIG_CHANGED);
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `the front end no longer takes requests from the back end: ${error.message}`);
      this[Symbol.dispose]();
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#connection?.[Symbol.dispose]();
    this.#connection = null;
  }
}

/** Ends the connection at most: the front end broke the protocol, or the host has no room for what it asked. */
export function isPeerFault(error: unknown): error is VhostUserError | GuestMemoryError | SysError {
  return error instanceof VhostUserError || error instanceof GuestMemoryError || error instanceof SysError;
}

/** The request was understood and cannot be granted; the stream goes on if the front end asked for an answer. */
function isRefusal(error: unknown): error is VhostUserError | GuestMemoryError {
  return error instanceof GuestMemoryError || (error instanceof VhostUserError && !error.closes);
}

/** A payload of one number. */
function u64(value: bigint): Uint8Array {
  return wire.VhostUserU64.encode({ u64: value });
}

function bit(number: number): bigint {
  return 1n << BigInt(number);
}
