import { readSync } from 'node:fs';
import { DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, type Fourcc, type Modifier } from '../../protocols/drm-fourcc.ts';
import { FormatSet } from '../../src/core/format-set.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import type { ZwpLinuxDmabufFeedbackV1, ZwpLinuxDmabufV1 } from './client/index.ts';

export type FormatPair = readonly [Fourcc, Modifier];

/** u32 format, padding, u64 modifier. */
const ENTRY_SIZE = 16;
/** Formats times modifiers of the largest GPU are some thousands. */
const MAX_TABLE_SIZE = 1024 * 1024;

/**
 * What the compositor says it imports: by `format` and `modifier` events, complete at the next
 * roundtrip, up to version 3; by a feedback object since.
 */
export class DmabufFormats {
  /** As the compositor announced them. */
  pairs: readonly FormatPair[] = [];
  readonly #onChange: () => void;
  #table: readonly FormatPair[] = [];
  #collected: FormatPair[] = [];

  constructor(onChange: () => void = () => undefined) {
    this.#onChange = onChange;
  }

  /** Versions 1 to 3. Sooner than any event. */
  watchGlobal(dmabuf: ZwpLinuxDmabufV1): void {
    const pairs: FormatPair[] = [];
    this.pairs = pairs;
    dmabuf.listener = {
      // Version 3 says everything again by `modifier`.
      format: (format) => {
        if (dmabuf.version < 3) pairs.push([format as Fourcc, DRM_FORMAT_MOD_INVALID]);
      },
      modifier: (format, high, low) => pairs.push([format as Fourcc, modifierOf(high, low)]),
    };
  }

  /**
   * Version 4 on. All tranches count alike: they are an order for whoever allocates, and our
   * buffers are in the guest's pages already, on no device.
   */
  watch(feedback: ZwpLinuxDmabufFeedbackV1): void {
    feedback.listener = {
      formatTable: (fd, size) => (this.#table = readTable(fd, size)),
      trancheFormats: (indices) => this.#collect(indices),
      done: () => this.#done(),
    };
  }

  #collect(indices: Uint8Array): void {
    const view = new DataView(indices.buffer, indices.byteOffset, indices.byteLength);
    for (let at = 0; at + 2 <= indices.length; at += 2) {
      const pair = this.#table[view.getUint16(at, true)];
      if (pair) this.#collected.push(pair);
    }
  }

  #done(): void {
    this.pairs = this.#collected;
    this.#collected = [];
    this.#onChange();
  }
}

/**
 * What can be imported, less what was refused. Without a modifier a driver takes foreign memory as
 * linear, so a format that is offered so takes linear buffers.
 */
export function importable(pairs: readonly FormatPair[], refused: ReadonlySet<string>): FormatSet {
  const linear = pairs.filter(([, modifier]) => modifier === DRM_FORMAT_MOD_INVALID).map(([format]) => [format, DRM_FORMAT_MOD_LINEAR] as const);
  return new FormatSet([...pairs, ...linear].filter(([format, modifier]) => !refused.has(pairKey(format, modifier))));
}

export function pairKey(format: Fourcc, modifier: Modifier): string {
  return `${format} ${modifier}`;
}

/** Whether both offer the same, in whatever order. */
export function sameFormats(a: FormatSet, b: FormatSet): boolean {
  return includes(a, b) && includes(b, a);
}

function includes(a: FormatSet, b: FormatSet): boolean {
  for (const format of b.formats()) for (const modifier of b.modifiers(format)) if (!a.has(format, modifier)) return false;
  return true;
}

/**
 * Consumes `fd`. Read, not mapped: nobody can cut the file short under a copy, and the kernel maps
 * a memfd that is sealed against writing for nobody. A table cut short has fewer entries.
 */
function readTable(fd: OwnedFd, size: number): FormatPair[] {
  using _ = fd;
  const bytes = new Uint8Array(Math.min(size, MAX_TABLE_SIZE));
  const length = readSync(fd.fd, bytes, 0, bytes.length, 0);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: Math.floor(length / ENTRY_SIZE) }, (_entry, i) => [
    view.getUint32(i * ENTRY_SIZE, true) as Fourcc,
    view.getBigUint64(i * ENTRY_SIZE + 8, true) as Modifier,
  ]);
}

function modifierOf(high: number, low: number): Modifier {
  return ((BigInt(high) << 32n) | BigInt(low)) as Modifier;
}
