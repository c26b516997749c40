/** A few things in no order, without allocating once it has grown to its working size. */
export class Bag<T> {
  readonly #items: (T | undefined)[] = [];
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  add(item: T): void {
    this.#items[this.#count++] = item;
  }

  has(item: T): boolean {
    for (let i = 0; i < this.#count; i++) if (this.#items[i] === item) return true;
    return false;
  }

  /** Removes one occurrence; false when there is none. */
  remove(item: T): boolean {
    for (let i = 0; i < this.#count; i++) {
      if (this.#items[i] !== item) continue;
      this.#items[i] = this.#items[--this.#count];
      this.#items[this.#count] = undefined;
      return true;
    }
    return false;
  }

  /** What is inside now. Allocates. */
  toArray(): T[] {
    return this.#items.slice(0, this.#count) as T[];
  }

  /** Takes one out; undefined when empty. */
  pop(): T | undefined {
    if (this.#count === 0) return undefined;
    const item = this.#items[--this.#count];
    this.#items[this.#count] = undefined;
    return item;
  }
}
