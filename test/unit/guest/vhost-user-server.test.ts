import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import * as wire from '../../../protocols/vhost-user.ts';
import { vring_desc } from '../../../protocols/virtio-ring.ts';
import { FrontEndChannel } from '../../../src/guest/replay/front-end-channel.ts';
import { FrontEnd } from '../../../src/guest/replay/front-end.ts';
import { DRIVER_ADDRESS } from '../../../src/guest/replay/sparse-memory.ts';
import type { GuestMemory } from '../../../src/guest/memory.ts';
import { VhostUserServer } from '../../../src/guest/vhost-user/server.ts';
import type { Chain } from '../../../src/guest/virtio/chain.ts';
import type { VirtioDevice, VirtioTransport } from '../../../src/guest/virtio/device.ts';
import type { Virtqueue } from '../../../src/guest/virtio/queue.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import type { BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { Poll } from '../../../src/sys/poll.ts';
import { UnixConnection, connectUnix, listenUnix, socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

const { VHOST_USER, VHOST_USER_PROTOCOL_F } = wire;
const MIB = 2 ** 20;
const USER = 0x7f00_0000_0000;
const VERSION_1 = 1n << 32n;
const RING_RESET = 1n << 40n;
const PROTOCOL = 1n << 30n;

expectNoLeaks();

/** Notes what it is told, in order, and keeps the chains it pops until it is asked to answer. */
class RecordingDevice implements VirtioDevice {
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

  /** When `call` comes next. */
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
    for (let chain = this.queues[index]!.pop(); chain !== null; chain = this.queues[index]!.pop()) this.chains.push(chain);
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

let directory: string;
let path: string;
let device: RecordingDevice;
let server: VhostUserServer;
let log: string[];
let displaySockets: OwnedFd[];

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

/** A front end that says what a test tells it to. */
class Vmm implements Disposable {
  readonly channel: FrontEndChannel;
  readonly closed: Promise<void>;
  readonly memfd = createMemfd('ram', MIB);
  readonly kick = EventFd.create();
  readonly call = EventFd.create();

  constructor(socket = connectUnix(path)) {
    this.channel = new FrontEndChannel(socket);
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
      wire.vhost_vring_addr.encode({ index, flags, desc_user_addr: USER + offset, avail_user_addr: USER + offset + 0x1000, used_user_addr: USER + offset + 0x2000 }),
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

function region(guestAddress: number, size: number): Uint8Array {
  return wire.VhostUserMemoryRegion.encode({ guest_phys_addr: guestAddress, memory_size: size, userspace_addr: USER + guestAddress, mmap_offset: 0 });
}

function slot(guestAddress: number, size: number): Uint8Array {
  return Buffer.concat([new Uint8Array(8), region(guestAddress, size)]);
}

async function connect(): Promise<Vmm> {
  const attached = device.next('attached');
  const vmm = new Vmm();
  await attached;
  return vmm;
}

/** The front end leaves and the device has been told. */
async function leave(vmm: Vmm): Promise<void> {
  const detached = device.next('detached');
  vmm[Symbol.dispose]();
  await detached;
}

describe('negotiation', () => {
  test('offers the device’s features with those of the rings', async () => {
    const vmm = await connect();
    expect(await vmm.get(VHOST_USER.GET_FEATURES)).toBe(device.features | VERSION_1 | PROTOCOL | (1n << 28n) | (1n << 29n));
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    expect(await vmm.get(VHOST_USER.GET_MAX_MEM_SLOTS)).toBe(509n);
    await leave(vmm);
  });

  test('offers memory slots where a restart of ours ends the connection anyway', async () => {
    const slots = 1n << BigInt(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS);
    const vmm = await connect();
    expect((await vmm.get(VHOST_USER.GET_PROTOCOL_FEATURES)) & slots).toBe(slots);
    await leave(vmm);
    const [ours, theirs] = socketPair();
    using other = VhostUserServer.adopt(ours, new RecordingDevice(), { log: () => undefined });
    using second = new Vmm(theirs);
    expect(other.connected).toBe(true);
    expect((await second.get(VHOST_USER.GET_PROTOCOL_FEATURES)) & slots).toBe(0n);
  });

  test('acknowledged bits that were not offered are logged and left out', async () => {
    const vmm = await connect();
    await vmm.number(VHOST_USER.SET_FEATURES, 2n | VERSION_1 | PROTOCOL | RING_RESET);
    expect(device.calls).toContain('negotiated 0x100000002');
    await vmm.number(VHOST_USER.SET_PROTOCOL_FEATURES, 1n << 16n);
    expect(log.filter((line) => line.includes('not offered'))).toEqual([expect.stringContaining('0x10000000000'), expect.stringContaining('0x10000')]);
    await leave(vmm);
  });

  test('a front end that goes on where another left needs no negotiation', async () => {
    const vmm = await connect();
    await vmm.start(7);
    expect(device.calls).toContain('kicked 0');
    expect(await vmm.base(0)).toBe(7);
    await leave(vmm);
  });

  test('config reads, zeros beyond its end, and refuses what no config space has', async () => {
    const vmm = await connect();
    const read = async (offset: number, size: number): Promise<Uint8Array> =>
      vmm.channel.call(VHOST_USER.GET_CONFIG, Buffer.concat([wire.VhostUserConfig.encode({ offset, size }), new Uint8Array(size)]));
    expect((await read(4, 3)).subarray(12)).toEqual(Uint8Array.of(4, 5, 6));
    expect((await read(14, 4)).subarray(12)).toEqual(Uint8Array.of(14, 15, 0, 0));
    expect(await read(250, 7)).toHaveLength(0);
    expect(await vmm.try(VHOST_USER.SET_CONFIG, Buffer.concat([wire.VhostUserConfig.encode({ offset: 4, size: 2 }), Uint8Array.of(1, 2)]))).toBe('done');
    expect(device.calls).toContain('config 4 1 2');
    await leave(vmm);
  });
});

describe('the back-end channel', () => {
  test('tells of a changed config space', async () => {
    const vmm = await connect();
    expect(device.transport?.configChanged()).toBe(false);
    const [near, far] = socketPair();
    using channel = UnixConnection.adopt(near);
    expect(await vmm.try(VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far])).toBe('done');
    far[Symbol.dispose]();
    expect(device.transport?.configChanged()).toBe(true);
    const message = new Uint8Array(64);
    expect(channel.recv(message, 0, 64)).toBe(12);
    expect(wire.VhostUserHeader.decode(message)).toEqual({ request: wire.VHOST_USER_BACKEND.CONFIG_CHANGE_MSG, flags: 1, size: 0 });
    await leave(vmm);
  });

  test('that is gone is noticed, and no error', async () => {
    const vmm = await connect();
    const [near, far] = socketPair();
    await vmm.try(VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far]);
    near[Symbol.dispose]();
    far[Symbol.dispose]();
    expect(device.transport?.configChanged()).toBe(false);
    expect(device.transport?.configChanged()).toBe(false);
    await leave(vmm);
  });
});

describe('the display socket', () => {
  test('goes to whoever wants it, each time one comes', async () => {
    const vmm = await connect();
    await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [vmm.kick]);
    await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [vmm.kick]);
    expect(displaySockets).toHaveLength(2);
    await leave(vmm);
  });

  test('stays open while nobody wants it, because QEMU spins on a closed one', async () => {
    const [ours, theirs] = socketPair();
    using other = VhostUserServer.adopt(ours, device, { log: () => undefined });
    using vmm = new Vmm(theirs);
    const [near, far] = socketPair();
    using display = UnixConnection.adopt(near);
    expect(await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [far])).toBe('done');
    far[Symbol.dispose]();
    expect(display.recv(new Uint8Array(1), 0, 1)).toBe(-1);
    other[Symbol.dispose]();
    expect(display.recv(new Uint8Array(1), 0, 1)).toBe(0);
  });
});

describe('memory', () => {
  test('slots come and go', async () => {
    const vmm = await connect();
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(0, MIB), [vmm.memfd])).toBe('done');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(2 ** 33, MIB), [vmm.memfd])).toBe('done');
    expect(device.memory?.covers(2 ** 33, MIB)).toBe(true);
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(0, MIB), [vmm.memfd])).toBe('done');
    expect(device.memory?.covers(0, 1)).toBe(false);
    expect(device.calls.filter((call) => call.startsWith('memory'))).toEqual(['memory 1', 'memory 2', 'memory 1']);
    await leave(vmm);
  });

  test('what cannot be is refused, and the table stays', async () => {
    const vmm = await connect();
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(0, MIB))).toBe('refused');
    expect(await vmm.memory()).toBe('done');
    expect(await vmm.memory(0, 2 * MIB)).toBe('refused');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(MIB / 2, MIB), [vmm.memfd])).toBe('refused');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(2 ** 33, 0), [vmm.memfd])).toBe('refused');
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(MIB, MIB))).toBe('refused');
    expect(device.memory?.covers(0, MIB)).toBe(true);
    expect(device.calls.filter((call) => call.startsWith('memory'))).toEqual(['memory 1']);
    await leave(vmm);
  });

  test('that a ring lies in may be sent again, and stops the ring when it is taken away', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.memory()).toBe('done');
    expect(device.queues[0]).not.toBeNull();
    const kicked = device.next('kicked 0');
    vmm.kick.signal();
    await kicked;
    expect(await vmm.memory(2 * MIB)).toBe('done');
    expect(device.calls.slice(-2)).toEqual(['stopped 0', 'memory 1']);
    expect(log.at(-1)).toContain('ring 0 stops');
    await leave(vmm);
  });
});

describe('rings', () => {
  test('run once kicked off and enabled, and are told of each kick', async () => {
    const vmm = await connect();
    await vmm.start();
    const kicked = device.next('kicked 0');
    vmm.kick.signal();
    await kicked;
    expect(device.calls).toEqual(['attached', 'negotiated 0x100000000', 'memory 1', 'started 0', 'kicked 0', 'kicked 0']);
    await leave(vmm);
    expect(device.calls.slice(-3)).toEqual(['stopped 0', 'reset', 'detached']);
  });

  test('need no enabling without protocol features', async () => {
    const vmm = await connect();
    await vmm.number(VHOST_USER.SET_FEATURES, VERSION_1);
    await vmm.memory();
    await vmm.ring(VHOST_USER.SET_VRING_NUM, 1, 16);
    await vmm.addresses(1);
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 1n, [vmm.kick])).toBe('done');
    expect(device.calls).toContain('started 1');
    await leave(vmm);
  });

  test('stop when disabled and go on where they were', async () => {
    const vmm = await connect();
    await vmm.start(5);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 0)).toBe('done');
    expect(device.queues[0]).toBeNull();
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('done');
    expect(device.queues[0]?.base).toBe(5);
    await leave(vmm);
  });

  test('stop when their base is asked for, and need a new kick descriptor', async () => {
    const vmm = await connect();
    await vmm.start(9);
    expect(await vmm.base(0)).toBe(9);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('done');
    expect(device.queues[0]).toBeNull();
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.kick])).toBe('done');
    expect(device.queues[0]?.base).toBe(9);
    await leave(vmm);
  });

  test('a new call descriptor is signalled, so nothing pushed before is missed', async () => {
    const vmm = await connect();
    await vmm.start();
    vmm.call.consume();
    expect(await vmm.number(VHOST_USER.SET_VRING_CALL, 0n, [vmm.call])).toBe('done');
    expect(vmm.call.consume()).toBe(true);
    expect(await vmm.number(VHOST_USER.SET_VRING_CALL, 0x100n)).toBe('done');
    await leave(vmm);
  });

  test.each<[string, (vmm: Vmm) => Promise<string>]>([
    ['size 0', (vmm) => vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 0)],
    ['a size that is no power of two', (vmm) => vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 24)],
    ['a size beyond the limit', (vmm) => vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 2048)],
    ['a base beyond 16 bits', (vmm) => vmm.ring(VHOST_USER.SET_VRING_BASE, 0, 0x1_0000)],
    ['unaligned addresses', (vmm) => vmm.addresses(0, 2)],
    ['logging', (vmm) => vmm.addresses(0, 0, 1)],
    ['no kick descriptor', (vmm) => vmm.number(VHOST_USER.SET_VRING_KICK, 0x100n)],
    ['a kick descriptor that is no eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.memfd])],
    ['a call descriptor that is no eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_CALL, 0n, [vmm.memfd])],
    ['an error descriptor that is no eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_ERR, 0n, [vmm.memfd])],
  ])('are refused with %s, and the connection goes on', async (_name, attempt) => {
    const vmm = await connect();
    expect(await attempt(vmm)).toBe('refused');
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    await leave(vmm);
  });

  test('are not started outside memory, or before they were described', async () => {
    const vmm = await connect();
    await vmm.number(VHOST_USER.SET_FEATURES, VERSION_1 | PROTOCOL);
    await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1);
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.kick])).toBe('refused');
    await vmm.memory();
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('refused');
    await vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 16);
    await vmm.addresses(0, MIB);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('refused');
    await vmm.addresses(0);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('done');
    await leave(vmm);
  });

  test('do not change while they run', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 32)).toBe('refused');
    expect(await vmm.ring(VHOST_USER.SET_VRING_BASE, 0, 1)).toBe('refused');
    expect(await vmm.addresses(0)).toBe('done');
    expect(await vmm.addresses(0, MIB)).toBe('refused');
    expect(device.queues[0]).not.toBeNull();
    await leave(vmm);
  });

  test('that the guest broke tell the front end', async () => {
    const vmm = await connect();
    using error = EventFd.create();
    await vmm.number(VHOST_USER.SET_VRING_ERR, 0n, [error]);
    await vmm.start();
    const broken = new Promise<void>((resolve) => {
      const poll = Poll.readable(error, () => {
        poll[Symbol.dispose]();
        resolve();
      });
    });
    device.memory?.copyIn(0x1000, Uint8Array.of(0, 0, 0xff, 0xff), 0, 4);
    vmm.kick.signal();
    await broken;
    expect(device.queues[0]?.broken).toContain('further ahead');
    expect(log.at(-1)).toContain('guest broke ring 0');
    await leave(vmm);
  });
});

describe('chains in flight', () => {
  async function withChain(): Promise<{ frontEnd: FrontEnd; answered: Promise<Uint8Array> }> {
    const frontEnd = FrontEnd.create({ socket: connectUnix(path), memory: [{ guestAddress: 0, size: MIB }] });
    await frontEnd.connect();
    const kicked = device.next('kicked 0');
    const answered = frontEnd.request(0, Uint8Array.of(1), 4);
    answered.catch(() => undefined);
    await kicked;
    return { frontEnd, answered };
  }

  test('can be answered later', async () => {
    const { frontEnd, answered } = await withChain();
    device.chains[0]!.write(0, Uint8Array.of(6, 7), 0, 2);
    device.queues[0]!.push(device.chains[0]!, 2);
    expect(await answered).toEqual(Uint8Array.of(6, 7));
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });

  test('can be given back while the ring stops, and memory is there until then', async () => {
    const { frontEnd, answered } = await withChain();
    device.pushesWhenStopped = true;
    await frontEnd.channel.call(VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index: 0 }));
    expect(await answered).toHaveLength(0);
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });

  test('end before the device hears that the guest stands still, and that before the front end goes on', async () => {
    const { frontEnd, answered } = await withChain();
    device.calls.length = 0;
    await frontEnd.channel.call(VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index: 0 }));
    expect(device.calls).toEqual(['stopped 0']);
    await frontEnd.channel.call(VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index: 1 }));
    expect(device.calls).toEqual(['stopped 0', 'stopped 1', 'halted']);
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await Promise.allSettled([detached, answered]);
  });

  test('survive a change of memory', async () => {
    const { frontEnd, answered } = await withChain();
    await frontEnd.setMemory([{ guestAddress: 0, size: MIB }, { guestAddress: 2 ** 33, size: MIB }]);
    device.chains[0]!.write(0, Uint8Array.of(5), 0, 1);
    device.queues[0]!.push(device.chains[0]!, 1);
    expect(await answered).toEqual(Uint8Array.of(5));
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });

  test('of a hostile driver break only that ring', async () => {
    const { frontEnd } = await withChain();
    const { ring } = frontEnd.queue(0);
    ring.setDescriptor(5, DRIVER_ADDRESS, 8, 1, 5);
    ring.publish(5);
    const kicked = device.next('kicked 0');
    frontEnd.queue(0).forceKick();
    await kicked;
    expect(device.queues[0]?.broken).toContain('loop');
    const other = device.next('kicked 1');
    void frontEnd.request(1, new Uint8Array(vring_desc.size), 0).catch(() => undefined);
    await other;
    expect(device.queues[1]?.broken).toBeNull();
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });
});

describe('reset', () => {
  test('RESET_DEVICE stops the rings and keeps the memory', async () => {
    const vmm = await connect();
    await vmm.start(3);
    device.calls.length = 0;
    expect(await vmm.try(VHOST_USER.RESET_DEVICE)).toBe('done');
    expect(device.calls).toEqual(['stopped 0', 'reset', 'negotiated 0x100000000', 'memory 1']);
    await vmm.start();
    expect(device.queues[0]?.base).toBe(0);
    await leave(vmm);
  });

  test('a ring that starts over was reset, one that goes on was paused', async () => {
    const vmm = await connect();
    await vmm.start(3);
    expect(await vmm.base(0)).toBe(3);
    await vmm.start(3);
    expect(device.calls).not.toContain('reset');
    expect(await vmm.base(0)).toBe(3);
    await vmm.start(0);
    expect(device.calls.filter((call) => call === 'reset')).toHaveLength(1);
    await leave(vmm);
  });

  test('RESET_OWNER only stops the rings', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.try(VHOST_USER.SET_OWNER)).toBe('done');
    expect(await vmm.try(VHOST_USER.RESET_OWNER)).toBe('done');
    expect(device.calls.at(-1)).toBe('stopped 0');
    await leave(vmm);
  });
});

describe('a front end that makes no sense is disconnected, and the next one is served', () => {
  const header = (request: number, size = 0, flags = 1): Uint8Array => wire.VhostUserHeader.encode({ request, flags, size });

  test.each<[string, (vmm: Vmm) => void]>([
    ['an unknown request', (vmm) => vmm.channel.sendRaw(header(99))],
    ['a request that was not offered', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.SET_LOG_FD))],
    ['another protocol version', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.GET_FEATURES, 0, 2))],
    ['an impossible size', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.SET_FEATURES, 0xffff_ffff))],
    ['a ring that is not there', (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_NUM, wire.vhost_vring_state.encode({ index: 2, num: 16 }))],
    ['a kick for a ring that is not there', (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_KICK, wire.VhostUserU64.encode({ u64: 255n }), [vmm.kick])],
    ['an enable that is neither 0 nor 1', (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_ENABLE, wire.vhost_vring_state.encode({ index: 0, num: 2 }))],
    ['surplus descriptors', (vmm) => vmm.channel.send(VHOST_USER.GET_FEATURES, undefined, [vmm.kick, vmm.memfd])],
    ['missing descriptors', (vmm) => vmm.channel.send(VHOST_USER.ADD_MEM_REG, slot(0, MIB))],
    ['a descriptor flood', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.SET_MEM_TABLE, 264).subarray(0, 5), Array.from({ length: 200 }, () => vmm.memfd))],
    ['a refused request nobody asked an answer of', (vmm) => vmm.channel.send(VHOST_USER.ADD_MEM_REG, slot(0, 0), [vmm.memfd])],
    ['noise', (vmm) => vmm.channel.sendRaw(new Uint8Array(500).fill(0xa5))],
  ])('%s', async (_name, send) => {
    const bad = await connect();
    const detached = device.next('detached');
    send(bad);
    await Promise.all([bad.closed, detached]);
    bad[Symbol.dispose]();
    expect(log.at(-1)).toMatch(/^error: front end disconnected: /);
    const good = await connect();
    await good.start();
    expect(device.calls).toContain('started 0');
    await leave(good);
  });
});

describe('connections', () => {
  test('a second front end is refused while one is there, which notices nothing', async () => {
    const vmm = await connect();
    const second = new Vmm();
    await second.closed;
    second[Symbol.dispose]();
    expect(log.at(-1)).toContain('refused a second front end');
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    await leave(vmm);
  });

  test('come and go without a restart', async () => {
    for (let round = 0; round < 3; round++) {
      const vmm = await connect();
      await vmm.start();
      await leave(vmm);
    }
    expect(device.calls.filter((call) => call === 'started 0')).toHaveLength(3);
    expect(server.connected).toBe(false);
  });

  test('the server may go first', async () => {
    const vmm = await connect();
    await vmm.start();
    server[Symbol.dispose]();
    expect(device.calls.slice(-3)).toEqual(['stopped 0', 'reset', 'detached']);
    await vmm.closed;
    vmm[Symbol.dispose]();
  });

  test('the server may be disposed from inside a call of its device', async () => {
    const vmm = await connect();
    vi.spyOn(device, 'queueStarted').mockImplementation(() => server[Symbol.dispose]());
    await vmm.start().catch(() => undefined);
    await vmm.closed;
    expect(device.calls.at(-1)).toBe('detached');
    vmm[Symbol.dispose]();
  });

  test('an inherited listening socket serves one after the other', async () => {
    const inherited = join(directory, 'inherited');
    const listener = listenUnix(inherited);
    const early = connectUnix(inherited);
    const other = new RecordingDevice();
    using adopted = VhostUserServer.adopt(listener, other, { log: () => undefined });
    expect(adopted.connected).toBe(true);
    const first = new Vmm(early);
    expect(await first.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    const detached = other.next('detached');
    first[Symbol.dispose]();
    await detached;
    using second = new Vmm(connectUnix(inherited));
    expect(await second.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
  });

  test('what is no socket is not served', () => {
    expect(() => VhostUserServer.adopt(createMemfd('no socket', 1), new RecordingDevice(), { log: () => undefined })).toThrow('ENOTSOCK');
  });
});
