import type { PageRange, PagesBacking } from '../../core/framebuffer.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { VirtioGpuError } from './errors.ts';

/** A resource's pixels in memory of ours, when they cannot stay where the guest has them. */
export class Store implements PagesBacking, Disposable {
  readonly kind = 'pages';
  readonly isBlob = false;
  readonly ranges: readonly PageRange[];
  readonly length: number;
  readonly #memfd: OwnedFd;
  readonly #mapping: Mapping;
  readonly #budget: MemoryBudget;

  private constructor(memfd: OwnedFd, mapping: Mapping, budget: MemoryBudget) {
    this.#memfd = memfd;
    this.#mapping = mapping;
    this.#budget = budget;
    this.length = mapping.length;
    this.ranges = [{ memfd, offset: 0, length: mapping.length }];
  }

  /**
   * Zeroed; `bytes` are rounded up to whole pages and charged to `budget` until dispose.
   * VirtioGpuError out-of-memory beyond the budget, SysError of memfd_create, ftruncate or mmap.
   */
  static create(budget: MemoryBudget, bytes: number): Store {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    if (!budget.reserve(length)) throw new VirtioGpuError('out-of-memory', `${length} bytes for a resource: ${budget.used} of ${budget.limit} are in use`);
    let memfd: OwnedFd | null = null;
    try {
      memfd = createMemfd('scanout-resource', length);
      return new Store(memfd, Mapping.file(memfd, 0, length, 'read-write'), budget);
    } catch (error) {
      memfd?.[Symbol.dispose]();
      budget.release(length);
      throw error;
    }
  }

  get bytes(): Uint8Array {
    return this.#mapping.bytes;
  }

  pixels(): Mapping {
    return this.#mapping;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
    this.#budget.release(this.length);
  }
}
