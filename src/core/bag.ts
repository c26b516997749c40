/** A small unordered collection that does not allocate once it has grown to its working size. */
export class Bag<T> {
  readonly #items: (T | undefined)[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The item at `index` below `count`. Indices stay valid until the next change. */
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

  /** Removes one occurrence; false if there is none. */
  remove(item: T): boolean {
    for (let i = 0; i < this.#count; i++) {
      if (this.#items[i] !== item) continue;
      this.#items[i] = this.#items[--this.#count];
      this.#items[this.#count] = undefined;
      return true;
    }
    return false;
  }

  /** Removes and returns any item; undefined if empty. */
  pop(): T | undefined {
    if (this.#count === 0) return undefined;
    const item = this.#items[--this.#count];
    this.#items[this.#count] = undefined;
    return item;
  }
}
