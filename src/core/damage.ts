import type { Rect } from './geometry.ts';

/** Above this, tracking more rectangles costs more than copying the pixels between them. */
const MAX_RECTS = 16;

/**
 * A bounded list of rectangles that changed. A rectangle inside another is dropped, and two that make up a larger one are
 * joined; when the list is full, the two whose union wastes the least area are merged. It may cover more than was added,
 * never less. Storage is fixed at construction; no method allocates.
 */
export class Damage {
  /** x1, y1, x2, y2 of each rectangle; the second pair is exclusive. */
  readonly #edges = new Int32Array((MAX_RECTS + 1) * 4);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  x(i: number): number {
    return this.#edges[i * 4]!;
  }

  y(i: number): number {
    return this.#edges[i * 4 + 1]!;
  }

  width(i: number): number {
    return this.#edges[i * 4 + 2]! - this.#edges[i * 4]!;
  }

  height(i: number): number {
    return this.#edges[i * 4 + 3]! - this.#edges[i * 4 + 1]!;
  }

  /** Pixels covered; overlaps count twice. */
  get area(): number {
    let sum = 0;
    for (let i = 0; i < this.#count; i++) sum += this.width(i) * this.height(i);
    return sum;
  }

  clear(): void {
    this.#count = 0;
  }

  /** Adds a rectangle, whose coordinates must fit 32 bits. An empty one adds nothing. */
  add(x: number, y: number, width: number, height: number): void {
    if (width <= 0 || height <= 0) return;
    this.#insert(x, y, x + width, y + height);
  }

  addRect(rect: Rect): void {
    this.add(rect.x, rect.y, rect.width, rect.height);
  }

  /** Adds the rectangles of `other`, moved by `dx`, `dy`. */
  addAll(other: Damage, dx = 0, dy = 0): void {
    const from = other.#edges;
    if (this.#count > 0) {
      for (let i = 0; i < other.#count; i++)
        this.#insert(from[i * 4]! + dx, from[i * 4 + 1]! + dy, from[i * 4 + 2]! + dx, from[i * 4 + 3]! + dy);
      return;
    }
    this.#count = other.#count;
    for (let at = 0; at < other.#count * 4; at += 2) {
      this.#edges[at] = from[at]! + dx;
      this.#edges[at + 1] = from[at + 1]! + dy;
    }
  }

  /** Moves about `area` pixels, at least a row if there is one, into `into`, which is empty. */
  moveTo(into: Damage, area: number): void {
    if (this.area <= area) {
      into.addAll(this);
      this.#count = 0;
      return;
    }
    const e = this.#edges;
    for (let left = area; this.#count > 0 && (left > 0 || into.isEmpty);) {
      const i = this.#count - 1;
      const width = this.width(i);
      const rows = Math.min(this.height(i), Math.max(1, Math.floor(left / width)));
      into.add(this.x(i), this.y(i), width, rows);
      left -= rows * width;
      if (rows === this.height(i)) this.#count--;
      else e[i * 4 + 1]! += rows;
    }
  }

  /** Clips every rectangle to `bounds` and drops those left empty. */
  clip(bounds: Rect): void {
    const e = this.#edges;
    const right = bounds.x + bounds.width;
    const bottom = bounds.y + bounds.height;
    for (let i = this.#count - 1; i >= 0; i--) {
      const at = i * 4;
      e[at] = Math.max(e[at]!, bounds.x);
      e[at + 1] = Math.max(e[at + 1]!, bounds.y);
      e[at + 2] = Math.min(e[at + 2]!, right);
      e[at + 3] = Math.min(e[at + 3]!, bottom);
      if (e[at] >= e[at + 2]! || e[at + 1]! >= e[at + 3]!) this.#remove(i);
    }
  }

  #insert(x1: number, y1: number, x2: number, y2: number): void {
    const e = this.#edges;
    for (let i = this.#count - 1; i >= 0; i--) {
      const at = i * 4;
      if (e[at]! <= x1 && e[at + 1]! <= y1 && e[at + 2]! >= x2 && e[at + 3]! >= y2) return;
      const isSameWidth = e[at] === x1 && e[at + 2] === x2 && e[at + 1]! <= y2 && e[at + 3]! >= y1;
      const isSameHeight = e[at + 1] === y1 && e[at + 3] === y2 && e[at]! <= x2 && e[at + 2]! >= x1;
      const isInside = x1 <= e[at]! && y1 <= e[at + 1]! && x2 >= e[at + 2]! && y2 >= e[at + 3]!;
      if (!isSameWidth && !isSameHeight && !isInside) continue;
      x1 = Math.min(x1, e[at]!);
      y1 = Math.min(y1, e[at + 1]!);
      x2 = Math.max(x2, e[at + 2]!);
      y2 = Math.max(y2, e[at + 3]!);
      this.#remove(i);
      // What it has become may join those that it did not before.
      if (!isInside) i = this.#count;
    }
    const at = this.#count * 4;
    e[at] = x1;
    e[at + 1] = y1;
    e[at + 2] = x2;
    e[at + 3] = y2;
    this.#count++;
    if (this.#count > MAX_RECTS) this.#mergeCheapestPair();
  }

  #remove(i: number): void {
    this.#count--;
    this.#edges.copyWithin(i * 4, this.#count * 4, this.#count * 4 + 4);
  }

  #mergeCheapestPair(): void {
    let bestA = 0;
    let bestB = 1;
    let bestWaste = Infinity;
    for (let a = 0; a < this.#count; a++) {
      for (let b = a + 1; b < this.#count; b++) {
        const waste = this.#unionArea(a, b) - this.width(a) * this.height(a) - this.width(b) * this.height(b);
        if (waste < bestWaste) {
          bestWaste = waste;
          bestA = a;
          bestB = b;
        }
      }
    }
    const e = this.#edges;
    const a = bestA * 4;
    const b = bestB * 4;
    const x1 = Math.min(e[a]!, e[b]!);
    const y1 = Math.min(e[a + 1]!, e[b + 1]!);
    const x2 = Math.max(e[a + 2]!, e[b + 2]!);
    const y2 = Math.max(e[a + 3]!, e[b + 3]!);
    // The higher index first, because removing moves the last rectangle into the gap.
    this.#remove(bestB);
    this.#remove(bestA);
    this.#insert(x1, y1, x2, y2);
  }

  #unionArea(a: number, b: number): number {
    const e = this.#edges;
    const width = Math.max(e[a * 4 + 2]!, e[b * 4 + 2]!) - Math.min(e[a * 4]!, e[b * 4]!);
    const height = Math.max(e[a * 4 + 3]!, e[b * 4 + 3]!) - Math.min(e[a * 4 + 1]!, e[b * 4 + 1]!);
    return width * height;
  }
}
