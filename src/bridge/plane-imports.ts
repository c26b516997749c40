import { describeModifier, formatInfo, formatName, planeSize } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import type { LogOnce } from '../core/log.ts';
import { DmabufImportRefused, type Handle, type Output } from '../core/output.ts';
import { monotonicMs } from '../sys/clock.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { Pump } from '../sys/pump.ts';
import type { UdmabufError } from '../sys/udmabuf.ts';
import { type DmabufPool, PoolFull, shownPages } from './dmabuf-pool.ts';

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
  readonly #onDeleted: (id: FramebufferId) => void;
  #clock = 0;

  /** `onDeleted` is called after a handle was disposed. */
  constructor(onDeleted: (id: FramebufferId) => void) {
    this.#onDeleted = onDeleted;
  }

  get(id: FramebufferId): Handle | null {
    const entry = this.#entries.get(id);
    if (!entry) return null;
    entry.lastUse = ++this.#clock;
    this.stats.hits++;
    return entry.handle;
  }

  /** Takes ownership of the handle. */
  add(id: FramebufferId, handle: Handle, byteLength: number): void {
    while (this.#entries.size >= CAPACITY && this.evictOldest());
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
    this.#onDeleted(id);
  }

  clear(): void {
    for (const id of [...this.#entries.keys()]) this.delete(id);
  }

  /** Disposes the handle that was used least recently. False if every handle is held. */
  evictOldest(): boolean {
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

  [Symbol.dispose](): void {
    this.clear();
  }
}

/** After a refusal that may pass, a framebuffer is copied for so long without asking again. */
const BACK_OFF_MS = 250;

/**
 * The output's imports of this plane's framebuffers, and the formats it has refused for good. Owns
 * the handles.
 */
export class PlaneImports implements Disposable {
  readonly #output: Output;
  readonly #dmabufs: DmabufPool;
  readonly #logOnce: LogOnce;
  readonly #cache: PlaneCache;
  /** `format modifier` pairs the output has refused for good. */
  readonly #refused = new Set<string>();
  /** Framebuffers that are copied, until when: CLOCK_MONOTONIC in milliseconds, or Infinity. */
  readonly #copied = new Map<FramebufferId, number>();

  constructor(output: Output, dmabufs: DmabufPool, logOnce: LogOnce) {
    this.#output = output;
    this.#dmabufs = dmabufs;
    this.#logOnce = logOnce;
    this.#cache = new PlaneCache((id) => dmabufs.release(id));
  }

  get stats(): PlaneCacheStats {
    return this.#cache.stats;
  }

  /** The handle if there is one, null if the framebuffer is copied, undefined if `make` has to find out. Makes nothing. */
  find(framebuffer: Framebuffer): Handle | null | undefined {
    const known = this.#cache.get(framebuffer.id);
    if (known) return known;
    const until = this.#copied.get(framebuffer.id);
    if (until !== undefined && until > monotonicMs()) return null;
    if (this.#mayImport(framebuffer)) return undefined;
    this.#copied.set(framebuffer.id, Infinity);
    return null;
  }

  /** Whether `make` pins guest pages, which takes milliseconds for a large picture. */
  isExpensive({ backing }: Framebuffer): boolean {
    return backing.kind === 'pages' && !this.#output.readsPages;
  }

  /**
   * Makes the handle. Null: the framebuffer is copied, for good or, after a refusal that may pass, until it is shown again
   * later.
   */
  make(framebuffer: Framebuffer): Handle | null {
    const shared = this.isExpensive(framebuffer) ? this.#share(framebuffer) : framebuffer;
    if (shared instanceof Error) {
      this.#logOnce('info', `${this.#output.name}: copying the damage: ${shared.message}`, shared.code);
      this.#refuse(framebuffer.id, shared.isLasting);
      return null;
    }
    using stack = new DisposableStack();
    stack.defer(() => this.#dmabufs.release(framebuffer.id));
    const handle = this.#output.import(shared);
    if (handle instanceof DmabufImportRefused) {
      const pair = pairOf(framebuffer);
      this.#refuse(framebuffer.id, handle.isLasting);
      // One picture of the wrong size, or in too many pieces, says nothing about the next.
      if (handle.code === 'format' || handle.code === 'modifier') this.#refused.add(pair);
      this.#logOnce(
        'info',
        `${this.#output.name} refused ${pair}, copying the damage: ${handle.message}`,
        `refused ${pair} ${handle.code}`,
      );
      return null;
    }
    stack.move();
    this.#copied.delete(framebuffer.id);
    this.#cache.add(framebuffer.id, handle, pinnedBytes(framebuffer));
    return handle;
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

  /** False, for good, with the reason logged unless it is a setting or the nature of the output. */
  #mayImport(framebuffer: Framebuffer): boolean {
    const { format, modifier, backing } = framebuffer;
    const { imports, readsPages, name } = this.#output;
    const isRefused = this.#refused.size > 0 && this.#refused.has(pairOf(framebuffer));
    if (readsPages && backing.kind === 'pages') return !isRefused && this.#dmabufs.allowsReading(framebuffer);
    if (imports.isEmpty || isRefused || !this.#dmabufs.allows(framebuffer)) return false;
    if (framebuffer.isBottomUp && !this.#output.mirrors) {
      const isCopied = backing.kind !== 'dmabuf' || backing.pixels !== undefined;
      const how = isCopied ? 'copying the damage' : 'they are upside down, because they cannot be copied';
      this.#logOnce('info', `${name} does not mirror pictures whose first row is the lowest: ${how}`);
      if (isCopied) return false;
    }
    if (imports.has(format, modifier)) return true;
    this.#logOnce('info', `${name} does not import ${pairOf(framebuffer)}: copying the damage`);
    return false;
  }

  /** Gives up pictures that are not on screen, oldest first, to make room. */
  #share(framebuffer: Framebuffer): Framebuffer | UdmabufError | PoolFull {
    for (;;) {
      const shared = this.#dmabufs.take(framebuffer, false);
      if (!(shared instanceof PoolFull)) return shared;
      if (!this.#cache.evictOldest()) return this.#dmabufs.take(framebuffer, true);
    }
  }

  #refuse(id: FramebufferId, isLasting: boolean): void {
    this.#copied.set(id, isLasting ? Infinity : monotonicMs() + BACK_OFF_MS);
  }
}

function pairOf({ format, modifier }: Framebuffer): string {
  return `${formatName(format)} ${describeModifier(modifier)}`;
}

/** What the kernel keeps for a handle: the pages of the picture; of a dma-buf that was given, at least those. */
function pinnedBytes(framebuffer: Framebuffer): number {
  const { backing, planes, format, height } = framebuffer;
  if (backing.kind === 'pages') return shownPages(framebuffer, backing.ranges).byteLength;
  const info = formatInfo(format);
  return planes.reduce(
    (sum, { stride }, i) => sum + (info?.planes[i] ? planeSize(info, i, stride, height) : stride * height),
    0,
  );
}

/** A screen with new framebuffers. */
export interface Importer {
  /** Makes their handles and goes on. */
  prepare(): void;
}

/**
 * Lets the screens of a bridge make handles of new framebuffers one after the other. Each pins up to tens of thousands of
 * guest pages in one system call of many milliseconds, so after one of those the next has to wait for another turn of the
 * event loop.
 */
export class ImportTurns implements Disposable {
  readonly #waiting = new Set<Importer>();
  readonly #pump = new Pump(() => this.#next());

  /** Has `importer.prepare` called once, perhaps at once. */
  add(importer: Importer): void {
    this.#waiting.add(importer);
    this.#pump.start();
  }

  remove(importer: Importer): void {
    this.#waiting.delete(importer);
  }

  [Symbol.dispose](): void {
    this.#pump[Symbol.dispose]();
  }

  #next(): boolean {
    for (const importer of this.#waiting) {
      this.#waiting.delete(importer);
      importer.prepare();
      return true;
    }
    return false;
  }
}
