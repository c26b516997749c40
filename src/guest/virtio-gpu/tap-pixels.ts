import { Mapping } from '../../sys/mapping.ts';
import type { Log } from '../../core/log.ts';
import { MappedPages, type Resource } from './resource.ts';
import type { Resources } from './resources.ts';
import type { GpuTap } from './tap.ts';

/** Shows guest pixels to a tap, mapped where they are or, if they cannot be, copied for it. */
export class PixelTap {
  readonly #tap: GpuTap;
  readonly #resources: Resources;
  readonly #log: Log;
  #isLogged = false;

  constructor(tap: GpuTap, resources: Resources, log: Log) {
    this.#tap = tap;
    this.#resources = resources;
    this.#log = log;
  }

  /** `rows` rows of `rowBytes`, `stride` apart, from byte `offset` of the resource's backing on; what lies beyond it is left out. */
  pixels(resource: Resource, offset: number, stride: number, rowBytes: number, rows: number): void {
    const { guest, pixels } = resource;
    const end = offset + stride * (rows - 1) + rowBytes;
    if (!guest || rows === 0 || rowBytes === 0 || end > guest.length) return;
    try {
      if (pixels instanceof MappedPages && end <= resource.byteLength) {
        this.#tap.pixels(guest.entries, pixels.pixels(), offset, stride, rowBytes, rows);
        return;
      }
      using copy = Mapping.anonymous(end);
      for (let row = 0; row < rows; row++) {
        const at = offset + row * stride;
        this.#resources.read(resource, at, copy.bytes, at, rowBytes);
      }
      this.#tap.pixels(guest.entries, copy, offset, stride, rowBytes, rows);
    } catch (error) {
      if (!this.#isLogged) this.#log('warn', `pixels are missing from the recording: ${String(error)}`);
      this.#isLogged = true;
    }
  }
}
