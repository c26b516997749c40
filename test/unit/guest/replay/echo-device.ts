import type { GuestMemory } from '../../../../src/guest/memory.ts';
import type { VirtioDevice, VirtioTransport } from '../../../../src/guest/virtio/device.ts';
import type { Virtqueue } from '../../../../src/guest/virtio/queue.ts';

/** A device that answers every request with the request's bytes, as many as there is room for. */
export class EchoDevice implements VirtioDevice {
  readonly id = 42;
  readonly queueCount = 2;
  readonly features = 0n;
  readonly config = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  transport: VirtioTransport | null = null;
  memory: GuestMemory | null = null;
  acknowledged = 0n;
  resets = 0;
  readonly #queues = new Map<number, Virtqueue>();

  attached(transport: VirtioTransport): void {
    this.transport = transport;
  }

  detached(): void {
    this.transport = null;
  }

  negotiated(features: bigint): void {
    this.acknowledged = features;
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    this.config.set(bytes, offset);
  }

  memoryChanged(memory: GuestMemory): void {
    this.memory = memory;
  }

  queueStarted(index: number, queue: Virtqueue): void {
    this.#queues.set(index, queue);
  }

  queueStopped(index: number): void {
    this.#queues.delete(index);
  }

  halted(): void {
    // There is nothing to stop.
  }

  kicked(index: number): void {
    const queue = this.#queues.get(index);
    for (let chain = queue?.pop() ?? null; queue !== undefined && chain !== null; chain = queue.pop()) {
      const bytes = new Uint8Array(Math.min(chain.readable, chain.writable));
      chain.read(0, bytes, 0, bytes.length);
      queue.push(chain, chain.write(0, bytes, 0, bytes.length));
    }
  }

  reset(): void {
    this.resets++;
  }
}
