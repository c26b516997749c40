import type { Size } from '../../src/core/geometry.ts';
import type { FrontEnd } from '../rig/front-end.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';

const RESPONSE = 24;

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

  /** `memory` is the guest address of both pictures, one behind the other. */
  async prepare(memory: number): Promise<void> {
    const { width, height } = this.#size;
    const bytes = width * height * 4;
    for (const [index, id] of [1, 2].entries()) {
      await this.#frontEnd.request(0, requests.create2d(id, width, height), RESPONSE);
      const backing = requests.contiguous(bytes, memory + index * bytes);
      await this.#frontEnd.request(0, requests.attach(id, backing), RESPONSE);
    }
  }

  async flip(): Promise<void> {
    const { width, height } = this.#drawn;
    const id = (this.#flips++ % 2) + 1;
    const fence = { id: BigInt(this.#flips) };
    void this.#frontEnd.request(0, requests.setScanout(0, id, 0, 0, this.#size.width, this.#size.height), RESPONSE);
    void this.#frontEnd.request(0, requests.transfer(id, 0, 0, width, height, 0), RESPONSE);
    await this.#frontEnd.request(0, requests.flush(id, 0, 0, width, height, fence), RESPONSE);
  }
}
