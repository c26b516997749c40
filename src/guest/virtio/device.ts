import type { GuestMemory } from '../memory.ts';
import type { Virtqueue } from './queue.ts';

/** The transport of a device: a vhost-user connection, or a test. */
export interface VirtioTransport {
  /** Notifies the driver that the config space changed. False if the front end cannot pass that on. */
  configChanged(): boolean;
  /** The device cannot go on, because of an error in a turn of the event loop of its own. May reset and detach it at once. */
  failed(error: unknown): void;
}

/**
 * A virtio device without its transport. Calls come in this order: `attached`, `negotiated`, `memoryChanged`,
 * `queueStarted`, any number of `kicked`. `reset` undoes all but `attached`, and comes before `detached`. No
 * method may throw because of anything the guest did.
 */
export interface VirtioDevice {
  /** The virtio device id: 16 is a GPU. */
  readonly id: number;
  readonly queueCount: number;
  /** The device's feature bits. The transport offers them with its own and those of the rings. */
  readonly features: bigint;
  /** The config space as it is now, little-endian. The transport only reads it. */
  readonly config: Uint8Array;

  attached(transport: VirtioTransport): void;
  detached(): void;
  negotiated(features: bigint): void;
  /** The driver writes to the config space. The device ignores bytes out of range. */
  writeConfig(offset: number, bytes: Uint8Array): void;
  /** There is a new memory table. The old one stays mapped until this returns. */
  memoryChanged(memory: GuestMemory): void;
  queueStarted(index: number, queue: Virtqueue): void;
  /** The last chance to push the chains popped from the queue, which must not be used after this returns. */
  queueStopped(index: number): void;
  /**
   * The front end took back every queue, as it does for a pause and for a reset alike. The guest does not run
   * until this returns.
   */
  halted(): void;
  /** The driver made chains available. */
  kicked(index: number): void;
  reset(): void;
}
