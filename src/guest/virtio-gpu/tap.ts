import type { MemoryBudget } from '../../core/budget.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId } from '../../core/source.ts';
import type { GuestMemory } from '../memory.ts';

/** Observes a virtio-gpu device; a Recorder has one. Methods must not throw. Arguments are valid during the call only. */
export interface GpuTap {
  /** The device takes no commands, and reads no more pixels of the one it is at, while this is true. */
  readonly isBusy: boolean;
  /**
   * Comes first, once. `budget` is the guest's, for the memory that the tap needs because of it. The tap calls `resume`
   * when it is no longer busy.
   */
  attached(budget: MemoryBudget, resume: () => void): void;
  /** The monitor offered on a scanout from now on; null is unplugged. */
  monitorChanged(scanout: ScanoutId, monitor: Monitor | null): void;
  memoryChanged(memory: Pick<GuestMemory, 'regions'>): void;
  negotiated(features: bigint): void;
  /**
   * `length` bytes of guest memory from a guest physical address on, in `bytes` as the device has read them. The
   * command that uses them is reported later; commands of other queues may be reported before it.
   */
  pixels(address: number, bytes: Buffer, length: number): void;
  /** A request of `length` bytes, which has run. `responseSpace` is what the chain could take back. */
  command(queue: number, request: Uint8Array, length: number, responseSpace: number): void;
  reset(): void;
}
