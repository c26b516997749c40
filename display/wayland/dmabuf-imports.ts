import { DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, type Fourcc, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';
import type { FormatPair } from './dmabuf-formats.ts';

/**
 * What a compositor imports, less what it has refused, and what to call a buffer in front of it:
 * its pixels are the same as an opaque format, and linear ones the same without a modifier, which
 * drivers take foreign memory for.
 */
export class DmabufImports {
  /** Best first. */
  #tranches: readonly FormatSet[] = [];
  /** As `keyOf`. */
  readonly #refused = new Set<string>();
  #formats = new FormatSet();

  /** What framebuffers may have. */
  get formats(): FormatSet {
    return this.#formats;
  }

  /** Another compositor: what the one before it refused says nothing. */
  reset(tranches: readonly FormatSet[]): void {
    this.#refused.clear();
    this.offer(tranches);
  }

  /** True if framebuffers are to be imported anew: there are others, or some have a better name now. */
  offer(tranches: readonly FormatSet[]): boolean {
    const before = this.#names();
    this.#tranches = tranches;
    this.#update();
    const now = this.#names();
    return before.size !== now.size || [...now].some(([pair, name]) => before.get(pair) !== name);
  }

  /** The compositor does not import what it has offered. */
  refuse(name: FormatPair): void {
    this.#refused.add(keyOf(...name));
    this.#update();
  }

  /** A name for buffers of this format and modifier; null if they cannot be imported. `isOpaque`: their alpha means nothing, and had better not count. */
  choose(format: Fourcc, modifier: Modifier, isOpaque: boolean): FormatPair | null {
    const opaque = isOpaque ? opaqueOf(format) : null;
    return (opaque === null ? null : this.#bestName(opaque, modifier)) ?? this.#bestName(format, modifier);
  }

  /** What the compositor likes best comes before what is said most exactly: it may be all its screen takes. */
  #bestName(format: Fourcc, modifier: Modifier): FormatPair | null {
    for (const tranche of this.#tranches) {
      if (this.#takes(tranche, format, modifier)) return [format, modifier];
      if (modifier === DRM_FORMAT_MOD_LINEAR && this.#takes(tranche, format, DRM_FORMAT_MOD_INVALID)) return [format, DRM_FORMAT_MOD_INVALID];
    }
    return null;
  }

  #takes(tranche: FormatSet, format: Fourcc, modifier: Modifier): boolean {
    return tranche.has(format, modifier) && !this.#refused.has(keyOf(format, modifier));
  }

  #update(): void {
    const offered = this.#tranches.flatMap((tranche) => [...pairsOf(tranche)]).filter((pair) => !this.#refused.has(keyOf(...pair)));
    const linear = offered.filter(([, modifier]) => modifier === DRM_FORMAT_MOD_INVALID).map(([format]) => [format, DRM_FORMAT_MOD_LINEAR] as const);
    this.#formats = new FormatSet([...offered, ...linear]);
  }

  /** Of whatever can be imported, both as it is and as opaque. */
  #names(): Map<string, string> {
    const names = new Map<string, string>();
    for (const pair of pairsOf(this.#formats)) {
      names.set(keyOf(...pair), [false, true].map((isOpaque) => keyOf(...this.choose(...pair, isOpaque)!)).join());
    }
    return names;
  }
}

function keyOf(format: Fourcc, modifier: Modifier): string {
  return `${format} ${modifier}`;
}

function* pairsOf(formats: FormatSet): Generator<FormatPair> {
  for (const format of formats.formats()) for (const modifier of formats.modifiers(format)) yield [format, modifier];
}
