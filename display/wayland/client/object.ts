import { DISPLAY_ID, type InterfaceTable, SERVER_ID_START } from '../../../protocols/wayland/wire.ts';
import type { Connection } from './connection.ts';
import { Malformed, WaylandError, WaylandVersionError } from './errors.ts';
import type { Incoming } from './incoming.ts';
import type { Outgoing } from './outgoing.ts';

/** What a compositor may make at one time; none comes near. */
const MAX_SERVER_OBJECTS = 65536;

/** A generated class: what `bind` takes. */
export interface WaylandClass<T extends WaylandObject = WaylandObject> {
  new (connection: Connection, id: number, version: number): T;
  readonly interface: InterfaceTable;
}

/**
 * A protocol object. Requests are methods: they are queued, and sent at the end of the event
 * loop's turn. Events go to `listener`, one at a time and in order; a listener may destroy any
 * object or the display. Set it in the turn that made the object: no event comes before.
 *
 * In events, an object is null if it was destroyed by us meanwhile; an `OwnedFd` or a new object
 * belongs to the listener, and is closed or destroyed if nobody listens; strings and arrays are
 * copies. In requests, a `BorrowedFd` may be closed once the method returned.
 *
 * Methods throw WaylandVersionError, WaylandError `destroyed` or `closed`, RangeError for a number
 * that does not fit or a string that is too long, SysError if a descriptor cannot be duplicated,
 * and have then sent nothing. They do not throw when the compositor is gone: the display tells.
 */
export abstract class WaylandObject implements Disposable {
  readonly connection: Connection;
  readonly id: number;
  /** Of the interface, as bound; a child has its parent's. */
  readonly version: number;
  listener: object | null = null;
  #isDestroyed = false;
  #lastRequest = -1;

  constructor(connection: Connection, id: number, version: number) {
    this.connection = connection;
    this.id = id;
    this.version = version;
  }

  abstract get interface(): InterfaceTable;

  /** A destructor was sent or came, or the connection ended. */
  get isDestroyed(): boolean {
    return this.#isDestroyed;
  }

  /** Name of the request sent last. */
  get lastRequest(): string | null {
    return this.interface.requests[this.#lastRequest]?.name ?? null;
  }

  /** `wl_surface#7`. */
  toString(): string {
    return `${this.interface.name}#${this.id}`;
  }

  /**
   * Sends the destructor if the bound version has one; else the compositor keeps the object, and
   * its events are dropped. Does nothing to a destroyed object.
   */
  [Symbol.dispose](): void {
    if (this.#isDestroyed) return;
    const opcode = this.interface.requests.findIndex(({ destructor, since, args }) => destructor && since <= this.version && args.length === 0);
    if (opcode >= 0) this.request(opcode, 8).end();
    this.retire();
  }

  /** Reads one event and calls the listener. For the connection. */
  dispatch(_opcode: number, event: Incoming): void {
    event.unknown();
  }

  /** From here on the object sends nothing and nobody listens. For the client itself. */
  retire(): void {
    this.#isDestroyed = true;
    this.listener = null;
  }

  /** Begins a request of `size` bytes. */
  protected request(opcode: number, size: number, since = 1): Outgoing {
    if (this.#isDestroyed || this.version < since) throw this.#misuse(opcode, since);
    this.#lastRequest = opcode;
    return this.connection.out.begin(this.id, opcode, size);
  }

  /** The object whose id the request just sent has given to the compositor. */
  protected created<T extends WaylandObject>(type: WaylandClass<T>, version = this.version): T {
    return this.connection.objects.create(type, version);
  }

  #misuse(opcode: number, since: number): Error {
    const request = this.interface.requests[opcode]!.name;
    if (!this.#isDestroyed) return new WaylandVersionError(this.interface.name, request, since, this.version);
    const { closeReason } = this.connection;
    if (closeReason) return new WaylandError('closed', `${String(this)}.${request} after the connection ended: ${closeReason.message}`, { cause: closeReason });
    return new WaylandError('destroyed', `${String(this)}.${request} after the object was destroyed`);
  }
}

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
