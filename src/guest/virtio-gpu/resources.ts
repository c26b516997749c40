import type { PageRange } from '../../core/framebuffer.ts';
import type { Log } from '../../core/log.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import type { GuestMemory } from '../memory.ts';
import { VirtioGpuError } from './errors.ts';
import { GuestPages, MappedPages, type Resource, Store } from './resource.ts';
import type { Scanouts } from './scanouts.ts';
import type { BackingEntry } from './tap.ts';

const MAX_RESOURCES = 4096;
/** Each run becomes a mapping when the pixels are read, and Linux allows a process 65530 of them. */
const MAX_RUNS = 16384;
/** Roughly what a resource, and an entry of its backing, take on the heap, in bytes. */
const RESOURCE_COST = 1024;
const ENTRY_COST = 64;

/**
 * The guest's resources and where their pixels are.
 *
 * Pixels stay in the guest's pages while these are whole pages in few enough runs and transfers only go to
 * where the pixels lie already. Otherwise, and when the pages go while their contents are still needed, the
 * resource gets a store in host memory for good, and transfers copy into that.
 */
export class Resources {
  readonly #scanouts: Scanouts;
  readonly #budget: MemoryBudget;
  readonly #log: Log;
  readonly #byId = new Map<number, Resource>();
  #memory: GuestMemory | null = null;
  #runs = 0;

  constructor(scanouts: Scanouts, budget: MemoryBudget, log: Log) {
    this.#scanouts = scanouts;
    this.#budget = budget;
    this.#log = log;
  }

  get count(): number {
    return this.#byId.size;
  }

  get storeBytes(): number {
    let sum = 0;
    for (const { pixels } of this.#byId.values()) if (pixels instanceof Store) sum += pixels.length;
    return sum;
  }

  get(id: number): Resource {
    const resource = this.#byId.get(id);
    if (!resource) throw new VirtioGpuError('invalid-resource', `there is no resource ${id}`);
    return resource;
  }

  checkNew(id: number): void {
    if (id === 0) throw new VirtioGpuError('invalid-resource', 'resource id 0 means no resource');
    if (this.#byId.has(id)) throw new VirtioGpuError('invalid-resource', `resource ${id} exists already`);
    if (this.#byId.size >= MAX_RESOURCES)
      throw new VirtioGpuError('out-of-memory', `there are ${MAX_RESOURCES} resources already`);
  }

  /** Call `checkNew` before. With `entries` the resource gets its backing too, or is not added. */
  add(resource: Resource, entries: readonly BackingEntry[] | null): void {
    this.#reserve(RESOURCE_COST);
    try {
      if (entries) this.attach(resource, entries);
    } catch (error) {
      this.#budget.release(RESOURCE_COST);
      throw error;
    }
    this.#byId.set(resource.id, resource);
  }

  remove(resource: Resource): void {
    this.#byId.delete(resource.id);
    this.#scanouts.remove(resource);
    this.#setPixels(resource, null);
    this.#dropGuest(resource);
    this.#budget.release(RESOURCE_COST);
  }

  attach(resource: Resource, entries: readonly BackingEntry[]): void {
    const memory = this.#memory;
    if (resource.guest) throw new VirtioGpuError('busy', `resource ${resource.id} has a backing already`);
    const guest = new GuestPages(entries);
    if (!memory || !guest.isInside(memory))
      throw new VirtioGpuError('invalid-parameter', 'the backing is not inside guest memory');
    if (resource.isBlob && guest.length < resource.byteLength) {
      throw new VirtioGpuError(
        'invalid-parameter',
        `a blob of ${resource.byteLength} bytes with a backing of ${guest.length}`,
      );
    }
    this.#reserve(entries.length * ENTRY_COST);
    try {
      if (!resource.pixels) this.#setPixels(resource, this.#place(resource, guest, memory));
    } catch (error) {
      this.#budget.release(entries.length * ENTRY_COST);
      throw error;
    }
    resource.guest = guest;
  }

  detach(resource: Resource): void {
    if (!resource.guest) throw new VirtioGpuError('invalid-resource', `resource ${resource.id} has no backing`);
    const isWanted = resource.isWritten || this.#scanouts.isShown(resource);
    if (!isWanted) this.#setPixels(resource, null);
    else if (resource.pixels instanceof MappedPages) this.moveToStore(resource);
    this.#dropGuest(resource);
  }

  /** Moves the pixels into a store. The resource has a backing. */
  moveToStore(resource: Resource): Store {
    const store = Store.create(this.#budget, resource.byteLength);
    this.#readInto(store, resource);
    this.#setPixels(resource, store);
    return store;
  }

  /** Copies a blob that is in a store again: the guest draws into its own pages. */
  refresh(resource: Resource): void {
    if (resource.isBlob && resource.guest && resource.pixels instanceof Store)
      this.#readInto(resource.pixels, resource);
  }

  /** Copies from the attached backing. `at + length` is at most its length. */
  read(resource: Resource, at: number, into: Uint8Array, intoAt: number, length: number): void {
    if (this.#memory) resource.guest?.read(this.#memory, at, into, intoAt, length);
  }

  /** Resolves every backing in the new memory table. A resource whose pages are gone loses its pixels. */
  memoryChanged(memory: GuestMemory): void {
    this.#memory = memory;
    for (const resource of this.#byId.values()) {
      const { guest, pixels } = resource;
      if (!guest) continue;
      if (!guest.isInside(memory)) {
        if (pixels instanceof MappedPages) this.#setPixels(resource, null);
        this.#dropGuest(resource);
      } else if (pixels instanceof MappedPages) {
        this.#placeAgain(resource, guest, pixels, memory);
      }
    }
  }

  clear(): void {
    for (const resource of this.#byId.values()) this.remove(resource);
  }

  #placeAgain(resource: Resource, guest: GuestPages, pixels: MappedPages, memory: GuestMemory): void {
    try {
      const next = this.#place(resource, guest, memory);
      if (next instanceof MappedPages && sameRanges(next.ranges, pixels.ranges)) return;
      if (next instanceof Store) this.#readInto(next, resource, guest);
      this.#setPixels(resource, next);
    } catch (error) {
      this.#log('warn', `resource ${resource.id} lost its picture when the guest's memory changed: ${String(error)}`);
      this.#setPixels(resource, null);
      this.#dropGuest(resource);
    }
  }

  #place(resource: Resource, guest: GuestPages, memory: GuestMemory): MappedPages | Store {
    const runs = guest.length >= resource.byteLength ? guest.runs(memory, resource.byteLength) : null;
    const runsOfOthers = this.#runs - (resource.pixels?.ranges.length ?? 0);
    if (runs && runsOfOthers + runs.length <= MAX_RUNS) return new MappedPages(runs, resource.isBlob);
    return Store.create(this.#budget, resource.byteLength);
  }

  #readInto(store: Store, resource: Resource, guest = resource.guest): void {
    if (guest && this.#memory) guest.read(this.#memory, 0, store.bytes, 0, Math.min(resource.byteLength, guest.length));
  }

  #setPixels(resource: Resource, next: MappedPages | Store | null): void {
    const old = resource.pixels;
    if (old === next) return;
    this.#runs += (next?.ranges.length ?? 0) - (old?.ranges.length ?? 0);
    resource.pixels = next;
    this.#scanouts.moved(resource);
    old?.[Symbol.dispose]();
  }

  #dropGuest(resource: Resource): void {
    if (resource.guest) this.#budget.release(resource.guest.entries.length * ENTRY_COST);
    resource.guest = null;
  }

  #reserve(bytes: number): void {
    if (!this.#budget.reserve(bytes))
      throw new VirtioGpuError('out-of-memory', `${this.#budget.used} of ${this.#budget.limit} bytes are in use`);
  }
}

function sameRanges(a: readonly PageRange[], b: readonly PageRange[]): boolean {
  return (
    a.length === b.length &&
    a.every((range, i) => range.memfd === b[i]!.memfd && range.offset === b[i]!.offset && range.length === b[i]!.length)
  );
}
