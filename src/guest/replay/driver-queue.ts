import * as ring from '../../../protocols/virtio-ring.ts';
import type { DriverMemory } from './driver-memory.ts';
import { FrontEndError } from './front-end-channel.ts';

export interface DriverQueueOptions {
  readonly size: number;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  /** The most bytes of a descriptor. Longer requests take several, as a driver's scattered pages do. */
  readonly maxSegment: number;
}

/** The three areas of a ring, as offsets into the driver's memory. */
export interface RingAreas {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/**
 * The device is done with a chain. `response` is what it wrote, valid during the call only; `written` is how
 * many bytes it claims to have written.
 */
export type UsedCallback = (token: number, response: Uint8Array, written: number) => void;

const NO_BYTES: Uint8Array = new Uint8Array(0);
/** Of both rings, in bytes. */
const FLAGS = 0;
const IDX = 2;
const { vring_desc: desc, vring_avail: avail, vring_used: used, vring_used_elem: usedElem } = ring;

/**
 * The driver's side of a split virtqueue: makes chains available and takes used ones back. Its available
 * index is kept in the ring only.
 *
 * Indices, flags and event indices go through Atomics, as on the device's side (`Virtqueue`), which may be in another
 * process: without that a kick is lost when the processor reads the device's event index before the new available
 * index is visible.
 */
export class DriverQueue {
  readonly size: number;
  readonly at: RingAreas;
  readonly #memory: DriverMemory;
  readonly #options: DriverQueueOptions;
  /** 1 for the heads of chains in flight. */
  readonly #isSubmitted: Uint8Array;
  readonly #requestAt: Int32Array;
  readonly #requestLength: Int32Array;
  readonly #responseAt: Int32Array;
  readonly #responseLength: Int32Array;
  readonly #tableAt: Int32Array;
  /** How many descriptors a chain has, in the ring or in its indirect table. */
  readonly #descriptors: Int32Array;
  /** The last view of a response for each head: a busy queue needs the same ones again and again. */
  readonly #responses: Uint8Array[];
  readonly #free: Uint16Array;
  /** The driver's memory, for the fields that the device reads or writes meanwhile. */
  readonly #shared: Uint16Array;
  #freeCount: number;
  #kickedIdx = 0;
  #usedIdx = 0;

  /** FrontEndError `full` if the memory has no room for the ring. */
  constructor(memory: DriverMemory, options: DriverQueueOptions) {
    const { size } = options;
    this.size = size;
    this.#memory = memory;
    this.#options = options;
    this.at = {
      desc: takeZeroed(memory, ring.vringDescSize(size)),
      avail: takeZeroed(memory, ring.vringAvailSize(size)),
      used: takeZeroed(memory, ring.vringUsedSize(size)),
    };
    this.#isSubmitted = new Uint8Array(size);
    this.#requestAt = new Int32Array(size);
    this.#requestLength = new Int32Array(size);
    this.#responseAt = new Int32Array(size);
    this.#responseLength = new Int32Array(size);
    this.#tableAt = new Int32Array(size);
    this.#descriptors = new Int32Array(size);
    this.#responses = Array.from({ length: size }, () => NO_BYTES);
    this.#free = Uint16Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#freeCount = size;
    const { buffer, byteOffset, byteLength } = memory.bytes;
    this.#shared = new Uint16Array(buffer, byteOffset, byteLength >>> 1);
  }

  /** How many chains were submitted and not used yet. */
  get inFlight(): number {
    return (this.#availIdx - this.#usedIdx) & 0xffff;
  }

  /** How many descriptors of the ring are free. */
  get freeDescriptors(): number {
    return this.#freeCount;
  }

  /**
   * Makes a chain available, of a copy of `request` and room for `responseSpace` bytes. A token that is unique
   * until the chain is used; -1 if there are no descriptors or no memory left.
   */
  submit(request: Uint8Array, responseSpace: number): number {
    const { length } = request;
    const { maxSegment, indirect } = this.#options;
    const count = Math.ceil(length / maxSegment) + (responseSpace > 0 ? 1 : 0);
    const inRing = indirect ? 1 : count;
    if (count === 0 || inRing > this.#freeCount) return -1;
    const { pool, bytes } = this.#memory;
    const requestAt = pool.take(length);
    const responseAt = pool.take(responseSpace);
    const tableAt = indirect ? pool.take(count * desc.size) : 0;
    if (requestAt < 0 || responseAt < 0 || tableAt < 0) {
      if (requestAt >= 0) pool.give(requestAt, length);
      if (responseAt >= 0) pool.give(responseAt, responseSpace);
      return -1;
    }
    bytes.set(request, requestAt);

    const head = this.#free[this.#freeCount - 1]!;
    this.#isSubmitted[head] = 1;
    this.#requestAt[head] = requestAt;
    this.#requestLength[head] = length;
    this.#responseAt[head] = responseAt;
    this.#responseLength[head] = responseSpace;
    this.#tableAt[head] = tableAt;
    this.#descriptors[head] = count;
    if (indirect) {
      this.#freeCount--;
      this.#write(this.at.desc + head * desc.size, tableAt, count * desc.size, ring.VRING_DESC_F_INDIRECT, 0);
    }
    this.#chain(head, count);
    this.#publish(head);
    return head;
  }

  /** Whether the device wants a kick for what was submitted since the last call. */
  takeKick(): boolean {
    const before = this.#kickedIdx;
    const now = this.#availIdx;
    this.#kickedIdx = now;
    if (before === now) return false;
    if (!this.#options.eventIdx) return (this.#load(this.at.used + FLAGS) & ring.VRING_USED_F_NO_NOTIFY) === 0;
    const event = this.#load(this.at.used + ring.vringAvailEventOffset(this.size));
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** Passes every used chain to `callback` and takes its memory back. Returns how many there were. */
  drain(callback: UsedCallback): number {
    const { view } = this.#memory;
    let drained = 0;
    for (;;) {
      if (this.#usedIdx === this.#load(this.at.used + IDX)) {
        if (!this.#options.eventIdx) return drained;
        this.#store(this.at.avail + ring.vringUsedEventOffset(this.size), this.#usedIdx);
        // The device may have used more chains before it saw the new event index.
        if (this.#usedIdx === this.#load(this.at.used + IDX)) return drained;
      }
      const at = this.at.used + used.size + (this.#usedIdx % this.size) * usedElem.size;
      const id = usedElem.field.id.get(view, at);
      const written = usedElem.field.len.get(view, at);
      this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
      drained++;
      this.#complete(id, written, callback);
    }
  }

  /** The device used a chain that is not in flight. */
  protected unexpected(id: number): void {
    throw new FrontEndError('malformed', `the device used chain ${id}, which is not in flight`);
  }

  get #availIdx(): number {
    return this.#load(this.at.avail + IDX);
  }

  /** A 16-bit field by its offset in the driver's memory. */
  #load(at: number): number {
    return Atomics.load(this.#shared, at / 2);
  }

  #store(at: number, value: number): void {
    Atomics.store(this.#shared, at / 2, value);
  }

  #chain(head: number, count: number): void {
    const { indirect, maxSegment } = this.#options;
    const requestLength = this.#requestLength[head]!;
    const requestAt = this.#requestAt[head]!;
    const readable = Math.ceil(requestLength / maxSegment);
    let index = indirect ? 0 : this.#free[--this.#freeCount]!;
    for (let i = 0; i < count; i++) {
      const last = i === count - 1;
      const next = last ? 0 : indirect ? i + 1 : this.#free[--this.#freeCount]!;
      const at = (indirect ? this.#tableAt[head]! : this.at.desc) + index * desc.size;
      const more = last ? 0 : ring.VRING_DESC_F_NEXT;
      if (i < readable)
        this.#write(at, requestAt + i * maxSegment, Math.min(maxSegment, requestLength - i * maxSegment), more, next);
      else this.#write(at, this.#responseAt[head]!, this.#responseLength[head]!, more | ring.VRING_DESC_F_WRITE, next);
      index = next;
    }
  }

  #write(at: number, offset: number, length: number, flags: number, next: number): void {
    const { view, address } = this.#memory;
    desc.field.addr.set(view, at, address + offset);
    desc.field.len.set(view, at, length);
    desc.field.flags.set(view, at, flags);
    desc.field.next.set(view, at, next);
  }

  #publish(head: number): void {
    const { view } = this.#memory;
    const index = this.#availIdx;
    view.setUint16(this.at.avail + avail.size + (index % this.size) * 2, head, true);
    this.#store(this.at.avail + IDX, (index + 1) & 0xffff);
  }

  #complete(id: number, written: number, callback: UsedCallback): void {
    if (id >= this.size || this.#isSubmitted[id] === 0) {
      this.unexpected(id);
      callback(id, NO_BYTES, written);
      return;
    }
    this.#isSubmitted[id] = 0;
    callback(id, this.#response(id, written), written);
    this.#release(id);
  }

  #response(head: number, written: number): Uint8Array {
    const at = this.#responseAt[head]!;
    const length = Math.min(written, this.#responseLength[head]!);
    const { bytes } = this.#memory;
    const cached = this.#responses[head]!;
    if (cached.length === length && cached.byteOffset === bytes.byteOffset + at && length > 0) return cached;
    return (this.#responses[head] = bytes.subarray(at, at + length));
  }

  #release(head: number): void {
    const { pool, view } = this.#memory;
    const count = this.#descriptors[head]!;
    pool.give(this.#requestAt[head]!, this.#requestLength[head]!);
    pool.give(this.#responseAt[head]!, this.#responseLength[head]!);
    if (this.#options.indirect) {
      pool.give(this.#tableAt[head]!, count * desc.size);
      this.#free[this.#freeCount++] = head;
      return;
    }
    for (let i = 0, index = head; i < count; i++) {
      this.#free[this.#freeCount++] = index;
      index = desc.field.next.get(view, this.at.desc + index * desc.size);
    }
  }
}

function takeZeroed(memory: DriverMemory, length: number): number {
  const at = memory.pool.take(length);
  if (at < 0) throw new FrontEndError('full', `no room for a ring of ${length} bytes`);
  memory.bytes.fill(0, at, at + length);
  return at;
}
