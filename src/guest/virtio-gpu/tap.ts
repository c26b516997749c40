import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId } from '../../core/source.ts';
import type { Mapping } from '../../sys/mapping.ts';
import type { GuestMemory } from '../memory.ts';

/** One piece of a resource's backing, by guest physical address. */
export interface BackingEntry {
  readonly address: number;
  readonly length: number;
}

/** Observes a virtio-gpu device; a Recorder has one. Methods must not throw. Arguments are valid during the call only. */
export interface GpuTap {
  /** The monitor offered on a scanout from now on; null is unplugged. */
  monitorChanged(scanout: ScanoutId, monitor: Monitor | null): void;
  memoryChanged(memory: GuestMemory): void;
  negotiated(features: bigint): void;
  /** A request of `length` bytes, before it runs. `responseSpace` is what the chain can take back. */
  command(queue: number, request: Uint8Array, length: number, responseSpace: number): void;
  /**
   * Guest pixels that the command reported last is about to use: `rows` rows of `rowBytes`, `stride` apart, from
   * `offset` on in `pixels`, which maps `entries` one after another.
   */
  pixels(
    entries: readonly BackingEntry[],
    pixels: Mapping,
    offset: number,
    stride: number,
    rowBytes: number,
    rows: number,
  ): void;
  reset(): void;
}
