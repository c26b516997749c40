import { EV, SYN_REPORT } from '../../../protocols/input-event-codes.ts';
import { virtio_input_event } from '../../../protocols/virtio-input.ts';
import type { Chain } from '../virtio/chain.ts';

/** A power of two: positions only count up, and are cut. More than any group can have. */
const CAPACITY = 1024;
const WORDS = virtio_input_event.size / 4;

/**
 * Groups of events the driver has no buffers for yet, as they will lie in those. QEMU's queue has
 * four buffers, less than many a group: a group goes out in pieces, which the guest puts
 * together at its SYN_REPORT, but what has begun is always ended.
 */
export class EventBacklog {
  readonly #words = new Uint32Array(CAPACITY * WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #first = 0;
  #count = 0;
  /** How many of them are in groups that have ended. */
  #ended = 0;

  /** Events in it. */
  get count(): number {
    return this.#count;
  }

  /** Whether a group of so many events, and its end, fit. */
  hasRoom(events: number): boolean {
    return this.#count + events + 1 <= CAPACITY;
  }

  /** Only with room for it. `value` has 32 bits, signed or not. */
  add(type: number, code: number, value: number): void {
    const at = ((this.#first + this.#count++) % CAPACITY) * WORDS;
    this.#words[at] = type | (code << 16);
    this.#words[at + 1] = value;
  }

  /** Does nothing if nothing was added since the last end. */
  endGroup(): void {
    if (this.#count === this.#ended) return;
    this.add(EV.SYN, SYN_REPORT, 0);
    this.#ended = this.#count;
  }

  /** Moves the first event into a buffer of the driver. False if the buffer is too small for it. */
  moveFirst(into: Chain): boolean {
    if (into.write(0, this.#bytes, this.#first * virtio_input_event.size, virtio_input_event.size) < virtio_input_event.size) return false;
    this.#first = (this.#first + 1) % CAPACITY;
    this.#count--;
    this.#ended--;
    return true;
  }

  clear(): void {
    this.#count = 0;
    this.#ended = 0;
  }
}
