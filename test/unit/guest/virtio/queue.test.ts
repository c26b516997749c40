import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { beforeEach, describe, expect, test } from 'vitest';
import * as wire from '../../../../protocols/virtio-ring.ts';
import { GuestMemory } from '../../../../src/guest/memory.ts';
import { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { BUFFER, BUFFERS, GUEST, INDIRECT, MIB, NEXT, read, Rig, rig, use, USER, useRig, WRITE } from './rig.ts';

useRig();

describe('Chain', () => {
  test('is read and written across its descriptors, whatever their order in the table', () => {
    rig.fill(0, 1, 2, 3);
    rig.fill(100, 4, 5);
    rig.describe(6, BUFFER, 3, NEXT, 1);
    rig.describe(1, BUFFER + 100, 2, NEXT, 4);
    rig.describe(4, BUFFER + 200, 2, NEXT | WRITE, 0);
    rig.describe(0, BUFFER + 300, 4, WRITE);
    rig.offer(6);
    const chain = rig.pop();
    expect(chain).toMatchObject({ head: 6, readable: 5, writable: 6 });
    expect(read(chain, 0, 10)).toEqual([1, 2, 3, 4, 5]);
    expect(read(chain, 2, 2)).toEqual([3, 4]);
    expect(read(chain, 5, 1)).toEqual([]);
    expect(chain.write(1, Uint8Array.of(0, 9, 8, 7, 6, 5, 4, 3), 1, 7)).toBe(5);
    expect([...rig.ram.bytes.subarray(BUFFERS + 200, BUFFERS + 202)]).toEqual([0, 9]);
    expect([...rig.ram.bytes.subarray(BUFFERS + 300, BUFFERS + 305)]).toEqual([8, 7, 6, 5, 0]);
    rig.queue.push(chain, 6);
    expect(rig.usedIndex).toBe(1);
    expect(rig.used(0)).toEqual({ id: 6, len: 6 });
  });

  test('may have only writable descriptors, or only readable ones', () => {
    rig.describe(0, BUFFER, 4, WRITE);
    rig.describe(1, BUFFER, 4);
    rig.offer(0);
    rig.offer(1);
    const writable = rig.pop();
    const readable = rig.pop();
    expect(writable).toMatchObject({ readable: 0, writable: 4 });
    expect(writable.write(0, Uint8Array.of(1, 2), 0, 2)).toBe(2);
    expect(readable).toMatchObject({ readable: 4, writable: 0 });
    expect(read(readable, 0, 4)).toEqual([1, 2, 0, 0]);
    expect(readable.write(0, Uint8Array.of(1), 0, 1)).toBe(0);
  });

  test('does not change when the guest changes its descriptors after it was popped', () => {
    rig.fill(0, 1, 2);
    rig.describe(0, BUFFER, 2);
    rig.offer(0);
    const chain = rig.pop();
    rig.describe(0, 0, 0xffff_ffff, WRITE | NEXT, 7);
    expect(chain).toMatchObject({ readable: 2, writable: 0 });
    expect(read(chain, 0, 9)).toEqual([1, 2]);
  });

  test('may be in an indirect table, alone or after direct descriptors', () => {
    rig.fill(0, 1, 2);
    rig.describe(0, BUFFER, 1, NEXT, 1);
    rig.describe(1, BUFFER + 1000, 48, INDIRECT);
    rig.describe(0, BUFFER + 1, 1, NEXT, 2, BUFFERS + 1000);
    rig.describe(2, BUFFER + 8, 8, WRITE, 0, BUFFERS + 1000);
    rig.offer(0);
    rig.offer(1);
    const chain = rig.pop();
    expect(chain).toMatchObject({ readable: 2, writable: 8 });
    expect(read(chain, 0, 2)).toEqual([1, 2]);
    expect(rig.pop()).toMatchObject({ head: 1, readable: 1, writable: 8 });
  });

  test('may be as long as the queue', () => {
    for (let i = 0; i < 8; i++) rig.describe(i, BUFFER + i, 1, i < 7 ? NEXT : 0, i + 1);
    rig.offer(0);
    expect(rig.pop().readable).toBe(8);
  });

  test('counts the bytes of several large descriptors', () => {
    for (let i = 0; i < 2; i++) rig.describe(i, GUEST, MIB, i < 1 ? NEXT : 0, 1);
    rig.offer(0);
    expect(rig.pop().readable).toBe(2 * MIB);
  });

  test('reads nothing from memory that was removed while it was in flight', () => {
    rig.describe(0, BUFFER, 4);
    rig.offer(0);
    const chain = rig.pop();
    using memfd = createMemfd('other', MIB);
    using other = GuestMemory.map([{ guestAddress: 0, size: MIB, userAddress: USER, mmapOffset: 0 }], [memfd.dup()]);
    using ring = other.ring(USER, MIB);
    rig.queue.remap(other, { descriptors: ring.bytes, available: ring.bytes, used: ring.bytes });
    expect(read(chain, 0, 4)).toEqual([]);
  });
});

describe('Virtqueue', () => {
  test('goes around the ring, and both indices wrap at 16 bits', () => {
    use(new Rig(4, { base: 0xfffd }));
    rig.availableIndex = 0xfffd;
    rig.usedIndex = 0xfffd;
    rig.restart({ base: 0xfffd });
    for (let i = 0; i < 10; i++) {
      rig.describe(i % 4, BUFFER + i, 1 + i);
      rig.offer(i % 4);
      const chain = rig.pop();
      expect(chain.readable).toBe(1 + i);
      rig.queue.push(chain, i);
      expect(rig.used(0xfffd + i)).toEqual({ id: i % 4, len: i });
    }
    expect(rig.usedIndex).toBe(7);
    expect(rig.queue.base).toBe(7);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toBeNull();
  });

  test('may be full, and takes chains back in any order', () => {
    for (let i = 0; i < 8; i++) {
      rig.describe(i, BUFFER, 1);
      rig.offer(i);
    }
    const chains = Array.from({ length: 8 }, () => rig.pop());
    expect(rig.queue.pop()).toBeNull();
    for (const chain of chains.toReversed()) rig.queue.push(chain, 0);
    expect(Array.from({ length: 8 }, (_, i) => rig.used(i).id)).toEqual([7, 6, 5, 4, 3, 2, 1, 0]);
    rig.offer(3);
    expect(rig.pop()).toBe(chains[3]);
  });

  test('starts at the base of an earlier queue on the same ring', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    rig.offer(0);
    rig.restart({ base: rig.queue.base });
    rig.queue.push(rig.pop(), 0);
    expect(rig.usedIndex).toBe(2);
  });

  test('pops nothing after stop, and a push leaves the ring alone', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.offer(0);
    const chain = rig.pop();
    rig.queue.stop();
    rig.queue.push(chain, 0);
    expect(rig.usedIndex).toBe(0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toBeNull();
  });

  test('takes each chain back once', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    const chain = rig.pop();
    rig.queue.push(chain, 0);
    expect(() => rig.queue.push(chain, 0)).toThrow('not in flight');
  });
});

describe('Virtqueue notifications by flags', () => {
  test('interrupt the driver unless it disabled that', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.calls).toBe(1);
    rig.availableFlags = wire.VRING_AVAIL_F_NO_INTERRUPT;
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.calls).toBe(1);
  });

  test('disable kicks between the first chain and the end of the ring', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    const chain = rig.pop();
    expect(rig.usedFlags).toBe(wire.VRING_USED_F_NO_NOTIFY);
    rig.queue.push(chain, 0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.usedFlags).toBe(0);
  });
});

describe('Virtqueue.watch', () => {
  test('sees what the driver makes available meanwhile, without a kick', async () => {
    const shared = new SharedArrayBuffer(3 * 4096);
    const [descriptors, available, used] = [0, 1, 2].map((page) => new Uint8Array(shared, page * 4096, 4096)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    wire.vring_desc.set(new DataView(shared), 0, { addr: BUFFER, len: 4, flags: 0, next: 0 });
    const options = { size: 8, base: 0, eventIdx: false, indirect: false, call: () => 0, onBroken: () => 0 };
    const queue = new Virtqueue(options, rig.memory, { descriptors, available, used });
    const flags = new Uint16Array(shared, 2 * 4096, 1);
    flags[0] = wire.VRING_USED_F_NO_NOTIFY;
    const driver = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
      parentPort.once('message', () => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
        Atomics.store(new Uint16Array(workerData, 4096), 1, 1);
      });`,
      { eval: true, workerData: shared },
    );
    await once(driver, 'online');
    driver.postMessage('begin');
    expect(queue.watch(100_000)).toBe(true);
    expect(flags[0]).toBe(wire.VRING_USED_F_NO_NOTIFY);
    expect(queue.pop()).toMatchObject({ readable: 4 });
    await driver.terminate();
  });

  test('ends when its time is over, when there is a chain already, and on a queue that is broken or stopped', () => {
    expect(rig.queue.watch(0.1)).toBe(false);
    rig.describe(0, BUFFER, 4);
    rig.offer(0);
    expect(rig.queue.watch(100_000)).toBe(true);
    rig.queue.stop();
    expect(rig.queue.watch(100_000)).toBe(false);
  });
});

describe('Virtqueue notifications by event index', () => {
  beforeEach(() => {
    use(new Rig(8, { eventIdx: true }));
    rig.describe(0, BUFFER, 1);
  });

  test('interrupt the driver only for the element that it asked for', () => {
    rig.usedEvent = 1;
    const calls = Array.from({ length: 3 }, () => {
      rig.offer(0);
      rig.queue.push(rig.pop(), 0);
      return rig.calls;
    });
    expect(calls).toEqual([0, 1, 1]);
  });

  test('interrupt a driver whose event index becomes visible late with the next chain, or when the ring is empty', () => {
    const use = () => {
      rig.offer(0);
      rig.queue.push(rig.pop(), 0);
      return rig.calls;
    };
    rig.usedEvent = 100;
    expect([use(), use()]).toEqual([0, 0]);
    rig.usedEvent = 0;
    expect(use()).toBe(1);
    rig.usedEvent = 100;
    expect(use()).toBe(1);
    rig.usedEvent = 3;
    expect([rig.queue.pop(), rig.calls]).toEqual([null, 2]);
    expect([rig.queue.pop(), rig.calls]).toEqual([null, 2]);
  });

  test('interrupt the driver for the last element before the index wraps', () => {
    rig.usedIndex = 0xffff;
    rig.restart({ eventIdx: true });
    rig.usedEvent = 0xffff;
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.usedIndex).toBe(0);
    expect(rig.calls).toBe(1);
  });

  test('ask for a kick at the end of the ring, and leave the flags 0', () => {
    rig.offer(0);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.availEvent).toBe(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.availEvent).toBe(2);
    expect(rig.usedFlags).toBe(0);
  });

  test('lose no chain that is added just before the driver sees that a kick is wanted', () => {
    // The driver's half of the race, run at the very store that asks for a kick.
    const store = Atomics.store;
    let raced = false;
    Atomics.store = ((array: Uint16Array, index: number, value: number) => {
      if (!raced) rig.offer(0);
      raced = true;
      return store(array, index, value);
    }) as typeof Atomics.store;
    try {
      expect(rig.queue.pop()).not.toBeNull();
    } finally {
      Atomics.store = store;
    }
    expect(raced).toBe(true);
  });
});
