import { readSync } from 'node:fs';
import { DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, type Fourcc, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import type { ZwpLinuxDmabufFeedbackV1, ZwpLinuxDmabufV1 } from './client/index.ts';

export type FormatPair = readonly [Fourcc, Modifier];

/** u32 format, padding, u64 modifier. */
const ENTRY_SIZE = 16;
/** Formats times modifiers of the largest GPU are some thousands. */
const MAX_TABLE_SIZE = 1024 * 1024;

/**
 * What the compositor says it imports, in tranches, best first. Up to version 3 that is one, told
 * by `format` and `modifier` events and complete at the next roundtrip; since then a feedback
 * object says it, and again whenever it changes.
 */
export class DmabufFormats {
  readonly #onChange: () => void;
  #tranches: readonly FormatSet[] = [];
  /** Of versions 1 to 3. */
  readonly #announced: FormatPair[] = [];
  #table: readonly FormatPair[] = [];
  #tranche: FormatPair[] = [];
  #collected: FormatSet[] = [];
  #mainDevice: bigint | null = null;

  constructor(onChange: () => void = () => undefined) {
    this.#onChange = onChange;
  }

  get tranches(): readonly FormatSet[] {
    return this.#announced.length > 0 ? [new FormatSet(this.#announced)] : this.#tranches;
  }

  /** The dev_t of the device it renders on, a DRM node of whichever kind; null if it does not say. */
  get mainDevice(): bigint | null {
    return this.#mainDevice;
  }

  /** Versions 1 to 3. Sooner than any event. */
  watchGlobal(dmabuf: ZwpLinuxDmabufV1): void {
    dmabuf.listener = {
      // Version 3 says everything again by `modifier`.
      format: (format) => {
        if (dmabuf.version < 3) this.#announced.push([format as Fourcc, DRM_FORMAT_MOD_INVALID]);
      },
      modifier: (format, high, low) => this.#announced.push([format as Fourcc, modifierOf(high, low)]),
    };
  }

  /**
   * Version 4 on. A tranche's target device and its flag are hints for whoever allocates, and our
   * buffers are in the guest's pages already, on no device; that the compositor likes one tranche
   * better than another is what we can heed.
   */
  watch(feedback: ZwpLinuxDmabufFeedbackV1): void {
    feedback.listener = {
      formatTable: (fd, size) => (this.#table = readTable(fd, size)),
      mainDevice: (device) => (this.#mainDevice = deviceOf(device)),
      trancheFormats: (indices) => this.#collect(indices),
      trancheDone: () => this.#endTranche(),
      done: () => this.#done(),
    };
  }

  #collect(indices: Uint8Array): void {
    const view = new DataView(indices.buffer, indices.byteOffset, indices.byteLength);
    for (let at = 0; at + 2 <= indices.length; at += 2) {
      const pair = this.#table[view.getUint16(at, true)];
      if (pair) this.#tranche.push(pair);
    }
  }

  #endTranche(): void {
    this.#collected.push(new FormatSet(this.#tranche));
    this.#tranche = [];
  }

  #done(): void {
    this.#tranches = this.#collected;
    this.#collected = [];
    this.#onChange();
  }
}

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
  readonly #onRefused: (pair: FormatPair) => void;
  #formats = new FormatSet();

  /** `onRefused`: an import failed although the compositor offers it, and `formats` is without it now. */
  constructor(onRefused: (pair: FormatPair) => void) {
    this.#onRefused = onRefused;
  }

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

  /** From the buffer: the compositor did not import what it offers. */
  failed(name: FormatPair): void {
    this.#refused.add(keyOf(...name));
    this.#update();
    this.#onRefused(name);
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

/**
 * Consumes `fd`. Read, not mapped: a mapping of a file that is cut short faults, a copy has fewer
 * entries; and a table is looked at once. What is no file has none.
 */
function readTable(fd: OwnedFd, size: number): FormatPair[] {
  using _ = fd;
  const bytes = new Uint8Array(Math.min(size, MAX_TABLE_SIZE));
  const length = tryPread(fd, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: Math.floor(length / ENTRY_SIZE) }, (_entry, i) => [
    view.getUint32(i * ENTRY_SIZE, true) as Fourcc,
    view.getBigUint64(i * ENTRY_SIZE + 8, true) as Modifier,
  ]);
}

function tryPread(fd: BorrowedFd, bytes: Uint8Array): number {
  try {
    return readSync(fd.fd, bytes, 0, bytes.length, 0);
  } catch {
    return 0;
  }
}

function deviceOf(bytes: Uint8Array): bigint | null {
  return bytes.length === 8 ? new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true) : null;
}

function modifierOf(high: number, low: number): Modifier {
  return ((BigInt(high) << 32n) | BigInt(low)) as Modifier;
}

function keyOf(format: Fourcc, modifier: Modifier): string {
  return `${format} ${modifier}`;
}

function* pairsOf(formats: FormatSet): Generator<FormatPair> {
  for (const format of formats.formats()) for (const modifier of formats.modifiers(format)) yield [format, modifier];
}
