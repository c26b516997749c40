import { describe, expect, test } from 'vitest';
import * as wire from '../../../../protocols/vhost-user.ts';
import { vring_desc } from '../../../../protocols/virtio-ring.ts';
import { FrontEnd } from '../../../rig/front-end.ts';
import { DRIVER_ADDRESS } from '../../../../src/guest/replay/driver-memory.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { OwnedFd } from '../../../../src/sys/fd.ts';
import { eventfd } from '../../../../src/sys/libc.ts';
import { Poll } from '../../../../src/sys/poll.ts';
import { connectUnix } from '../../../../src/sys/socket.ts';
import {
  connect,
  device,
  leave,
  log,
  MIB,
  path,
  PROTOCOL,
  USER,
  useServer,
  VERSION_1,
  VHOST_USER,
  type Vmm,
} from './rig.ts';

useServer();

async function kickBySemaphore(vmm: Vmm): Promise<string> {
  const EFD_SEMAPHORE = 1;
  using semaphore = OwnedFd.adopt(eventfd(5, EFD_SEMAPHORE));
  return await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [semaphore]);
}

describe('vhost-user rings', () => {
  test('run once they have a kick descriptor and are enabled, and pass on each kick', async () => {
    const vmm = await connect();
    await vmm.start();
    const kicked = device.next('kicked 0');
    vmm.kick.signal();
    await kicked;
    expect(device.calls).toEqual([
      'attached',
      'negotiated 0x100000000',
      'memory 1',
      'started 0',
      'kicked 0',
      'kicked 0',
    ]);
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

  test('stop when disabled and resume where they were', async () => {
    const vmm = await connect();
    await vmm.start(5);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 0)).toBe('done');
    expect(device.queues[0]).toBeNull();
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('done');
    expect(device.queues[0]?.base).toBe(5);
    await leave(vmm);
  });

  test('stop at GET_VRING_BASE, and then need a new kick descriptor', async () => {
    const vmm = await connect();
    await vmm.start(9);
    expect(await vmm.base(0)).toBe(9);
    expect(await vmm.ring(VHOST_USER.SET_VRING_ENABLE, 0, 1)).toBe('done');
    expect(device.queues[0]).toBeNull();
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.kick])).toBe('done');
    expect(device.queues[0]?.base).toBe(9);
    await leave(vmm);
  });

  test('signal a new call descriptor at once, so that nothing pushed before is missed', async () => {
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
    ['a kick descriptor that is not an eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.memfd])],
    ['a call descriptor that is not an eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_CALL, 0n, [vmm.memfd])],
    ['a kick descriptor that is a semaphore', (vmm) => kickBySemaphore(vmm)],
    ['an error descriptor that is not an eventfd', (vmm) => vmm.number(VHOST_USER.SET_VRING_ERR, 0n, [vmm.memfd])],
  ])('are refused with %s, and the connection stays', async (_name, attempt) => {
    const vmm = await connect();
    expect(await attempt(vmm)).toBe('refused');
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    await leave(vmm);
  });

  test('do not start where guest memory is not aligned in its file, and stop when it no longer is', async () => {
    const vmm = await connect();
    const odd = Buffer.concat([
      wire.VhostUserMemory.encode({ nregions: 1 }),
      wire.VhostUserMemoryRegion.encode({ memory_size: MIB / 2, userspace_addr: USER, mmap_offset: 1 }),
    ]);
    await vmm.start();
    expect(await vmm.try(VHOST_USER.SET_MEM_TABLE, odd, [vmm.memfd])).toBe('done');
    expect(device.queues[0]).toBeNull();
    expect(log.at(-1)).toContain('not aligned in the file');
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.kick])).toBe('refused');
    expect(await vmm.memory()).toBe('done');
    expect(await vmm.number(VHOST_USER.SET_VRING_KICK, 0n, [vmm.kick])).toBe('done');
    expect(device.queues[0]).not.toBeNull();
    await leave(vmm);
  });

  test('do not start outside memory, or before all settings were sent', async () => {
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

  test('keep their size and base while they run', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.ring(VHOST_USER.SET_VRING_NUM, 0, 32)).toBe('refused');
    expect(await vmm.ring(VHOST_USER.SET_VRING_BASE, 0, 1)).toBe('refused');
    expect(await vmm.addresses(0)).toBe('done');
    expect(await vmm.addresses(0, MIB)).toBe('refused');
    expect(device.queues[0]).not.toBeNull();
    await leave(vmm);
  });

  test('stay at their old addresses in the next memory table if new addresses were refused', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.addresses(0, MIB)).toBe('refused');
    expect(await vmm.memory()).toBe('done');
    expect(device.queues[0]).not.toBeNull();
    const kicked = device.next('kicked 0');
    vmm.kick.signal();
    await kicked;
    await leave(vmm);
  });

  test('that the guest broke signal the error descriptor', async () => {
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

describe('vhost-user chains in flight', () => {
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

  test('can be pushed while the ring stops, and memory stays until then', async () => {
    const { frontEnd, answered } = await withChain();
    device.pushesWhenStopped = true;
    await frontEnd.channel.call(VHOST_USER.GET_VRING_BASE, wire.vhost_vring_state.encode({ index: 0 }));
    expect(await answered).toHaveLength(0);
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });

  test('end before the device is halted, and that before the front end gets its reply', async () => {
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

  test('survive a new memory table', async () => {
    const { frontEnd, answered } = await withChain();
    await frontEnd.setMemory([
      { guestAddress: 0, size: MIB },
      { guestAddress: 2 ** 33, size: MIB },
    ]);
    device.chains[0]!.write(0, Uint8Array.of(5), 0, 1);
    device.queues[0]!.push(device.chains[0]!, 1);
    expect(await answered).toEqual(Uint8Array.of(5));
    const detached = device.next('detached');
    frontEnd[Symbol.dispose]();
    await detached;
  });

  test('of a hostile driver break only that ring', async () => {
    const { frontEnd } = await withChain();
    const ring = frontEnd.ring(0);
    ring.setDescriptor(5, DRIVER_ADDRESS, 8, 1, 5);
    ring.publish(5);
    const kicked = device.next('kicked 0');
    frontEnd.forceKick(0);
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

describe('vhost-user reset', () => {
  test('by RESET_DEVICE stops the rings and keeps the memory', async () => {
    const vmm = await connect();
    await vmm.start(3);
    device.calls.length = 0;
    expect(await vmm.try(VHOST_USER.RESET_DEVICE)).toBe('done');
    expect(device.calls).toEqual(['stopped 0', 'reset', 'negotiated 0x100000000', 'memory 1']);
    await vmm.start();
    expect(device.queues[0]?.base).toBe(0);
    await leave(vmm);
  });

  test('is assumed for a ring that starts over, not for one that resumes', async () => {
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

  test('by RESET_OWNER only stops the rings', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.try(VHOST_USER.SET_OWNER)).toBe('done');
    expect(await vmm.try(VHOST_USER.RESET_OWNER)).toBe('done');
    expect(device.calls.at(-1)).toBe('stopped 0');
    await leave(vmm);
  });
});
