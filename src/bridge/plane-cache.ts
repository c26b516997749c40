import type { FramebufferId } from '../core/framebuffer.ts';
import type { Handle } from '../core/output.ts';

/** Deeper than any guest's buffer queue; a guest that describes more pays an import for the oldest. */
const CAPACITY = 64;

export interface PlaneCacheStats {
  hits: number;
  imports: number;
  evictions: number;
  /** Bytes of guest memory the cached handles keep pinned. */
  pinnedBytes: number;
}

interface Entry {
  readonly handle: Handle;
  readonly byteLength: number;
  lastUse: number;
}

/**
 * Framebuffer identity -> handle, for one plane of one output. Owns the handles. The output keeps
 * alive what the hardware still reads, and the caller never evicts what it shows: `keep` names it.
 */
export class PlaneCache implements Disposable {
  readonly #entries = new Map<FramebufferId, Entry>();
  readonly stats: PlaneCacheStats = { hits: 0, imports: 0, evictions: 0, pinnedBytes: 0 };
  #clock = 0;

  get(id: FramebufferId): Handle | null {
    const entry = this.#entries.get(id);
    if (!entry) return null;
    entry.lastUse = ++this.#clock;
    this.stats.hits++;
    return entry.handle;
  }

  /** Takes the handle over. `isShown` protects what is on screen or in flight from eviction. */
  add(id: FramebufferId, handle: Handle, byteLength: number, isShown: (handle: Handle) => boolean): void {
    while (this.#entries.size >= CAPACITY && this.#evictOldest(isShown));
    this.#entries.set(id, { handle, byteLength, lastUse: ++this.#clock });
    this.stats.imports++;
    this.stats.pinnedBytes += byteLength;
  }

  delete(id: FramebufferId): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    this.stats.pinnedBytes -= entry.byteLength;
    entry.handle[Symbol.dispose]();
  }

  clear(): void {
    for (const id of [...this.#entries.keys()]) this.delete(id);
  }

  [Symbol.dispose](): void {
    this.clear();
  }

  /** False: everything is shown. */
  #evictOldest(isShown: (handle: Handle) => boolean): boolean {
    let oldest: FramebufferId | null = null;
    let oldestUse = Infinity;
    for (const [id, entry] of this.#entries) {
      if (entry.lastUse < oldestUse && !isShown(entry.handle)) {
        oldest = id;
        oldestUse = entry.lastUse;
      }
    }
    if (oldest === null) return false;
    this.delete(oldest);
    this.stats.evictions++;
    return true;
  }
}
