import type { BorrowedFd } from './fd.ts';

/** `length` bytes at `offset` of a memfd, both in bytes. */
export interface PageRange {
  readonly memfd: BorrowedFd;
  readonly offset: number;
  readonly length: number;
}

/**
 * Ranges of memfds one after another, neighbours merged. A picture may have thousands of them, so they are kept in typed
 * arrays, which lie outside V8's heap: reading them allocates nothing. Owns no descriptors.
 */
export class PageRuns implements Iterable<PageRange> {
  static readonly none = new PageRuns(0);

  /** Those of all runs, each once. */
  readonly memfds: BorrowedFd[] = [];
  #memfdOf: Uint32Array;
  #offsets: Float64Array;
  /** Where each run ends, in bytes from the start of the first. */
  #ends: Float64Array;
  #count = 0;

  /** No runs yet, and room for `capacity` of them. */
  constructor(capacity: number) {
    this.#memfdOf = new Uint32Array(capacity);
    this.#offsets = new Float64Array(capacity);
    this.#ends = new Float64Array(capacity);
  }

  static of(ranges: readonly PageRange[]): PageRuns {
    const runs = new PageRuns(ranges.length);
    for (const { memfd, offset, length } of ranges) runs.add(memfd, offset, length);
    return runs;
  }

  /** Appends a range. RangeError beyond the capacity. */
  add(memfd: BorrowedFd, offset: number, length: number): void {
    const last = this.#count - 1;
    if (last >= 0 && this.memfds[this.#memfdOf[last]!] === memfd && this.offset(last) + this.size(last) === offset) {
      this.#ends[last]! += length;
      return;
    }
    if (this.#count === this.#offsets.length) throw new RangeError(`more than ${this.#count} runs of pages`);
    let index = this.memfds.indexOf(memfd);
    if (index < 0) index = this.memfds.push(memfd) - 1;
    const end = this.length + length;
    this.#memfdOf[this.#count] = index;
    this.#offsets[this.#count] = offset;
    this.#ends[this.#count++] = end;
  }

  /** Gives back what its capacity takes beyond the runs it has. */
  trim(): this {
    if (this.#count === this.#offsets.length) return this;
    this.#memfdOf = this.#memfdOf.slice(0, this.#count);
    this.#offsets = this.#offsets.slice(0, this.#count);
    this.#ends = this.#ends.slice(0, this.#count);
    return this;
  }

  get count(): number {
    return this.#count;
  }

  /** The bytes of all runs together. */
  get length(): number {
    return this.#count === 0 ? 0 : this.#ends[this.#count - 1]!;
  }

  /** The host memory it takes, in bytes. */
  get cost(): number {
    return this.#memfdOf.byteLength + this.#offsets.byteLength + this.#ends.byteLength;
  }

  /** The index in `memfds` of a run's memfd. */
  memfdOf(run: number): number {
    return this.#memfdOf[run]!;
  }

  /** Where a run begins in its memfd. */
  offset(run: number): number {
    return this.#offsets[run]!;
  }

  /** Where a run begins, in bytes from the start of the first. */
  start(run: number): number {
    return run === 0 ? 0 : this.#ends[run - 1]!;
  }

  end(run: number): number {
    return this.#ends[run]!;
  }

  /** The bytes of a run. */
  size(run: number): number {
    return this.#ends[run]! - this.start(run);
  }

  /** The run with byte `at`, which is inside. */
  runAt(at: number): number {
    let low = 0;
    let high = this.#count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The bytes from `from` to `to`; what lies beyond the end is left out. */
  slice(from: number, to: number): PageRuns {
    const end = Math.min(to, this.length);
    if (from >= end) return PageRuns.none;
    if (from === 0 && end === this.length) return this;
    const first = this.runAt(from);
    const last = this.runAt(end - 1);
    const part = new PageRuns(last - first + 1);
    for (let run = first; run <= last; run++) {
      const skipped = Math.max(0, from - this.start(run));
      const length = Math.min(end, this.end(run)) - this.start(run) - skipped;
      part.add(this.memfds[this.memfdOf(run)]!, this.offset(run) + skipped, length);
    }
    return part;
  }

  equals(other: PageRuns): boolean {
    if (this.#count !== other.#count) return false;
    for (let run = 0; run < this.#count; run++) {
      if (this.#ends[run] !== other.#ends[run] || this.#offsets[run] !== other.#offsets[run]) return false;
      if (this.memfds[this.memfdOf(run)] !== other.memfds[other.memfdOf(run)]) return false;
    }
    return true;
  }

  /** An object for each run. */
  *[Symbol.iterator](): Generator<PageRange> {
    for (let run = 0; run < this.#count; run++)
      yield { memfd: this.memfds[this.memfdOf(run)]!, offset: this.offset(run), length: this.size(run) };
  }
}
