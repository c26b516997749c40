import { vring_avail, vring_desc } from '../../protocols/virtio-ring.ts';
import type { DriverMemory } from '../../src/guest/replay/driver-memory.ts';
import { DriverQueue, type DriverQueueOptions } from '../../src/guest/replay/driver-queue.ts';

/** A driver's queue that can also write what no honest driver would; from then on it accepts any used id. */
export class HostileQueue extends DriverQueue {
  readonly #memory: DriverMemory;
  #isHostile = false;

  constructor(memory: DriverMemory, options: DriverQueueOptions) {
    super(memory, options);
    this.#memory = memory;
  }

  /** Writes one descriptor, anywhere in the table. `address` is guest physical. */
  setDescriptor(index: number, address: number, length: number, flags: number, next: number): void {
    const { view } = this.#memory;
    const at = this.at.desc + index * vring_desc.size;
    vring_desc.field.addr.set(view, at, address);
    vring_desc.field.len.set(view, at, length);
    vring_desc.field.flags.set(view, at, flags);
    vring_desc.field.next.set(view, at, next);
  }

  /** Makes a head available, whatever its value. */
  publish(head: number): void {
    const { view } = this.#memory;
    const index = vring_avail.field.idx.get(view, this.at.avail);
    view.setUint16(this.at.avail + vring_avail.size + (index % this.size) * 2, head, true);
    this.setAvailIdx(index + 1);
  }

  setAvailIdx(index: number): void {
    this.#isHostile = true;
    vring_avail.field.idx.set(this.#memory.view, this.at.avail, index & 0xffff);
  }

  protected override unexpected(id: number): void {
    if (!this.#isHostile) super.unexpected(id);
  }
}
