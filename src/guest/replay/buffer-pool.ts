/** Smaller pieces are not worth a class of their own. */
const MIN_CLASS = 6;

/**
 * Pieces of a fixed range of memory, in classes of powers of two. Taking and giving back
 * allocate nothing once every class has reached its high-water mark.
 */
export class BufferPool {
  readonly #end: number;
  /** Free pieces by log2 of their size. */
  readonly #free: number[][] = Array.from({ length: 32 }, () => []);
  #next: number;

  /** `start` to `end`, exclusive, are offsets in bytes. */
  constructor(start: number, end: number) {
    this.#next = Math.ceil(start / 64) * 64;
    this.#end = end;
  }

  /** The offset of a piece of at least `length` bytes, 64-byte aligned; -1 if there is none. */
  take(length: number): number {
    const order = classOf(length);
    const reused = this.#free[order]!.pop();
    if (reused !== undefined) return reused;
    const at = this.#next;
    if (at + 2 ** order > this.#end) return -1;
    this.#next = at + 2 ** order;
    return at;
  }

  /** `length` as it was given to `take`. */
  give(at: number, length: number): void {
    this.#free[classOf(length)]!.push(at);
  }
}

function classOf(length: number): number {
  return Math.max(MIN_CLASS, 32 - Math.clz32(Math.max(length, 1) - 1));
}
