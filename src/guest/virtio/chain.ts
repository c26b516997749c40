import { addr64 } from '../../../protocols/layout.ts';
import {
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  vring_desc,
} from '../../../protocols/virtio-ring.ts';
import type { AddressCell, GuestMemory } from '../memory.ts';

const { addr: ADDR, len: LEN, flags: FLAGS, next: NEXT } = vring_desc.offset;

/**
 * The most descriptors of a chain. Virtio allows no more than the queue's size, but Linux puts longer chains into
 * indirect tables, for one the backing of a large scattered framebuffer.
 */
export const MAX_CHAIN = 1024;

/** Enough for most chains. Storage grows for longer ones. */
const FIRST_CAPACITY = 8;

/** What the chains of a queue share. `memory` may change while a chain is in flight. */
export interface ChainHome {
  readonly memory: GuestMemory;
  /** Room for the MAX_CHAIN descriptors of an indirect table. */
  readonly scratch: Uint8Array;
  readonly scratchView: DataView;
  readonly indirect: boolean;
}

/**
 * A request in guest memory: buffers that the device reads, then buffers that it writes, each kind seen as one
 * run of bytes. It belongs to the queue, which has one object for each head, and is valid until it is pushed
 * back. The guest can no longer change the descriptors, which were copied out of shared memory and checked; it
 * can change what the buffers hold.
 */
export class Chain {
  readonly head: number;
  readonly #home: ChainHome;
  #addresses = new Float64Array(FIRST_CAPACITY);
  #lengths = new Uint32Array(FIRST_CAPACITY);
  #count = 0;
  #firstWritable = 0;
  #readable = 0;
  #writable = 0;
  #inFlight = false;
  readonly #cell: AddressCell = new Float64Array(1);

  constructor(head: number, home: ChainHome) {
    this.head = head;
    this.#home = home;
  }

  /** The bytes that the driver sent. */
  get readable(): number {
    return this.#readable;
  }

  /** The bytes that the driver has room for. */
  get writable(): number {
    return this.#writable;
  }

  /** Popped and not pushed yet. */
  get inFlight(): boolean {
    return this.#inFlight;
  }

  /** Copies readable bytes from `at` on. Returns how many there were, at most `length`. */
  read(at: number, into: Uint8Array, intoAt: number, length: number): number {
    return this.#copy(0, this.#firstWritable, at, into, intoAt, length, false);
  }

  /** Copies into the writable bytes from `at` on. Returns how many fitted, at most `length`. */
  write(at: number, from: Uint8Array, fromAt: number, length: number): number {
    return this.#copy(this.#firstWritable, this.#count, at, from, fromAt, length, true);
  }

  /** For the queue: copies this chain's descriptors out of `table`. Returns what is wrong with them, or null. */
  load(table: DataView, size: number): string | null {
    this.#count = 0;
    this.#readable = 0;
    this.#writable = 0;
    const cell = this.#cell;
    let view = table;
    let entries = size;
    let limit = size;
    let index = this.head;
    for (;;) {
      const at = index * vring_desc.size;
      const address = addr64.get(view, at + ADDR);
      cell[0] = address;
      const length = view.getUint32(at + LEN, true);
      const flags = view.getUint16(at + FLAGS, true);
      const next = view.getUint16(at + NEXT, true);
      if ((flags & VRING_DESC_F_INDIRECT) !== 0) {
        if (!this.#home.indirect) return 'an indirect descriptor was not negotiated';
        if (view !== table) return 'an indirect descriptor inside an indirect table';
        if ((flags & VRING_DESC_F_NEXT) !== 0) return 'an indirect descriptor with a successor';
        if (length === 0 || length % vring_desc.size !== 0) return 'an indirect table of zero or odd length';
        entries = length / vring_desc.size;
        if (entries > MAX_CHAIN) return `an indirect table of more than ${MAX_CHAIN} descriptors`;
        limit = MAX_CHAIN;
        if (!this.#home.memory.copyOutAt(cell, length, this.#home.scratch, 0))
          return 'an indirect table outside memory';
        view = this.#home.scratchView;
        index = 0;
        continue;
      }
      if (this.#count === limit) return 'a chain too long, or a loop';
      if (length === 0) return 'a descriptor of zero length';
      if (!this.#home.memory.coversAt(cell, length)) return 'a descriptor outside memory';
      if ((flags & VRING_DESC_F_WRITE) !== 0) {
        this.#writable += length;
      } else {
        if (this.#writable > 0) return 'a readable descriptor after a writable one';
        this.#readable += length;
        this.#firstWritable = this.#count + 1;
      }
      if (this.#count === this.#lengths.length) this.#grow();
      this.#addresses[this.#count] = address;
      this.#lengths[this.#count] = length;
      this.#count++;
      if ((flags & VRING_DESC_F_NEXT) === 0) break;
      if (next >= entries) return 'a descriptor index beyond its table';
      index = next;
    }
    if (this.#readable === 0) this.#firstWritable = 0;
    this.#inFlight = true;
    return null;
  }

  /** For the queue: the driver owns the buffers again. */
  release(): void {
    this.#inFlight = false;
    this.#count = 0;
    this.#firstWritable = 0;
    this.#readable = 0;
    this.#writable = 0;
  }

  #grow(): void {
    const addresses = new Float64Array(this.#count * 2);
    const lengths = new Uint32Array(this.#count * 2);
    addresses.set(this.#addresses);
    lengths.set(this.#lengths);
    this.#addresses = addresses;
    this.#lengths = lengths;
  }

  #copy(
    first: number,
    end: number,
    at: number,
    bytes: Uint8Array,
    bytesAt: number,
    length: number,
    write: boolean,
  ): number {
    const { memory } = this.#home;
    const cell = this.#cell;
    let skip = at;
    let done = 0;
    for (let i = first; i < end && done < length; i++) {
      const size = this.#lengths[i]!;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const count = Math.min(size - skip, length - done);
      cell[0] = this.#addresses[i]! + skip;
      const ok = write
        ? memory.copyInAt(cell, bytes, bytesAt + done, count)
        : memory.copyOutAt(cell, count, bytes, bytesAt + done);
      // The chain was checked when it was popped, but the VMM may have removed the memory since.
      if (!ok) break;
      done += count;
      skip = 0;
    }
    return done;
  }
}
