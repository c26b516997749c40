/** A count of vertical blanks that only grows, over those the hardware counts and those nobody saw. */
export class VblankCount {
  #count = 0;
  /** The hardware's, 32 bits, at the last event; -1: not known, or another CRTC's. */
  #hardware = -1;

  get count(): number {
    return this.#count;
  }

  /** The hardware counted one. */
  seen(hardware: number): void {
    this.#count += this.#hardware < 0 ? 1 : (hardware - this.#hardware) >>> 0;
    this.#hardware = hardware;
  }

  /** One went by without it. */
  unseen(): void {
    this.#count++;
    this.forget();
  }

  /** The hardware's count starts anew, or is another's. */
  forget(): void {
    this.#hardware = -1;
  }
}
