import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as wire from '../../../protocols/virtio-ring.ts';
import { GuestMemory } from '../../../src/guest/memory.ts';
import type { Chain } from '../../../src/guest/virtio/chain.ts';
import { Virtqueue } from '../../../src/guest/virtio/queue.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

const NEXT = wire.VRING_DESC_F_NEXT;
const WRITE = wire.VRING_DESC_F_WRITE;
const INDIRECT = wire.VRING_DESC_F_INDIRECT;

const MIB = 2 ** 20;
/** Guest physical address of the memory; the ring lies in the file from 0 on, buffers from BUFFERS on. */
const GUEST = 8 * 2 ** 30;
const USER = 0x5555_0000_0000;
const AVAILABLE = 0x1_0000;
const USED = 0x2_0000;
const BUFFERS = 0x8_0000;
const BUFFER = GUEST + BUFFERS;

expectNoLeaks();

/** A driver's hand on a ring in shared memory, and the queue on the device's side of it. */
class Rig implements Disposable {
  readonly memory: GuestMemory;
  readonly ram: Mapping;
  readonly size: number;
  queue!: Virtqueue;
  calls = 0;
  reasons: string[] = [];
  #areas: Disposable[] = [];

  constructor(size = 8, options: { eventIdx?: boolean; indirect?: boolean; base?: number } = {}) {
    using memfd = createMemfd('ram', MIB);
    this.size = size;
    this.ram = Mapping.file(memfd, 0, MIB, 'read-write');
    this.memory = GuestMemory.map([{ guestAddress: GUEST, size: MIB, userAddress: USER, mmapOffset: 0 }], [memfd.dup()]);
    this.restart(options);
  }

  get view(): DataView {
    return this.ram.view;
  }

  restart(options: { eventIdx?: boolean; indirect?: boolean; base?: number } = {}): void {
    const descriptors = this.memory.ring(USER, wire.vringDescSize(this.size));
    const available = this.memory.ring(USER + AVAILABLE, wire.vringAvailSize(this.size));
    const used = this.memory.ring(USER + USED, wire.vringUsedSize(this.size));
    this.#areas.push(descriptors, available, used);
    this.queue = new Virtqueue(
      {
        size: this.size,
        base: options.base ?? 0,
        eventIdx: options.eventIdx ?? false,
        indirect: options.indirect ?? true,
        call: () => this.calls++,
        onBroken: (reason) => this.reasons.push(reason),
      },
      this.memory,
      { descriptors: descriptors.bytes, available: available.bytes, used: used.bytes },
    );
  }

  describe(index: number, address: number, length: number, flags = 0, next = 0, table = 0): void {
    wire.vring_desc.set(this.view, table + index * wire.vring_desc.size, { addr: address, len: length, flags, next });
  }

  offer(head: number): void {
    const index = this.availableIndex;
    this.view.setUint16(AVAILABLE + 4 + 2 * (index % this.size), head, true);
    this.availableIndex = (index + 1) & 0xffff;
  }

  get availableIndex(): number {
    return this.view.getUint16(AVAILABLE + 2, true);
  }

  set availableIndex(index: number) {
    this.view.setUint16(AVAILABLE + 2, index, true);
  }

  set availableFlags(flags: number) {
    this.view.setUint16(AVAILABLE, flags, true);
  }

  set usedEvent(index: number) {
    this.view.setUint16(AVAILABLE + wire.vringUsedEventOffset(this.size), index, true);
  }

  get availEvent(): number {
    return this.view.getUint16(USED + wire.vringAvailEventOffset(this.size), true);
  }

  get usedFlags(): number {
    return this.view.getUint16(USED, true);
  }

  get usedIndex(): number {
    return this.view.getUint16(USED + 2, true);
  }

  set usedIndex(index: number) {
    this.view.setUint16(USED + 2, index, true);
  }

  used(index: number): { id: number; len: number } {
    return wire.vring_used_elem.get(this.view, USED + 4 + 8 * (index % this.size));
  }

  fill(offset: number, ...bytes: number[]): void {
    this.ram.bytes.set(bytes, BUFFERS + offset);
  }

  pop(): Chain {
    const chain = this.queue.pop();
    if (chain === null) throw new Error(`nothing to pop: ${this.queue.broken ?? 'empty'}`);
    return chain;
  }

  [Symbol.dispose](): void {
    for (const area of this.#areas) area[Symbol.dispose]();
    this.memory[Symbol.dispose]();
    this.ram[Symbol.dispose]();
  }
}

let rig: Rig;

beforeEach(() => {
  rig = new Rig();
});

afterEach(() => {
  rig[Symbol.dispose]();
});

function use(next: Rig): Rig {
  rig[Symbol.dispose]();
  rig = next;
  return rig;
}

function read(chain: Chain, at: number, length: number): number[] {
  const into = new Uint8Array(length);
  return [...into.subarray(0, chain.read(at, into, 0, length))];
}

describe('a chain', () => {
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

  test('is not what the guest makes of its descriptors after it was popped', () => {
    rig.fill(0, 1, 2);
    rig.describe(0, BUFFER, 2);
    rig.offer(0);
    const chain = rig.pop();
    rig.describe(0, 0, 0xffff_ffff, WRITE | NEXT, 7);
    expect(chain).toMatchObject({ readable: 2, writable: 0 });
    expect(read(chain, 0, 9)).toEqual([1, 2]);
  });

  test('lies in an indirect table, alone or after direct descriptors', () => {
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

  test('of more than 4 GiB counts right', () => {
    for (let i = 0; i < 2; i++) rig.describe(i, GUEST, MIB, i < 1 ? NEXT : 0, 1);
    rig.offer(0);
    expect(rig.pop().readable).toBe(2 * MIB);
  });

  test('stops short of memory that went away while it was in flight', () => {
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

describe('the ring', () => {
  test('goes round, and both indices wrap at 16 bits', () => {
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

  test('may be full, and chains may be given back in any order', () => {
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

  test('goes on where another left off', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    rig.offer(0);
    rig.restart({ base: rig.queue.base });
    rig.queue.push(rig.pop(), 0);
    expect(rig.usedIndex).toBe(2);
  });

  test('that was stopped pops nothing and is not touched by a push', () => {
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

describe('notifications by flags', () => {
  test('the driver is interrupted unless it says not to', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.calls).toBe(1);
    rig.availableFlags = wire.VRING_AVAIL_F_NO_INTERRUPT;
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.calls).toBe(1);
  });

  test('kicks are not wanted between the first chain and the end of the ring', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    const chain = rig.pop();
    expect(rig.usedFlags).toBe(wire.VRING_USED_F_NO_NOTIFY);
    rig.queue.push(chain, 0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.usedFlags).toBe(0);
  });
});

describe('notifications by event index', () => {
  beforeEach(() => {
    use(new Rig(8, { eventIdx: true }));
    rig.describe(0, BUFFER, 1);
  });

  test('the driver is interrupted for the element it asked for, only', () => {
    rig.usedEvent = 1;
    const calls = Array.from({ length: 3 }, () => {
      rig.offer(0);
      rig.queue.push(rig.pop(), 0);
      return rig.calls;
    });
    expect(calls).toEqual([0, 1, 1]);
  });

  test('a driver whose event index shows up late is interrupted with the next chain, or before the queue sleeps', () => {
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

  test('that element may be the last before the index wraps', () => {
    rig.usedIndex = 0xffff;
    rig.restart({ eventIdx: true });
    rig.usedEvent = 0xffff;
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.usedIndex).toBe(0);
    expect(rig.calls).toBe(1);
  });

  test('a kick is asked for at the end of the ring, and the flags stay 0', () => {
    rig.offer(0);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.availEvent).toBe(0);
    rig.queue.push(rig.pop(), 0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.availEvent).toBe(2);
    expect(rig.usedFlags).toBe(0);
  });

  test('a chain added just before the driver sees that wish is not lost', () => {
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

describe('a hostile ring is broken, and nothing is popped from it any more', () => {
  const cases: [string, RegExp, () => void][] = [
    ['a loop', /loop/, () => {
      rig.describe(0, BUFFER, 1, NEXT, 1);
      rig.describe(1, BUFFER, 1, NEXT, 0);
    }],
    ['a loop in an indirect table', /loop/, () => {
      rig.describe(0, BUFFER, 32, INDIRECT);
      rig.describe(0, BUFFER, 1, NEXT, 0, BUFFERS);
    }],
    ['a chain of 1025 descriptors, 1024 of them indirect', /too long/, () => {
      rig.describe(0, BUFFER, 1, NEXT, 1);
      rig.describe(1, BUFFER, 1024 * 16, INDIRECT);
      for (let i = 0; i < 1024; i++) rig.describe(i, BUFFER, 1, i < 1023 ? NEXT : 0, i + 1, BUFFERS);
    }],
    ['a successor beyond the table', /beyond its table/, () => rig.describe(0, BUFFER, 1, NEXT, 8)],
    ['a successor beyond the indirect table', /beyond its table/, () => {
      rig.describe(0, BUFFER, 32, INDIRECT);
      rig.describe(0, BUFFER, 1, NEXT, 2, BUFFERS);
    }],
    ['an indirect table in an indirect table', /inside an indirect/, () => {
      rig.describe(0, BUFFER, 16, INDIRECT);
      rig.describe(0, BUFFER, 16, INDIRECT, 0, BUFFERS);
    }],
    ['an indirect descriptor with a successor', /successor/, () => rig.describe(0, BUFFER, 16, INDIRECT | NEXT, 1)],
    ['an indirect table of zero length', /zero or odd/, () => rig.describe(0, BUFFER, 0, INDIRECT)],
    ['an indirect table of odd length', /zero or odd/, () => rig.describe(0, BUFFER, 17, INDIRECT)],
    ['an indirect table of 1025 descriptors', /more than 1024/, () => rig.describe(0, BUFFER, 1025 * 16, INDIRECT)],
    ['an indirect table of 4 GiB', /more than 1024/, () => rig.describe(0, BUFFER, 0xffff_fff0, INDIRECT)],
    ['an indirect table outside memory', /table outside memory/, () => rig.describe(0, GUEST + MIB - 8, 16, INDIRECT)],
    ['a readable descriptor after a writable one', /after a writable/, () => {
      rig.describe(0, BUFFER, 1, WRITE | NEXT, 1);
      rig.describe(1, BUFFER, 1);
    }],
    ['a descriptor of zero length', /zero length/, () => rig.describe(0, BUFFER, 0)],
    ['a buffer outside memory', /outside memory/, () => rig.describe(0, 0, 1)],
    ['a buffer that ends outside memory', /outside memory/, () => rig.describe(0, GUEST + MIB - 1, 2)],
    ['a buffer that wraps', /outside memory/, () => rig.describe(0, 2 ** 64 - 4096, 8192)],
  ];

  test.each(cases)('%s', (_name, reason, arrange) => {
    arrange();
    rig.offer(0);
    rig.offer(1);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(reason);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.reasons).toHaveLength(1);
  });

  test('a head beyond the queue', () => {
    rig.offer(8);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/head beyond/);
  });

  test('an available index that jumps ahead', () => {
    rig.availableIndex = 9;
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/further ahead/);
  });

  test('an available index that goes back', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    rig.availableIndex = 0;
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/further ahead/);
  });

  test('a head made available again while it is in flight; the chain itself still ends well', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.offer(0);
    const chain = rig.pop();
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/in flight/);
    rig.queue.push(chain, 0);
    expect(rig.usedIndex).toBe(0);
  });

  test('an indirect descriptor that was not negotiated', () => {
    rig.restart({ indirect: false });
    rig.describe(0, BUFFER, 16, INDIRECT);
    rig.offer(0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/negotiated/);
  });
});

test('whatever a driver writes, nothing throws and no chain reaches outside memory', () => {
  const descriptor = fc.record({
    addr: fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: 0, max: 0x20 }).map((n) => BUFFER + n * 128) },
      { weight: 1, arbitrary: fc.integer({ min: -64, max: 64 }).map((at) => GUEST + MIB + at) },
      { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(Number) },
    ),
    len: fc.oneof({ weight: 20, arbitrary: fc.integer({ min: 1, max: 8 }).map((n) => n * 16) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) }),
    flags: fc.constantFrom(0, 0, 0, WRITE, WRITE, NEXT, NEXT, NEXT | WRITE, INDIRECT, INDIRECT, INDIRECT | NEXT, 0xffff),
    next: fc.integer({ min: 0, max: 9 }),
  });
  const into = new Uint8Array(0x1000);
  let popped = 0;
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 8, maxLength: 8 }),
      fc.array(descriptor, { minLength: 8, maxLength: 8 }),
      fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 10 }),
      (table, indirect, heads) => {
        using own = new Rig(8, { eventIdx: heads.length % 2 === 0 });
        table.forEach((d, i) => own.describe(i, d.addr % 2 ** 53, d.len, d.flags, d.next));
        for (let at = 0; at < 0x1000; at += 128) indirect.forEach((d, i) => own.describe(i, d.addr % 2 ** 53, d.len, d.flags, d.next, BUFFERS + at));
        for (const head of heads) own.offer(head);
        for (let chain = own.queue.pop(); chain !== null; chain = own.queue.pop()) {
          popped++;
          expect(chain.readable + chain.writable).toBeGreaterThan(0);
          expect(chain.read(0, into, 0, into.length)).toBe(Math.min(chain.readable, into.length));
          expect(chain.write(0, into, 0, into.length)).toBe(Math.min(chain.writable, into.length));
        }
      },
    ),
    { numRuns: 300 },
  );
  // Most tables are broken; enough must not be, or nothing above was tested.
  expect(popped).toBeGreaterThan(50);
});
