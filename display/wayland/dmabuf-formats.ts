import { readSync } from 'node:fs';
import {
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  type Modifier,
  opaqueOf,
} from '../../protocols/drm-fourcc.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import type { ZwpLinuxDmabufFeedbackV1, ZwpLinuxDmabufV1 } from './client/index.ts';

export type FormatPair = readonly [Fourcc, Modifier];

/** u32 format, padding, u64 modifier. */
const ENTRY_SIZE = 16;
/** Room for 65,536 pairs; the largest GPUs have some thousands. */
const MAX_TABLE_SIZE = 1024 * 1024;

/**
 * The dma-buf formats that a compositor offers to import, in tranches, best first. Up to version 3 of
 * linux-dmabuf there is one tranche, announced by `format` and `modifier` events and complete after
 * the next roundtrip; since version 4 a feedback object sends them, and again when they change.
 */
export class DmabufFormats {
  readonly #onChange: () => void;
  #tranches: readonly FormatSet[] = [];
  /** What versions 1 to 3 have announced. */
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

  /** The dev_t of the device that the compositor renders on, which may be any of its DRM nodes; null if not sent. */
  get mainDevice(): bigint | null {
    return this.#mainDevice;
  }

  /** For versions 1 to 3. Must be called in the turn that binds `dmabuf`, before any event. */
  watchGlobal(dmabuf: ZwpLinuxDmabufV1): void {
    dmabuf.listener = {
      // Version 3 announces the same formats by `modifier` events too.
      format: (format) => {
        if (dmabuf.version < 3) this.#announced.push([format as Fourcc, DRM_FORMAT_MOD_INVALID]);
      },
      modifier: (format, high, low) => this.#announced.push([format as Fourcc, modifierOf(high, low)]),
    };
  }

  /**
   * For version 4 and later. A tranche's target device and flags are ignored: they are hints for
   * clients that allocate, while these buffers are the guest's pages. The order of the tranches,
   * which is the compositor's preference, is used.
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
 * The dma-bufs that a compositor imports: what it offers, without what it has failed to import.
 * Chooses under which format and modifier a buffer is imported, as several may describe the same
 * pixels: a format with alpha as its opaque twin, and LINEAR as INVALID (no modifier), which drivers
 * take to be linear for memory of other devices.
 */
export class DmabufImports {
  /** Best first. */
  #tranches: readonly FormatSet[] = [];
  /** Failed imports, by `keyOf`. */
  readonly #refused = new Set<string>();
  readonly #onRefused: (pair: FormatPair) => void;
  #formats = new FormatSet();

  /**
   * `onRefused` is called when an import has failed although the compositor offers the pair;
   * `formats` is updated by then.
   */
  constructor(onRefused: (pair: FormatPair) => void) {
    this.#onRefused = onRefused;
  }

  /** The pairs that framebuffers to be imported may have. */
  get formats(): FormatSet {
    return this.#formats;
  }

  /** Starts over for another compositor, which may import what the previous one failed to. */
  reset(tranches: readonly FormatSet[]): void {
    this.#refused.clear();
    this.offer(tranches);
  }

  /** True if framebuffers must be imported again: other pairs can be imported, or some under a better name. */
  offer(tranches: readonly FormatSet[]): boolean {
    const before = this.#names();
    this.#tranches = tranches;
    this.#update();
    const now = this.#names();
    return before.size !== now.size || [...now].some(([pair, name]) => before.get(pair) !== name);
  }

  /** Called by a buffer when the compositor has failed to import it as `name`. */
  failed(name: FormatPair): void {
    this.#refused.add(keyOf(...name));
    this.#update();
    this.#onRefused(name);
  }

  /**
   * The pair to import a buffer under; null if it cannot be imported. `isOpaque`: its alpha is
   * ignored, so an opaque format is preferred.
   */
  choose(format: Fourcc, modifier: Modifier, isOpaque: boolean): FormatPair | null {
    const opaque = isOpaque ? opaqueOf(format) : null;
    return (opaque === null ? null : this.#bestName(opaque, modifier)) ?? this.#bestName(format, modifier);
  }

  /** An earlier tranche wins over a more exact name: it may be all that the compositor can scan out. */
  #bestName(format: Fourcc, modifier: Modifier): FormatPair | null {
    for (const tranche of this.#tranches) {
      if (this.#takes(tranche, format, modifier)) return [format, modifier];
      if (modifier === DRM_FORMAT_MOD_LINEAR && this.#takes(tranche, format, DRM_FORMAT_MOD_INVALID))
        return [format, DRM_FORMAT_MOD_INVALID];
    }
    return null;
  }

  #takes(tranche: FormatSet, format: Fourcc, modifier: Modifier): boolean {
    return tranche.has(format, modifier) && !this.#refused.has(keyOf(format, modifier));
  }

  #update(): void {
    const offered = this.#tranches
      .flatMap((tranche) => [...pairsOf(tranche)])
      .filter((pair) => !this.#refused.has(keyOf(...pair)));
    const linear = offered
      .filter(([, modifier]) => modifier === DRM_FORMAT_MOD_INVALID)
      .map(([format]) => [format, DRM_FORMAT_MOD_LINEAR] as const);
    this.#formats = new FormatSet([...offered, ...linear]);
  }

  /** The names of all pairs that can be imported, with alpha and without. */
  #names(): Map<string, string> {
    const names = new Map<string, string>();
    for (const pair of pairsOf(this.#formats)) {
      names.set(keyOf(...pair), [false, true].map((isOpaque) => keyOf(...this.choose(...pair, isOpaque)!)).join());
    }
    return names;
  }
}

/**
 * Consumes `fd`. The table is read instead of mapped: a mapping of a file that is truncated faults,
 * while a read returns fewer entries. A descriptor that cannot be read gives an empty table.
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
