/** Counts the host memory that a guest can cause, in bytes. Everything allocated for one guest shares a budget. */
export class MemoryBudget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Charges `bytes`. False, with nothing charged, if that would exceed the limit. */
  reserve(bytes: number): boolean {
    if (this.#used + bytes > this.limit) return false;
    this.#used += bytes;
    return true;
  }

  /** Returns `bytes` charged by `reserve`. */
  release(bytes: number): void {
    this.#used -= bytes;
  }
}
