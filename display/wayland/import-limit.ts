import { Bag } from '../../src/core/bag.ts';

/**
 * Memory planes that a compositor keeps for one connection, unless more are on screen. Compositors keep a descriptor of
 * each, Weston two, and may open 1024 for all of their clients; so this leaves room for several guests with many
 * windows. A guest that flips between more framebuffers pays an import for the oldest.
 */
const MAX_PLANES = 64;

/** An imported buffer, as its connection's limit sees it. */
export interface Import {
  readonly isHeld: boolean;
  /** How many descriptors the compositor has of it. */
  readonly planes: number;
  /** From `ImportLimit.use`. */
  readonly lastUse: number;
  /** The id of the object that asks for the import; 0 once it is answered. */
  readonly paramsId: number;
  /** Destroys the import, which is made again when the buffer is needed. */
  evict(): void;
  /** The compositor has ended the connection over this import. */
  refused(): void;
}

/** The imports of all windows on one connection. The least recently used make room for others, but never one that is held. */
export class ImportLimit {
  readonly #imports = new Bag<Import>();
  #planes = 0;
  #uses = 0;

  /** The time of this use, for `Import.lastUse`. */
  use(): number {
    return ++this.#uses;
  }

  /** To be called before the import is asked for. */
  add(added: Import): void {
    while (this.#planes + added.planes > MAX_PLANES) {
      const oldest = this.#oldest();
      if (!oldest) break;
      this.remove(oldest);
      oldest.evict();
    }
    this.#imports.add(added);
    this.#planes += added.planes;
  }

  /** Does nothing if it was removed before. */
  remove(removed: Import): void {
    if (this.#imports.remove(removed)) this.#planes -= removed.planes;
  }

  /** The compositor has ended the connection over the object with this id. */
  blame(paramsId: number): void {
    for (let i = 0; i < this.#imports.count; i++)
      if (this.#imports.at(i).paramsId === paramsId) this.#imports.at(i).refused();
  }

  #oldest(): Import | null {
    let oldest: Import | null = null;
    for (let i = 0; i < this.#imports.count; i++) {
      const each = this.#imports.at(i);
      if (!each.isHeld && (!oldest || each.lastUse < oldest.lastUse)) oldest = each;
    }
    return oldest;
  }
}
