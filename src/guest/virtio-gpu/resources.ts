import type { Log } from '../../core/log.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { Pump } from '../../sys/pump.ts';
import type { GuestMemory } from '../memory.ts';
import { VirtioGpuError } from './errors.ts';
import { LinearViews } from './linear-views.ts';
import { type GuestPages, MappedPages, type Resource, Store } from './resource.ts';
import type { Scanouts } from './scanouts.ts';
import type { GpuTap } from './tap.ts';

const MAX_RESOURCES = 4096;
/** Stores that outputs may share. Each takes a descriptor; as many as a bridge keeps dma-bufs of. */
const MAX_SHAREABLE_STORES = 64;
/** Roughly what a resource takes on the heap, in bytes. */
const RESOURCE_COST = 1024;

/** How many bytes are copied between looks at the clock. */
const PIECE = 2 ** 20;
/** A tap compares and packs them as well. */
const TAPPED_PIECE = PIECE / 4;
/** What a row costs beyond its bytes, in bytes that could be copied meanwhile. */
const ROW_COST = 256;
/** The longest row of an image. */
const MAX_ROW = 64 * 1024;

/** The rest of a command. It yields between pieces that take well under a millisecond each. */
export type Work = Generator<void, void, void>;

/** Rows of a resource, in bytes: `from` is in the backing, `to` in the picture. */
export interface Rows {
  readonly from: number;
  readonly to: number;
  readonly stride: number;
  readonly rowBytes: number;
  readonly rows: number;
}

/**
 * The guest's resources and where their pixels are.
 *
 * Pixels stay in the guest's pages while these are whole pages and transfers only go to
 * where the pixels lie already. Otherwise, and when the pages go while their contents are still needed, the
 * resource gets a store in host memory for good, and transfers copy into that.
 */
export class Resources {
  readonly #scanouts: Scanouts;
  readonly #budget: MemoryBudget;
  readonly #log: Log;
  readonly #tap: GpuTap | null;
  /** A row on its way to the tap, as it was at one instant: the guest may go on drawing. */
  readonly #row = Buffer.alloc(MAX_ROW);
  readonly #byId = new Map<number, Resource>();
  #memory: GuestMemory | null = null;
  /** Of the memory table. */
  #generation = 0;
  /** Those that may still have to be resolved. */
  #unresolved = this.#byId.values();
  readonly #resolving = new Pump(() => {
    const { value: resource } = this.#unresolved.next();
    try {
      if (resource && this.#memory && resource.generation !== this.#generation) this.#resolve(resource, this.#memory);
    } catch (error) {
      this.#log('error', `a resource cannot be looked up in the new memory table: ${String(error)}`);
    }
    return resource !== undefined;
  });
  readonly #views = new LinearViews();
  #shareableStores = 0;

  constructor(scanouts: Scanouts, budget: MemoryBudget, log: Log, tap: GpuTap | null) {
    this.#scanouts = scanouts;
    this.#budget = budget;
    this.#log = log;
    this.#tap = tap;
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
    if (this.#memory && resource.generation !== this.#generation) this.#resolve(resource, this.#memory);
    return resource;
  }

  checkNew(id: number): void {
    if (id === 0) throw new VirtioGpuError('invalid-resource', 'resource id 0 means no resource');
    if (this.#byId.has(id)) throw new VirtioGpuError('invalid-resource', `resource ${id} exists already`);
    if (this.#byId.size >= MAX_RESOURCES)
      throw new VirtioGpuError('out-of-memory', `there are ${MAX_RESOURCES} resources already`);
  }

  /** Call `checkNew` before. With `guest` the resource gets its backing too, or is not added. */
  add(resource: Resource, guest: GuestPages | null): void {
    this.#reserve(RESOURCE_COST);
    try {
      if (guest) this.attach(resource, guest);
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

  attach(resource: Resource, guest: GuestPages): void {
    const memory = this.#memory;
    if (resource.guest) throw new VirtioGpuError('busy', `resource ${resource.id} has a backing already`);
    if (!memory || !guest.isInside(memory))
      throw new VirtioGpuError('invalid-parameter', 'the backing is not inside guest memory');
    if (resource.isBlob && guest.length < resource.byteLength) {
      throw new VirtioGpuError(
        'invalid-parameter',
        `a blob of ${resource.byteLength} bytes with a backing of ${guest.length}`,
      );
    }
    this.#reserve(guest.cost);
    try {
      if (!resource.pixels) this.#setPixels(resource, this.#place(resource, guest, memory));
    } catch (error) {
      this.#budget.release(guest.cost);
      throw error;
    }
    resource.guest = guest;
    resource.generation = this.#generation;
  }

  /** What is left of it to do. */
  detach(resource: Resource): Work | undefined {
    if (!resource.guest) throw new VirtioGpuError('invalid-resource', `resource ${resource.id} has no backing`);
    const isWanted = resource.isWritten || this.#scanouts.isShown(resource);
    if (isWanted && resource.pixels instanceof MappedPages) return this.#saveAndDetach(resource);
    if (!isWanted) this.#setPixels(resource, null);
    this.#dropGuest(resource);
    return undefined;
  }

  *#saveAndDetach(resource: Resource): Work {
    yield* this.moveToStore(resource);
    this.#dropGuest(resource);
  }

  /**
   * Moves the pixels into a store, or, without `isKept`, begins a black one. The resource has a backing. VirtioGpuError, with nothing changed, beyond
   * the budget and if the memory table without the backing comes meanwhile.
   */
  *moveToStore(resource: Resource, isKept = true): Work {
    const { guest } = resource;
    const store = this.#createStore(resource);
    let isUsed = false;
    try {
      const length = isKept ? Math.min(resource.byteLength, guest!.length) : 0;
      for (let at = 0; at < length; at += PIECE) {
        if (at > 0) yield;
        if (resource.guest !== guest)
          throw new VirtioGpuError('invalid-resource', `the backing of resource ${resource.id} is gone`);
        this.read(resource, at, store.bytes, at, Math.min(PIECE, length - at));
      }
      this.#setPixels(resource, store);
      isUsed = true;
    } finally {
      if (!isUsed) store[Symbol.dispose]();
    }
  }

  /** Whether `take` has anything to do. */
  takes(resource: Resource): boolean {
    return this.#tap !== null || resource.pixels instanceof Store;
  }

  /** Whether rows are too many for one piece. */
  isLarge(rowBytes: number, rows: number): boolean {
    return rows * (rowBytes + ROW_COST) > this.#piece;
  }

  /**
   * Reads rows of the backing that the guest says have changed: for the tap, and into the store if the pixels are in
   * one. What the backing does not have is left out.
   */
  take(resource: Resource, area: Rows): void {
    this.#takeRows(resource, area, 0, area.rows);
  }

  /** The same in pieces. */
  *takeInPieces(resource: Resource, area: Rows): Work {
    const step = Math.ceil(this.#piece / (area.rowBytes + ROW_COST));
    for (let row = 0; row < area.rows; row += step) {
      if (row > 0) yield;
      this.#takeRows(resource, area, row, Math.min(row + step, area.rows));
    }
  }

  /** Copies from the attached backing. `at + length` is at most its length. */
  read(resource: Resource, at: number, into: Uint8Array, intoAt: number, length: number): void {
    if (this.#memory) resource.guest?.read(this.#memory, at, into, intoAt, length);
  }

  /**
   * Resolves every backing in the new memory table: those that are shown before it returns, the others in the next turns
   * or when they are used. A resource whose pages are gone loses its pixels.
   */
  memoryChanged(memory: GuestMemory): void {
    this.#memory = memory;
    this.#generation++;
    for (const resource of this.#byId.values()) if (this.#scanouts.isShown(resource)) this.#resolve(resource, memory);
    this.#unresolved = this.#byId.values();
    this.#resolving.start();
  }

  clear(): void {
    for (const resource of this.#byId.values()) this.remove(resource);
  }

  get #piece(): number {
    return this.#tap ? TAPPED_PIECE : PIECE;
  }

  #takeRows(resource: Resource, { from, to, stride, rowBytes }: Rows, first: number, end: number): void {
    const { guest, pixels } = resource;
    if (!guest) return;
    for (let row = first; row < end; row++) {
      const at = from + row * stride;
      const length = Math.min(rowBytes, guest.length - at);
      if (length <= 0) return;
      if (this.#tap) this.#tapRow(this.#tap, guest, at, length);
      if (pixels instanceof Store) this.read(resource, at, pixels.bytes, to + row * stride, length);
    }
  }

  #tapRow(tap: GpuTap, guest: GuestPages, at: number, length: number): void {
    const row = this.#row;
    for (let done = 0; done < length;) {
      const address = guest.addressOf(at + done);
      const count = Math.min(guest.restOf(at + done), length - done);
      this.#memory?.copyOut(address, count, row, 0);
      tap.pixels(address, row, count);
      done += count;
    }
  }

  #resolve(resource: Resource, memory: GuestMemory): void {
    const { guest, pixels } = resource;
    resource.generation = this.#generation;
    if (!guest) return;
    if (!guest.isInside(memory)) {
      if (pixels instanceof MappedPages) this.#setPixels(resource, null);
      this.#dropGuest(resource);
    } else if (pixels instanceof MappedPages) {
      this.#placeAgain(resource, guest, pixels, memory);
    }
  }

  #placeAgain(resource: Resource, guest: GuestPages, pixels: MappedPages, memory: GuestMemory): void {
    try {
      const next = this.#place(resource, guest, memory);
      if (next instanceof MappedPages && next.ranges.equals(pixels.ranges)) {
        next[Symbol.dispose]();
        return;
      }
      if (next instanceof Store) this.#readInto(next, resource, guest);
      this.#setPixels(resource, next);
    } catch (error) {
      this.#log('warn', `resource ${resource.id} lost its picture when the guest's memory changed: ${String(error)}`);
      this.#setPixels(resource, null);
      this.#dropGuest(resource);
    }
  }

  #place(resource: Resource, guest: GuestPages, memory: GuestMemory): MappedPages | Store {
    const pages =
      guest.length >= resource.byteLength
        ? guest.map(memory, resource.byteLength, resource.isBlob, this.#budget, this.#views)
        : null;
    return pages ?? this.#createStore(resource);
  }

  #createStore({ byteLength }: Resource): Store {
    return Store.create(this.#budget, byteLength, this.#shareableStores < MAX_SHAREABLE_STORES);
  }

  #readInto(store: Store, resource: Resource, guest = resource.guest): void {
    if (guest && this.#memory) guest.read(this.#memory, 0, store.bytes, 0, Math.min(resource.byteLength, guest.length));
  }

  #setPixels(resource: Resource, next: MappedPages | Store | null): void {
    const old = resource.pixels;
    if (old === next) return;
    if (next instanceof Store && next.isShareable) this.#shareableStores++;
    if (old instanceof Store && old.isShareable) this.#shareableStores--;
    resource.pixels = next;
    this.#scanouts.moved(resource);
    old?.[Symbol.dispose]();
  }

  #dropGuest(resource: Resource): void {
    if (resource.guest) this.#budget.release(resource.guest.cost);
    resource.guest = null;
  }

  #reserve(bytes: number): void {
    if (!this.#budget.reserve(bytes))
      throw new VirtioGpuError('out-of-memory', `${this.#budget.used} of ${this.#budget.limit} bytes are in use`);
  }
}
