const SLOTS = 1024;
const NONE = -1;

/** The colours of a few pixels, in the order they first appear: a hash table that is emptied cheaply. */
export class Palette {
  static readonly MAX = 256;
  readonly colours = new Uint32Array(Palette.MAX);
  count = 0;
  readonly #indices = new Int16Array(SLOTS).fill(NONE);
  readonly #used = new Int16Array(Palette.MAX);

  /** Collects the colours of the first `length` pixels. False if there are more than `limit`, which is at most MAX. */
  collect(pixels: Uint32Array, length: number, limit: number): boolean {
    for (let i = 0; i < this.count; i++) this.#indices[this.#used[i]!] = NONE;
    this.count = 0;
    // The colour is that of the pixel before, mostly.
    let last = ~pixels[0]! >>> 0;
    for (let i = 0; i < length; i++) {
      const pixel = pixels[i]!;
      if (pixel === last) continue;
      last = pixel;
      const slot = this.#slotOf(pixel);
      if (this.#indices[slot] !== NONE) continue;
      if (this.count === limit) return false;
      this.#indices[slot] = this.count;
      this.#used[this.count] = slot;
      this.colours[this.count++] = pixel;
    }
    return true;
  }

  /** Of a colour that was collected. */
  indexOf(colour: number): number {
    return this.#indices[this.#slotOf(colour)]!;
  }

  /** Where the colour is, or would be. */
  #slotOf(colour: number): number {
    let slot = Math.imul(colour, 0x9e3779b1) >>> 22;
    for (;;) {
      const index = this.#indices[slot]!;
      if (index === NONE || this.colours[index] === colour) return slot;
      slot = (slot + 1) % SLOTS;
    }
  }
}
