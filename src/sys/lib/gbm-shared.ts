/**
 * A C object that lives as long as anything made of it: its owner holds it, and so does every
 * object that points into it. The last to let go frees it. `pointer` throws after that.
 */
export class SharedPointer<P extends number> {
  readonly #free: (pointer: P) => void;
  readonly #pointer: P;
  #holders = 1;

  /** Held by the caller from the start. */
  constructor(pointer: P, free: (pointer: P) => void) {
    this.#pointer = pointer;
    this.#free = free;
  }

  get pointer(): P {
    if (this.#holders === 0) throw new Error('GBM object used after it was freed');
    return this.#pointer;
  }

  hold(): this {
    this.#holders++;
    return this;
  }

  letGo(): void {
    if (--this.#holders === 0) this.#free(this.#pointer);
  }
}
