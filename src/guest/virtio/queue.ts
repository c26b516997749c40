import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_USED_F_NO_NOTIFY,
  vringAvailEventOffset,
  vringUsedEventOffset,
  vring_desc,
} from '../../../protocols/virtio-ring.ts';
import type { GuestMemory } from '../memory.ts';
import { Chain, type ChainHome, MAX_CHAIN } from './chain.ts';

/** The largest ring. With MAX_CHAIN it bounds the memory of one queue (12 MiB), and no VMM offers larger ones. */
export const MAX_QUEUE_SIZE = 1024;

const FLAGS = 0;
const IDX = 1;
const AVAIL_RING = 2;
/** The used ring's first element, in 32-bit words. */
const USED_RING = 1;
/** How often `watch` looks at the ring before it reads the clock, which allocates. */
const LOOKS_PER_TIME = 64;

/** The three areas of a split ring, each contiguous and as long as the queue's size makes it. */
export interface RingBytes {
  readonly descriptors: Uint8Array;
  readonly available: Uint8Array;
  readonly used: Uint8Array;
}

export interface QueueOptions {
  /** How many descriptors: a power of two, at most MAX_QUEUE_SIZE. */
  readonly size: number;
  /** The available index to start from. */
  readonly base: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  /** Interrupts the driver. */
  readonly call: () => void;
  /** The driver broke the rules. From now on nothing is popped. */
  readonly onBroken: (reason: string) => void;
}

/**
 * The device's side of a split virtqueue (virtio 1.3, 2.7). Whatever a driver writes into the ring, nothing
 * throws; a violation marks the queue broken. Steady use allocates nothing.
 *
 * How JavaScript shares memory with the driver:
 * - 16-bit ring fields are read and written through Uint16Array, in one access. A DataView accesses them byte by
 *   byte until V8 compiles the caller, so that an index could be seen half changed.
 * - Indices, flags and event indices go through Atomics, which V8 makes sequentially consistent on any buffer.
 *   So what the driver wrote before its index is read after it, what the device writes is seen before its index,
 *   and "publish an index, then read the other side's event index", on which EVENT_IDX depends, cannot be
 *   reordered on either side.
 */
export class Virtqueue {
  readonly size: number;
  readonly #home: { memory: GuestMemory } & ChainHome;
  readonly #eventIdx: boolean;
  readonly #call: () => void;
  readonly #onBroken: (reason: string) => void;
  readonly #chains: Chain[] = [];
  #descriptors!: DataView;
  #available!: Uint16Array;
  #used16!: Uint16Array;
  #used32!: Uint32Array;
  readonly #usedEvent: number;
  readonly #availEvent: number;
  #nextAvailable: number;
  /** The driver's index when it was last read. */
  #availableIndex: number;
  #usedIndex: number;
  /** The used index when the driver was last interrupted. */
  #calledIndex: number;
  #stopped = false;
  #broken: string | null = null;

  constructor(options: QueueOptions, memory: GuestMemory, ring: RingBytes) {
    const scratch = new Uint8Array(MAX_CHAIN * vring_desc.size);
    this.size = options.size;
    this.#home = { memory, scratch, scratchView: new DataView(scratch.buffer), indirect: options.indirect };
    this.#eventIdx = options.eventIdx;
    this.#call = options.call;
    this.#onBroken = options.onBroken;
    this.#usedEvent = vringUsedEventOffset(options.size) / 2;
    this.#availEvent = vringAvailEventOffset(options.size) / 2;
    this.#nextAvailable = options.base;
    this.#availableIndex = options.base;
    this.remap(memory, ring);
    this.#usedIndex = Atomics.load(this.#used16, IDX);
    this.#calledIndex = this.#usedIndex;
  }

  /** Why the queue is broken, for good; null if it is not. */
  get broken(): string | null {
    return this.#broken;
  }

  /** The available index up to which chains were popped. */
  get base(): number {
    return this.#nextAvailable;
  }

  /** The same ring through other mappings. Chains in flight stay valid. */
  remap(memory: GuestMemory, ring: RingBytes): void {
    const { descriptors, available, used } = ring;
    this.#home.memory = memory;
    this.#descriptors = new DataView(descriptors.buffer, descriptors.byteOffset, descriptors.length);
    this.#available = new Uint16Array(available.buffer, available.byteOffset, available.length >>> 1);
    this.#used16 = new Uint16Array(used.buffer, used.byteOffset, used.length >>> 1);
    this.#used32 = new Uint32Array(used.buffer, used.byteOffset, used.length >>> 2);
  }

  /** Whether `pop` would return a chain. If not, the driver kicks when that changes, as after a `pop` that returned null. */
  hasNext(): boolean {
    if (this.#broken !== null || this.#stopped) return false;
    return this.#nextAvailable !== this.#availableIndex || this.#refill();
  }

  /** Whether there is a next chain. Asks for no kick, unlike `hasNext`. */
  get isReady(): boolean {
    return this.#broken === null && !this.#stopped && Atomics.load(this.#available, IDX) !== this.#nextAvailable;
  }

  /**
   * Watches the ring, without asking for kicks, until there is a next chain or `patience` ms have passed; whether there is
   * one. It blocks, and takes a processor.
   */
  watch(patience: number): boolean {
    if (this.#broken !== null || this.#stopped) return false;
    if (this.#nextAvailable !== this.#availableIndex) return true;
    const end = performance.now() + patience;
    do {
      for (let i = 0; i < LOOKS_PER_TIME; i++)
        if (Atomics.load(this.#available, IDX) !== this.#nextAvailable) return true;
    } while (performance.now() < end);
    return false;
  }

  /**
   * The next chain that the driver made available; null if there is none (the driver kicks when that changes) or
   * the queue is broken. A caller that stops before null gets no kick for the rest, and has to pop again itself.
   */
  pop(): Chain | null {
    if (!this.hasNext()) return null;
    const head = this.#available[AVAIL_RING + (this.#nextAvailable & (this.size - 1))]!;
    if (head >= this.size) return this.#break('a head beyond the queue size');
    const chain = (this.#chains[head] ??= new Chain(head, this.#home));
    if (chain.inFlight) return this.#break('a head that is in flight already');
    const fault = chain.load(this.#descriptors, this.size);
    if (fault !== null) return this.#break(fault);
    this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
    return chain;
  }

  /**
   * Gives a chain back, with the first `written` of its writable bytes filled in, and interrupts the driver if it
   * asked for that. On a broken or stopped queue it only frees the chain.
   */
  push(chain: Chain, written: number): void {
    if (this.#chains[chain.head] !== chain || !chain.inFlight)
      throw new Error(`chain ${chain.head} is not in flight on this queue`);
    chain.release();
    if (this.#broken !== null || this.#stopped) return;
    const published = this.#usedIndex;
    const at = USED_RING + 2 * (published & (this.size - 1));
    this.#used32[at] = chain.head;
    this.#used32[at + 1] = written;
    this.#usedIndex = (published + 1) & 0xffff;
    Atomics.store(this.#used16, IDX, this.#usedIndex);
    this.#callIfWanted();
  }

  /** Call after the last push if `pop` is not called until null; see `#callIfWanted`. */
  callAgain(): void {
    if (this.#broken === null && !this.#stopped) this.#callIfWanted();
  }

  /** Call before the mappings go: from now on nothing is popped, and a push accesses no memory. */
  stop(): void {
    this.#stopped = true;
  }

  /** Looks for new chains. If there are none, asks for a kick and looks once more. */
  #refill(): boolean {
    let index = Atomics.load(this.#available, IDX);
    if (index === this.#nextAvailable) {
      if (this.#eventIdx) Atomics.store(this.#used16, this.#availEvent, this.#nextAvailable);
      else Atomics.store(this.#used16, FLAGS, 0);
      // The driver does not kick for a chain that it added before it saw that.
      index = Atomics.load(this.#available, IDX);
      if (index === this.#nextAvailable) {
        this.#callIfWanted();
        return false;
      }
    }
    if (((index - this.#nextAvailable) & 0xffff) > this.size) {
      this.#break('an available index further ahead than the queue is long');
      return false;
    }
    this.#availableIndex = index;
    if (!this.#eventIdx) Atomics.store(this.#used16, FLAGS, VRING_USED_F_NO_NOTIFY);
    return true;
  }

  /**
   * Interrupts the driver if its event index covers anything used since it was last interrupted. That looks
   * further back than virtio requires, and looks again when the queue runs empty, because a guest with one
   * emulated processor (QEMU TCG, -smp 1) has no barrier between writing its event index and reading the used
   * index: its event index may become visible only after the element it asks about.
   */
  #callIfWanted(): void {
    const used = this.#usedIndex;
    if (used === this.#calledIndex) return;
    if (this.#eventIdx) {
      const event = Atomics.load(this.#available, this.#usedEvent);
      if (((used - event - 1) & 0xffff) >= ((used - this.#calledIndex) & 0xffff)) return;
    } else if ((Atomics.load(this.#available, FLAGS) & VRING_AVAIL_F_NO_INTERRUPT) !== 0) {
      return;
    }
    this.#calledIndex = used;
    this.#call();
  }

  #break(reason: string): null {
    this.#broken = reason;
    this.#onBroken(reason);
    return null;
  }
}
