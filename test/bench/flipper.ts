import { virtio_gpu_ctrl_hdr, VIRTIO_GPU_RESP } from '../../protocols/virtio-gpu.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { FrontEnd } from '../rig/front-end.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';

const RESPONSE = 24;
const REFRESH_HZ = 60;

/** A guest's driver that flips between two pictures, each answered when it is on screen. */
export class Flipper {
  readonly #frontEnd: FrontEnd;
  readonly #size: Size;
  readonly #drawn: Size;
  #flips = 0;

  /** `size` is that of the pictures, `drawn` of the part that is new in each frame. */
  constructor(frontEnd: FrontEnd, size: Size, drawn = size) {
    this.#frontEnd = frontEnd;
    this.#size = size;
    this.#drawn = drawn;
  }

  /** `memory` is the guest address of both pictures, one behind the other, or the pages that both are in. */
  async prepare(memory: number | readonly requests.Entry[]): Promise<void> {
    const { width, height } = this.#size;
    const bytes = width * height * 4;
    for (const [index, id] of [1, 2].entries()) {
      await this.#request(requests.create2d(id, width, height));
      const entries = typeof memory === 'number' ? requests.contiguous(bytes, memory + index * bytes) : memory;
      await this.#request(requests.attach(id, entries));
    }
  }

  async flip(): Promise<void> {
    const { width, height } = this.#drawn;
    const id = (this.#flips++ % 2) + 1;
    const fence = { id: BigInt(this.#flips) };
    await Promise.all([
      this.#request(requests.setScanout(0, id, 0, 0, this.#size.width, this.#size.height)),
      this.#request(requests.transfer(id, 0, 0, width, height, 0)),
      this.#request(requests.flush(id, 0, 0, width, height, fence)),
    ]);
  }

  /** Flips so often; resolves with how many refreshes of a screen of 60 Hz had no flip. */
  async missed(flips: number): Promise<number> {
    // Ends at a vertical blank.
    await this.flip();
    const started = performance.now();
    for (let flip = 0; flip < flips; flip++) await this.flip();
    return Math.round(((performance.now() - started) * REFRESH_HZ) / 1000) - flips;
  }

  async #request(request: Uint8Array): Promise<void> {
    const { type } = virtio_gpu_ctrl_hdr.decode(await this.#frontEnd.request(0, request, RESPONSE));
    if (type !== VIRTIO_GPU_RESP.OK_NODATA) throw new Error(`the device answers 0x${type.toString(16)}`);
  }
}
