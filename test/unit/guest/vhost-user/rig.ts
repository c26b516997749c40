import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import * as wire from '../../../../protocols/vhost-user.ts';
import type { GuestMemory } from '../../../../src/guest/memory.ts';
import { VhostUserServer } from '../../../../src/guest/vhost-user/server.ts';
import type { Chain } from '../../../../src/guest/virtio/chain.ts';
import type { VirtioDevice, VirtioTransport } from '../../../../src/guest/virtio/device.ts';
import type { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import type { BorrowedFd, OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { connectUnix } from '../../../../src/sys/socket.ts';
import { RawChannel } from '../../../rig/front-end.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

export const { VHOST_USER, VHOST_USER_PROTOCOL_F } = wire;
export const MIB = 2 ** 20;
export const USER = 0x7f00_0000_0000;
export const VERSION_1 = 1n << 32n;
export const RING_RESET = 1n << 40n;
export const PROTOCOL = 1n << 30n;

/** Records its calls in order, and keeps the chains it pops. */
export class RecordingDevice implements VirtioDevice {
  readonly id = 16;
  readonly queueCount = 2;
  readonly features = 2n;
  readonly config = Uint8Array.from({ length: 16 }, (_, i) => i);
  readonly calls: string[] = [];
  readonly queues: (Virtqueue | null)[] = [null, null];
  readonly chains: Chain[] = [];
  transport: VirtioTransport | null = null;
  memory: GuestMemory | null = null;
  pushesWhenStopped = false;
  #waiters: { call: string; resolve: () => void }[] = [];

  /** Resolves at the next call that reads `call`. */
  next(call: string): Promise<void> {
    return new Promise((resolve) => this.#waiters.push({ call, resolve }));
  }

  attached(transport: VirtioTransport): void {
    this.transport = transport;
    this.#note('attached');
  }

  detached(): void {
    this.transport = null;
    this.#note('detached');
  }

  negotiated(features: bigint): void {
    this.#note(`negotiated 0x${features.toString(16)}`);
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    this.#note(`config ${offset} ${bytes.join(' ')}`);
  }

  memoryChanged(memory: GuestMemory): void {
    this.memory = memory;
    this.#note(`memory ${memory.regionCount}`);
  }

  queueStarted(index: number, queue: Virtqueue): void {
    this.queues[index] = queue;
    this.#note(`started ${index}`);
  }

  queueStopped(index: number): void {
    if (this.pushesWhenStopped) for (const chain of this.chains.splice(0)) this.queues[index]!.push(chain, 0);
    this.chains.length = 0;
    this.queues[index] = null;
    this.#note(`stopped ${index}`);
  }

  halted(): void {
    this.#note('halted');
  }

  kicked(index: number): void {
    for (let chain = this.queues[index]!.pop(); chain !== null; chain = this.queues[index]!.pop())
      this.chains.push(chain);
    this.#note(`kicked ${index}`);
  }

  reset(): void {
    this.#note('reset');
  }

  #note(call: string): void {
    this.calls.push(call);
    const due = this.#waiters.filter((waiter) => waiter.call === call);
    this.#waiters = this.#waiters.filter((waiter) => waiter.call !== call);
    for (const waiter of due) waiter.resolve();
  }
}

export let directory: string;
export let path: string;
export let device: RecordingDevice;
export let server: VhostUserServer;
export let log: string[];
export let displaySockets: OwnedFd[];

/** Gives each test of the file a server with a device at `path`, and checks that it leaks nothing. */
export function useServer(): void {
  expectNoLeaks();
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vhost-user-'));
    path = join(directory, 'socket');
    device = new RecordingDevice();
    log = [];
    displaySockets = [];
    server = VhostUserServer.listen(path, device, {
      log: (level, message) => log.push(`${level}: ${message}`),
      onDisplaySocket: (fd) => displaySockets.push(fd),
    });
  });
  afterEach(() => {
    server[Symbol.dispose]();
    for (const fd of displaySockets) fd[Symbol.dispose]();
    expect(existsSync(path)).toBe(false);
    rmSync(directory, { recursive: true });
  });
}

/** A front end that sends whatever a test wants. */
export class Vmm implements Disposable {
  readonly channel: RawChannel;
  readonly closed: Promise<void>;
  readonly memfd = createMemfd('ram', MIB);
  readonly kick = EventFd.create();
  readonly call = EventFd.create();

  constructor(socket = connectUnix(path)) {
    this.channel = new RawChannel(socket);
    this.channel.acknowledged = true;
    this.closed = new Promise((resolve) => (this.channel.onClosed = () => resolve()));
  }

  get(request: number): Promise<bigint> {
    return this.channel.get(request);
  }

  /** 'done', 'refused' or 'closed'. */
  async try(request: number, payload?: Uint8Array, fds?: readonly BorrowedFd[]): Promise<string> {
    try {
      await this.channel.set(request, payload, fds);
      return 'done';
    } catch (error) {
      return (error as { code: string }).code;
    }
  }

  number(request: number, u64: bigint, fds?: readonly BorrowedFd[]): Promise<string> {
    return this.try(request, wire.VhostUserU64.encode({ u64 }), fds);
  }

  ring(request: number, index: number, num: number): Promise<string> {
    return this.try(request, wire.vhost_vring_state.encode({ index, num }));
  }

  memory(guestAddress = 0, size = MIB): Promise<string> {
    const table = Buffer.concat([wire.VhostUserMemory.encode({ nregions: 1 }), region(guestAddress, size)]);
    return this.try(VHOST_USER.SET_MEM_TABLE, table, [this.memfd]);
  }

  addresses(index: number, offset = 0, flags = 0): Promise<string> {
    return this.try(
      VHOST_USER.SET_VRING_ADDR,
      wire.vhost_vring_addr.encode({
        index,
        flags,
        desc_user_addr: USER + offset,
        avail_user_addr: USER + offset + 0x1000,
        used_user_addr: USER + offset + 0x2000,
      }),
    );
  }

  /** Everything up to a running ring 0. */
  async start(base = 0): Promise<void> {
    const outcomes = [
      await this.number(VHOST_USER.SET_FEATURES, VERSION_1 | PROTOCOL),
      await this.memory(),
      await this.ring(VHOST_USER.SET_VRING_NUM, 0, 16),
      await this.ring(VHOST_USER.SET_VRING_BASE, 0, base),
      await this.addresses(0),
      await this.number(VHOST_USER.SET_VRING_CALL, 0n, [this.call]),
      await this.number(VHOST_USER.SET_VRING_KICK, 0n, [this.kick]),
      await this.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1),
    ];
    expect(outcomes).toEqual(outcomes.map(() => 'done'));
  }

  async base(index: number): Promise<number> {
    const reply = await this.channel.call(VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index }));
    return wire.vhost_vring_state.decode(reply).num;
  }

  [Symbol.dispose](): void {
    this.channel[Symbol.dispose]();
    this.memfd[Symbol.dispose]();
    this.kick[Symbol.dispose]();
    this.call[Symbol.dispose]();
  }
}

export function region(guestAddress: number, size: number): Uint8Array {
  return wire.VhostUserMemoryRegion.encode({
    guest_phys_addr: guestAddress,
    memory_size: size,
    userspace_addr: USER + guestAddress,
    mmap_offset: 0,
  });
}

export function slot(guestAddress: number, size: number): Uint8Array {
  return Buffer.concat([new Uint8Array(8), region(guestAddress, size)]);
}

export async function connect(): Promise<Vmm> {
  const attached = device.next('attached');
  const vmm = new Vmm();
  await attached;
  return vmm;
}

/** Disposes the front end and waits until the device is detached. */
export async function leave(vmm: Vmm): Promise<void> {
  const detached = device.next('detached');
  vmm[Symbol.dispose]();
  await detached;
}
