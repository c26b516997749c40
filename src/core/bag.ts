/** A few things in no order, without allocating once it has grown to its working size. */
export class Bag<T> {
  readonly #items: (T | undefined)[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** One of `count`, each in the same place until the next change. */
  at(index: number): T {
    return this.#items[index]!;
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

  /** Takes one out; undefined when empty. */
  pop(): T | undefined {
    if (this.#count === 0) return undefined;
    const item = this.#items[--this.#count];
    this.#items[this.#count] = undefined;
    return item;
  }
}
