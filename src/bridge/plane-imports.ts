import { describeModifier } from '../../protocols/drm-fourcc-modifier.ts';
import { formatInfo, formatName, planeSize } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import type { LogOnce } from '../core/log-once.ts';
import { DmabufImportRefused, type Handle, type Output } from '../core/output.ts';
import type { DmabufPool } from './dmabuf-pool.ts';
import { PlaneCache, type PlaneCacheStats } from './plane-cache.ts';

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
