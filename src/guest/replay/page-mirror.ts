import type { MemoryBudget } from '../../core/budget.ts';

const PAGE = 4096;
const SLAB_PAGES = 256;
/**
 * Changes are reported in units of eight pixels, counted from the start of the page. So packed pixels of one picture
 * lie on the same bits as those of the next, and a compressor finds them.
 */
const UNIT = 32;
/** Two changes with fewer unchanged bytes between them are reported as one: whole lines compress better than pieces. */
const GAP = 256;

/** `length` bytes from `bytes[from]` on are new at a guest physical address. */
export type ChangeCallback = (guestAddress: number, bytes: Uint8Array, from: number, length: number) => void;

/**
 * Finds what changed in guest memory, with a copy of every page as the recording has it so far. Pages that were
 * never updated are zero. Beyond the limit, new pages are not kept and count as changed each time: recordings get
 * larger instead of memory use.
 */
export class PageMirror implements Disposable {
  readonly #pages = new Map<number, Buffer>();
  readonly #limit: number;
  readonly #budget: MemoryBudget;
  #slabs = 0;
  #slab: Buffer | null = null;
  #slabUsed = 0;

  /** Keeps at most `limit` bytes, all charged to `budget` until dispose. */
  constructor(limit: number, budget: MemoryBudget) {
    this.#limit = Math.floor(limit / PAGE);
    this.#budget = budget;
  }

  /**
   * Replaces the bytes at `guestAddress` by `length` bytes from `source[at]` on, and reports the runs that differ.
   * `source` must not change during the call.
   */
  update(guestAddress: number, source: Buffer, at: number, length: number, changed: ChangeCallback): void {
    for (let done = 0; done < length;) {
      const address = guestAddress + done;
      const inPage = address % PAGE;
      const count = Math.min(PAGE - inPage, length - done);
      const page = this.#page((address - inPage) / PAGE);
      if (page === null) changed(address, source, at + done, count);
      else if (page.compare(source, at + done, at + done + count, inPage, inPage + count) !== 0) {
        diff(page, inPage, source, at + done, count, address, changed);
        source.copy(page, inPage, at + done, at + done + count);
      }
      done += count;
    }
  }

  /** Forgets every page. */
  [Symbol.dispose](): void {
    this.#budget.release(this.#slabs * SLAB_PAGES * PAGE);
    this.#slabs = 0;
    this.#slab = null;
    this.#pages.clear();
  }

  #page(number: number): Buffer | null {
    const known = this.#pages.get(number);
    if (known !== undefined) return known;
    if (this.#pages.size >= this.#limit) return null;
    if (this.#slab === null || this.#slabUsed === SLAB_PAGES) {
      if (!this.#budget.reserve(SLAB_PAGES * PAGE)) return null;
      this.#slabs++;
      this.#slab = Buffer.alloc(SLAB_PAGES * PAGE);
      this.#slabUsed = 0;
    }
    const page = this.#slab.subarray(this.#slabUsed * PAGE, ++this.#slabUsed * PAGE);
    this.#pages.set(number, page);
    return page;
  }
}

/** Reports the runs of units in which `fresh` differs from `old`. Runs less than GAP bytes apart are one. */
function diff(
  old: Buffer,
  oldAt: number,
  fresh: Buffer,
  freshAt: number,
  length: number,
  address: number,
  changed: ChangeCallback,
): void {
  let start = -1;
  let end = 0;
  for (let at = 0; at < length;) {
    const next = Math.min(at + UNIT - ((oldAt + at) % UNIT), length);
    let i = at;
    while (i < next && old[oldAt + i] === fresh[freshAt + i]) i++;
    if (i < next) {
      if (start >= 0 && at - end >= GAP) {
        changed(address + start, fresh, freshAt + start, end - start);
        start = at;
      } else if (start < 0) {
        start = at;
      }
      end = next;
    }
    at = next;
  }
  changed(address + start, fresh, freshAt + start, end - start);
}
