/** Kinds of frames a guest alternates between: a few sizes, with and without cursor. */
const REMEMBERED = 16;

/**
 * Which way of using the planes the driver accepted for a kind of frame, so that it is asked once.
 * The key's numbers are given one by one; nothing is allocated.
 */
export class LayoutMemory {
  readonly #keyLength: number;
  readonly #keys: Float64Array;
  readonly #choices = new Int8Array(REMEMBERED);
  readonly #key: Float64Array;
  #filled = 0;
  #next = 0;

  constructor(keyLength: number) {
    this.#keyLength = keyLength;
    this.#keys = new Float64Array(REMEMBERED * keyLength);
    this.#key = new Float64Array(keyLength);
  }

  /** One number of the kind of frame `find` and `remember` are about. */
  describe(index: number, value: number): void {
    this.#key[index] = value;
  }

  /** -1: not tried yet. */
  find(): number {
    for (let slot = 0; slot < this.#filled; slot++) if (this.#isAt(slot)) return this.#choices[slot]!;
    return -1;
  }

  remember(choice: number): void {
    this.#keys.set(this.#key, this.#next * this.#keyLength);
    this.#choices[this.#next] = choice;
    this.#filled = Math.max(this.#filled, this.#next + 1);
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  #isAt(slot: number): boolean {
    for (let i = 0; i < this.#keyLength; i++) if (this.#keys[slot * this.#keyLength + i] !== this.#key[i]) return false;
    return true;
  }
}
