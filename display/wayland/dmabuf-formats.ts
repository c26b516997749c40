import { readSync } from 'node:fs';
import {
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  type Modifier,
  opaqueOf,
} from '../../protocols/drm-fourcc.ts';
import { FormatSet, type Framebuffer, type FramebufferId } from '../../src/core/framebuffer.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { getSeals } from '../../src/sys/memfd.ts';
import type { ZwpLinuxDmabufFeedbackV1, ZwpLinuxDmabufV1 } from './client/index.ts';

export type FormatPair = readonly [Fourcc, Modifier];

/** u32 format, padding, u64 modifier. */
const ENTRY_SIZE = 16;
/** Entries of the table that an index can name. */
const MAX_INDICES = 65_536;
/** The largest GPUs have some thousands. What a compositor announces beyond that is ignored. */
const MAX_PAIRS = 8192;
/** One per group of devices or planes. What a compositor announces beyond that is ignored. */
const MAX_TRANCHES = 16;

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
  #table = new DataView(new ArrayBuffer(0));
  #tranche: FormatPair[] = [];
  /** In all tranches since the last `done`. */
  #pairs = 0;
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
        if (dmabuf.version < 3) this.#announce([format as Fourcc, DRM_FORMAT_MOD_INVALID]);
      },
      modifier: (format, high, low) => this.#announce([format as Fourcc, modifierOf(high, low)]),
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

  #announce(pair: FormatPair): void {
    if (this.#announced.length < MAX_PAIRS) this.#announced.push(pair);
  }

  #collect(indices: Uint8Array): void {
    const view = new DataView(indices.buffer, indices.byteOffset, indices.byteLength);
    for (let at = 0; at + 2 <= indices.length && this.#pairs < MAX_PAIRS; at += 2) {
      const entry = view.getUint16(at, true) * ENTRY_SIZE;
      if (entry + ENTRY_SIZE > this.#table.byteLength) continue;
      this.#pairs++;
      this.#tranche.push([
        this.#table.getUint32(entry, true) as Fourcc,
        this.#table.getBigUint64(entry + 8, true) as Modifier,
      ]);
    }
  }

  #endTranche(): void {
    if (this.#collected.length < MAX_TRANCHES) this.#collected.push(new FormatSet(this.#tranche));
    this.#tranche = [];
  }

  #done(): void {
    this.#tranches = this.#collected;
    this.#collected = [];
    this.#pairs = 0;
    this.#onChange();
  }
}

/** Refused framebuffers that are remembered, the newest. Another one is only tried once more. */
const MAX_REFUSED = 64;

/**
 * The dma-bufs that a compositor imports: those of the formats it offers, without the framebuffers it has refused. A
 * refusal says nothing about other framebuffers, whose stride or size may suit it, so a guest cannot end the sharing
 * of all its pictures with a single one. Chooses under which format and modifier a buffer is imported, as several may
 * describe the same pixels: a format with alpha as its opaque twin, and LINEAR as INVALID (no modifier), which drivers
 * take to be linear for memory of other devices.
 */
export class DmabufImports {
  /** Best first. */
  #tranches: readonly FormatSet[] = [];
  /** Not imported on this compositor. */
  readonly #failed = new Set<FramebufferId>();
  /** A compositor has ended the connection over them. */
  readonly #fatal = new Set<FramebufferId>();
  readonly #onFailed: (framebuffer: Framebuffer) => void;
  #formats = new FormatSet();

  /** `onFailed` is called when the import of a framebuffer has failed although the compositor offers its format. */
  constructor(onFailed: (framebuffer: Framebuffer) => void) {
    this.#onFailed = onFailed;
  }

  /** The pairs that framebuffers to be imported may have. */
  get formats(): FormatSet {
    return this.#formats;
  }

  /** Starts over for another compositor, which may import what the previous one failed to. */
  reset(tranches: readonly FormatSet[]): void {
    this.#failed.clear();
    this.offer(tranches);
  }

  /** True if framebuffers must be imported again: other pairs can be imported, or some under a better name. */
  offer(tranches: readonly FormatSet[]): boolean {
    const offered = tranches.flatMap((tranche) => [...pairsOf(tranche)]);
    const linear = offered
      .filter(([, modifier]) => modifier === DRM_FORMAT_MOD_INVALID)
      .map(([format]) => [format, DRM_FORMAT_MOD_LINEAR] as const);
    const formats = new FormatSet([...offered, ...linear]);
    const isChanged =
      hasOtherNames(formats, this.#tranches, tranches) || hasOtherNames(this.#formats, this.#tranches, tranches);
    this.#tranches = tranches;
    this.#formats = formats;
    if (isChanged) this.#failed.clear();
    return isChanged;
  }

  isRefused({ id }: Framebuffer): boolean {
    return this.#failed.has(id) || this.#fatal.has(id);
  }

  /** The compositor has failed to import the framebuffer, under each of its names. */
  failed(framebuffer: Framebuffer): void {
    remember(this.#failed, framebuffer.id);
    this.#onFailed(framebuffer);
  }

  /** The compositor has ended the connection over the framebuffer: no other one is asked to import it. */
  fatal({ id }: Framebuffer): void {
    remember(this.#fatal, id);
  }

  /**
   * The pair to import a buffer under, but none of `failed`; null if there is none. `isOpaque`: its alpha is ignored,
   * so an opaque format is preferred.
   */
  choose(format: Fourcc, modifier: Modifier, isOpaque: boolean, failed: readonly FormatPair[]): FormatPair | null {
    return nameOf(this.#tranches, format, modifier, isOpaque, failed);
  }
}

function nameOf(
  tranches: readonly FormatSet[],
  format: Fourcc,
  modifier: Modifier,
  isOpaque: boolean,
  failed: readonly FormatPair[],
): FormatPair | null {
  const opaque = isOpaque ? opaqueOf(format) : null;
  return (
    (opaque === null ? null : bestName(tranches, opaque, modifier, failed)) ??
    bestName(tranches, format, modifier, failed)
  );
}

/** An earlier tranche wins over a more exact name: it may be all that the compositor can scan out. */
function bestName(
  tranches: readonly FormatSet[],
  format: Fourcc,
  modifier: Modifier,
  failed: readonly FormatPair[],
): FormatPair | null {
  const isLinear = modifier === DRM_FORMAT_MOD_LINEAR;
  for (const tranche of tranches) {
    if (tranche.has(format, modifier) && !includes(failed, format, modifier)) return [format, modifier];
    if (isLinear && tranche.has(format, DRM_FORMAT_MOD_INVALID) && !includes(failed, format, DRM_FORMAT_MOD_INVALID))
      return [format, DRM_FORMAT_MOD_INVALID];
  }
  return null;
}

function includes(pairs: readonly FormatPair[], format: Fourcc, modifier: Modifier): boolean {
  return pairs.some((pair) => pair[0] === format && pair[1] === modifier);
}

/** Whether a buffer of one of the pairs has another name in `after` than in `before`, or in one of them none. */
function hasOtherNames(pairs: FormatSet, before: readonly FormatSet[], after: readonly FormatSet[]): boolean {
  for (const [format, modifier] of pairsOf(pairs)) {
    for (const isOpaque of [false, true]) {
      const [formatBefore, modifierBefore] = nameOf(before, format, modifier, isOpaque, []) ?? [];
      const [formatAfter, modifierAfter] = nameOf(after, format, modifier, isOpaque, []) ?? [];
      if (formatBefore !== formatAfter || modifierBefore !== modifierAfter) return true;
    }
  }
  return false;
}

function remember(ids: Set<FramebufferId>, id: FramebufferId): void {
  ids.add(id);
  const [oldest] = ids;
  if (ids.size > MAX_REFUSED) ids.delete(oldest!);
}

/**
 * Consumes `fd`. The table is read instead of mapped: a mapping of a file that is truncated faults,
 * while a read returns fewer entries. A descriptor that cannot be read gives an empty table, and so does one of
 * anything but shared memory, because reading that might block.
 */
function readTable(fd: OwnedFd, size: number): DataView<ArrayBuffer> {
  using _ = fd;
  const bytes = new Uint8Array(Math.min(size, MAX_INDICES * ENTRY_SIZE));
  return new DataView(bytes.buffer, 0, tryRead(fd, bytes));
}

function tryRead(fd: BorrowedFd, bytes: Uint8Array): number {
  try {
    // Never blocks, and fails for all files that have no seals.
    getSeals(fd);
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

function* pairsOf(formats: FormatSet): Generator<FormatPair> {
  for (const format of formats.formats()) for (const modifier of formats.modifiers(format)) yield [format, modifier];
}
