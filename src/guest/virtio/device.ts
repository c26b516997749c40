import type { GuestMemory } from '../memory.ts';
import type { Virtqueue } from './queue.ts';

/** What a device may ask of whatever carries it (a vhost-user connection, a test). */
export interface VirtioTransport {
  /** Tells the driver to read the config space again. False when the front end cannot pass it on. */
  configChanged(): boolean;
}

/**
 * A virtio device without its transport. Calls come in this order: `attached`, `negotiated`,
 * `memoryChanged`, `queueStarted`, any number of `kicked`; `reset` undoes all but `attached` and
 * comes before `detached`. No method may throw because of what the guest did.
 */
export interface VirtioDevice {
  /** virtio device id: 16 is a GPU. */
  readonly id: number;
  readonly queueCount: number;
  /** Device feature bits offered; the transport adds its own and those of the rings. */
  readonly features: bigint;
  /** The config space as it is now, little-endian; read, not written, by the transport. */
  readonly config: Uint8Array;

  attached(transport: VirtioTransport): void;
  detached(): void;
  negotiated(features: bigint): void;
  /** The driver writes to the config space; out-of-range bytes are the device's to ignore. */
  writeConfig(offset: number, bytes: Uint8Array): void;
  /** A new memory table. The one before stays mapped until this returns. */
  memoryChanged(memory: GuestMemory): void;
  queueStarted(index: number, queue: Virtqueue): void;
  /** The last chance to push the chains popped from it: the queue is dead when this returns. */
  queueStopped(index: number): void;
  /**
   * The front end took back every queue, as it does for a pause and for a reset alike. The guest
   * does not run until this returns.
   */
  halted(): void;
  /** The driver made chains available. */
  kicked(index: number): void;
  reset(): void;
}
