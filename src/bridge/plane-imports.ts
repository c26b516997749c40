import { describeModifier, formatInfo, formatName, planeSize } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import type { LogOnce } from '../core/log.ts';
import { DmabufImportRefused, type Handle, type Output } from '../core/output.ts';
import type { DmabufPool } from './dmabuf-pool.ts';

/** Deeper than any guest's buffer queue. A guest that uses more framebuffers pays an import for the oldest. */
const CAPACITY = 64;

export interface PlaneCacheStats {
  hits: number;
  imports: number;
  evictions: number;
  /** Bytes of guest memory that the cached handles keep pinned. */
  pinnedBytes: number;
}

interface Entry {
  readonly handle: Handle;
  readonly byteLength: number;
  lastUse: number;
}

/**
 * Framebuffer identity -> handle, for one plane of one output. Owns the handles, and never evicts
 * one that is held.
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

  /** Takes ownership of the handle. */
  add(id: FramebufferId, handle: Handle, byteLength: number): void {
    while (this.#entries.size >= CAPACITY && this.#evictOldest());
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

  /** False if every handle is held. */
  #evictOldest(): boolean {
    let oldest: FramebufferId | null = null;
    let oldestUse = Infinity;
    for (const [id, entry] of this.#entries) {
      if (entry.lastUse < oldestUse && !entry.handle.isHeld) {
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

/**
 * The output's imports of this plane's framebuffers, and the formats it has refused for good. Owns
 * the handles.
 */
export class PlaneImports implements Disposable {
  readonly #output: Output;
  readonly #dmabufs: DmabufPool;
  readonly #logOnce: LogOnce;
  readonly #cache = new PlaneCache();
  /** `format modifier` pairs the output has refused for good. */
  readonly #refused = new Set<string>();
  /** Framebuffers that are copied. */
  readonly #copied = new Set<FramebufferId>();

  constructor(output: Output, dmabufs: DmabufPool, logOnce: LogOnce) {
    this.#output = output;
    this.#dmabufs = dmabufs;
    this.#logOnce = logOnce;
  }

  get stats(): PlaneCacheStats {
    return this.#cache.stats;
  }

  /**
   * The handle, made by the first call. Null: the framebuffer is copied, for good unless the output's
   * refusal may pass.
   */
  get(framebuffer: Framebuffer): Handle | null {
    if (this.#copied.has(framebuffer.id)) return null;
    return this.#cache.get(framebuffer.id) ?? this.#import(framebuffer);
  }

  /** The framebuffer goes away. */
  remove(id: FramebufferId): void {
    this.#cache.delete(id);
    this.#copied.delete(id);
  }

  /** The output's imports changed: every framebuffer is tried again. */
  clear(): void {
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
      // One picture of the wrong size says nothing about the next.
      if (handle.isLasting && handle.code !== 'size') this.#refused.add(pair);
      this.#logOnce(
        'info',
        `${this.#output.name} refused ${pair}, copying the damage: ${handle.message}`,
        `refused ${pair} ${handle.code}`,
      );
      return null;
    }
    this.#cache.add(framebuffer.id, handle, pinnedBytes(framebuffer));
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

/** What the kernel keeps for a handle: all pages of a udmabuf; of any other dma-buf, at least its picture. */
function pinnedBytes({ backing, planes, format, height }: Framebuffer): number {
  if (backing.kind === 'pages') return backing.ranges.reduce((sum, { length }) => sum + length, 0);
  const info = formatInfo(format);
  return planes.reduce(
    (sum, { stride }, i) => sum + (info?.planes[i] ? planeSize(info, i, stride, height) : stride * height),
    0,
  );
}
