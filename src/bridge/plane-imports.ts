import { describeModifier } from '../../protocols/drm-fourcc-modifier.ts';
import { formatInfo, formatName, planeSize } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import type { LogOnce } from '../core/log.ts';
import { DmabufImportRefused, type Handle, type Output } from '../core/output.ts';
import type { DmabufPool } from './dmabuf-pool.ts';

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

/** What an output made of framebuffers for one plane, and what it cannot be asked for again. Owns the handles. */
export class PlaneImports implements Disposable {
  readonly #output: Output;
  readonly #dmabufs: DmabufPool;
  readonly #logOnce: LogOnce;
  readonly #isShown: (handle: Handle) => boolean;
  readonly #cache = new PlaneCache();
  /** `format modifier` pairs the output refused for good, framebuffers that go by copy. */
  readonly #refused = new Set<string>();
  readonly #copied = new Set<FramebufferId>();

  /** `isShown` names handles that must stay. */
  constructor(output: Output, dmabufs: DmabufPool, logOnce: LogOnce, isShown: (handle: Handle) => boolean) {
    this.#output = output;
    this.#dmabufs = dmabufs;
    this.#logOnce = logOnce;
    this.#isShown = isShown;
  }

  get stats(): PlaneCacheStats {
    return this.#cache.stats;
  }

  /** The handle, made at the first call; null: the framebuffer goes by copy, for good unless the output's refusal may pass. */
  get(framebuffer: Framebuffer): Handle | null {
    if (this.#copied.has(framebuffer.id)) return null;
    return this.#cache.get(framebuffer.id) ?? this.#import(framebuffer);
  }

  /** The framebuffer is gone. */
  forget(id: FramebufferId): void {
    this.#cache.delete(id);
    this.#copied.delete(id);
  }

  /** The output imports something else than before: every framebuffer is tried anew. */
  renew(): void {
    this.#cache.clear();
    this.#refused.clear();
    this.#copied.clear();
  }

  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
  }

  #import(framebuffer: Framebuffer): Handle | null {
    const pair = `${formatName(framebuffer.format)} ${describeModifier(framebuffer.modifier)}`;
    const shared = this.#refused.has(pair) ? null : this.#shareable(framebuffer, pair);
    if (!shared) {
      this.#copied.add(framebuffer.id);
      return null;
    }
    const handle = this.#output.import(shared);
    if (handle instanceof DmabufImportRefused) {
      if (handle.isLasting) this.#copied.add(framebuffer.id);
      // One picture too small or too large says nothing about the next.
      if (handle.isLasting && handle.code !== 'size') this.#refused.add(pair);
      this.#logOnce('info', `${this.#output.name} refused ${pair}, copying the damage: ${handle.message}`, `refused ${pair} ${handle.code}`);
      return null;
    }
    this.#cache.add(framebuffer.id, handle, pinnedBytes(framebuffer), this.#isShown);
    return handle;
  }

  /** The framebuffer in a form this output may import, or null with the reason logged. */
  #shareable(framebuffer: Framebuffer, pair: string): Framebuffer | null {
    if (this.#output.readsPages && framebuffer.backing.kind === 'pages') return framebuffer;
    if (this.#output.imports.isEmpty) return null;
    if (!this.#output.imports.has(framebuffer.format, framebuffer.modifier)) {
      this.#logOnce('info', `${this.#output.name} does not import ${pair}: copying the damage`);
      return null;
    }
    const shared = this.#dmabufs.get(framebuffer);
    if (!(shared instanceof Error)) return shared;
    this.#logOnce('info', `${this.#output.name}: copying the damage: ${shared.message}`, shared.code);
    return null;
  }
}

/** What the kernel keeps for a handle: all pages of a udmabuf; of somebody's dma-buf at least its picture. */
function pinnedBytes({ backing, planes, format, height }: Framebuffer): number {
  if (backing.kind === 'pages') return backing.ranges.reduce((sum, { length }) => sum + length, 0);
  const info = formatInfo(format);
  return planes.reduce((sum, { stride }, i) => sum + (info?.planes[i] ? planeSize(info, i, stride, height) : stride * height), 0);
}
