import { SysError } from '../../sys/errors.ts';
import { Mapping } from '../../sys/mapping.ts';
import type { PageRuns } from '../../sys/page-runs.ts';
import { Pump } from '../../sys/pump.ts';

/** The mappings of all views of the process: Linux allows it 65530 (vm.max_map_count), and all else needs some. */
export const MAX_MAPPINGS = 49_152;
/** Those of one guest. */
const MAX_OF_GUEST = MAX_MAPPINGS / 3;
/** How many runs are mapped in one piece of work: about 0.1 ms. */
const STEP = 32;

let mappings = 0;

/** Scattered pages mapped side by side, a mapping for each run. */
export class LinearView implements Disposable {
  readonly #runs: PageRuns;
  readonly #area: Mapping;
  readonly #onDispose: () => void;
  #next = 0;
  #isDisposed = false;

  constructor(runs: PageRuns, onDispose: () => void) {
    this.#runs = runs;
    this.#area = Mapping.reserve(runs.length);
    this.#onDispose = onDispose;
  }

  /** All of it; null until it is complete, and after dispose. */
  get mapping(): Mapping | null {
    return this.#next === this.#runs.count && !this.#isDisposed ? this.#area : null;
  }

  /** Maps the next runs. Whether there are more. */
  step(): boolean {
    const runs = this.#runs;
    for (const end = Math.min(this.#next + STEP, runs.count); this.#next < end; this.#next++) {
      const run = this.#next;
      const memfd = runs.memfds[runs.memfdOf(run)]!;
      this.#area.place(runs.start(run), memfd, runs.offset(run), runs.size(run), 'read');
    }
    return this.#next < runs.count;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#area[Symbol.dispose]();
    this.#onDispose();
  }
}

/**
 * The linear views of a guest's pictures. Small rectangles of scattered pages are copied several times as fast from one
 * (docs/adr/0021), but a view takes a mapping for each run and longer to make than a copy of the picture does. So it is
 * made beside the copies, and only while mappings are left.
 */
export class LinearViews {
  readonly #unfinished = new Set<LinearView>();
  readonly #building = new Pump(() => this.#step());
  #mappings = 0;

  /** A view that will be complete later; null if it would take too many mappings. */
  begin(runs: PageRuns): LinearView | null {
    const { count } = runs;
    if (this.#mappings + count > MAX_OF_GUEST || mappings + count > MAX_MAPPINGS) return null;
    let view: LinearView;
    try {
      view = new LinearView(runs, () => {
        this.#unfinished.delete(view);
        this.#mappings -= count;
        mappings -= count;
      });
    } catch (error) {
      if (error instanceof SysError) return null;
      throw error;
    }
    this.#mappings += count;
    mappings += count;
    this.#unfinished.add(view);
    // Not now: the frame that is being copied comes first.
    setImmediate(() => this.#building.start());
    return view;
  }

  #step(): boolean {
    for (const view of this.#unfinished) {
      try {
        if (!view.step()) this.#unfinished.delete(view);
      } catch (error) {
        // The copies go on without it.
        view[Symbol.dispose]();
        if (!(error instanceof SysError)) throw error;
      }
      break;
    }
    return this.#unfinished.size > 0;
  }
}
