import { readSync } from 'node:fs';
import { DRM_FORMAT_MOD_INVALID, type Fourcc, type Modifier } from '../../protocols/drm-fourcc.ts';
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
