import { DISPLAY_ID, SERVER_ID_START } from '../../../protocols/wayland/wire.ts';
import type { Connection } from './connection.ts';
import { Malformed } from './errors.ts';
import type { WaylandClass, WaylandObject } from './object.ts';

/** What a compositor may make at one time; none comes near. */
const MAX_SERVER_OBJECTS = 65536;

/**
 * The objects of a connection by id. One that was destroyed stays until the compositor has
 * confirmed that (wl_display.delete_id), since events to it may be on their way; its id is not
 * given again before. Ids the compositor gave are its own to give again once the object is destroyed.
 */
export class ObjectMap {
  readonly #connection: Connection;
  /** By id; 0 is nobody's. */
  readonly #client: (WaylandObject | null)[] = [null];
  readonly #free: number[] = [];
  /** By id - SERVER_ID_START. */
  readonly #server: WaylandObject[] = [];

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The id of the next object made by `create`. */
  get nextId(): number {
    return this.#free.at(-1) ?? this.#client.length;
  }

  create<T extends WaylandObject>(type: WaylandClass<T>, version: number): T {
    const id = this.#free.pop() ?? this.#client.length;
    const object = new type(this.#connection, id, version);
    this.#client[id] = object;
    return object;
  }

  /** An object the compositor made. Malformed if it may not give this id. */
  adopt<T extends WaylandObject>(type: WaylandClass<T>, id: number, version: number): T {
    const index = id - SERVER_ID_START;
    if (index < 0 || index > this.#server.length || index >= MAX_SERVER_OBJECTS) throw new Malformed(`${id} is no id to give to a new object`);
    if (this.#server[index]?.isDestroyed === false) throw new Malformed(`the new object has the id of ${String(this.#server[index])}`);
    const object = new type(this.#connection, id, version);
    this.#server[index] = object;
    return object;
  }

  /** Destroyed ones too. */
  get(id: number): WaylandObject | null {
    return (id < SERVER_ID_START ? this.#client[id] : this.#server[id - SERVER_ID_START]) ?? null;
  }

  /** The compositor has forgotten this object of ours. Malformed if there is none. */
  delete(id: number): void {
    const object = this.#client[id];
    if (!object || id === DISPLAY_ID) throw new Malformed(`there is no object ${id} to delete`);
    object.retire();
    this.#client[id] = null;
    this.#free.push(id);
  }

  retireAll(): void {
    for (const object of this.#client) object?.retire();
    for (const object of this.#server) object.retire();
  }
}
