import { afterEach, beforeEach } from 'vitest';
import * as wire from '../../../../protocols/virtio-ring.ts';
import { GuestMemory } from '../../../../src/guest/memory.ts';
import type { Chain } from '../../../../src/guest/virtio/chain.ts';
import { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

export const NEXT = wire.VRING_DESC_F_NEXT;
export const WRITE = wire.VRING_DESC_F_WRITE;
export const INDIRECT = wire.VRING_DESC_F_INDIRECT;

export const MIB = 2 ** 20;
/** The guest physical address of the memory. In the file, the ring is at 0 and buffers are at BUFFERS. */
export const GUEST = 8 * 2 ** 30;
export const USER = 0x5555_0000_0000;
export const AVAILABLE = 0x1_0000;
export const USED = 0x2_0000;
export const BUFFERS = 0x8_0000;
export const BUFFER = GUEST + BUFFERS;

/** A ring in shared memory, written by hand as a driver does, and the device's queue on it. */
export class Rig implements Disposable {
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
    this.memory = GuestMemory.map(
      [{ guestAddress: GUEST, size: MIB, userAddress: USER, mmapOffset: 0 }],
      [memfd.dup()],
    );
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

export let rig: Rig;

/** Gives each test of the file a ring, and checks that it leaks nothing. */
export function useRig(): void {
  expectNoLeaks();
  beforeEach(() => {
    rig = new Rig();
  });
  afterEach(() => {
    rig[Symbol.dispose]();
  });
}

/** Replaces the test's ring. */
export function use(next: Rig): Rig {
  rig[Symbol.dispose]();
  rig = next;
  return rig;
}

export function read(chain: Chain, at: number, length: number): number[] {
  const into = new Uint8Array(length);
  return [...into.subarray(0, chain.read(at, into, 0, length))];
}
