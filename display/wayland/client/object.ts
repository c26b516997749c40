import { DISPLAY_ID, type InterfaceTable, SERVER_ID_START } from '../../../protocols/wayland/wire.ts';
import { Malformed, type WaylandCloseReason, WaylandError, WaylandVersionError } from './errors.ts';
import type { Incoming } from './incoming.ts';
import type { Outgoing } from './outgoing.ts';

/** The most objects a compositor may create at one time; real compositors stay far below. */
const MAX_SERVER_OBJECTS = 65536;
/** The most objects a client may have at one time, with those whose destruction the compositor has yet to confirm. */
const MAX_CLIENT_OBJECTS = 65536;

/** What an object needs of the connection it belongs to. */
export interface ObjectOwner {
  readonly objects: ObjectMap;
  /** Why the connection ended; null while it works. */
  readonly closeReason: WaylandCloseReason | null;
  /**
   * Begins a request of `size` bytes, header included, to be sent at the end of the callback that the event loop has
   * made. RangeError if it is larger than compositors on libwayland read.
   */
  request(objectId: number, opcode: number, size: number): Outgoing;
}

/** A generated class, as `WaylandDisplay.bind` takes it. */
export interface WaylandClass<T extends WaylandObject = WaylandObject> {
  new (connection: ObjectOwner, id: number, version: number): T;
  readonly interface: InterfaceTable;
}

/**
 * A protocol object. Requests are methods: they are queued, and sent at the end of the callback that the event loop has
 * made. Events call the methods of `listener`, one at a time and in order; a listener may destroy any object or the
 * display. Set it in the callback that created the object: no event arrives before it ends.
 *
 * In events, an object is null if this client has destroyed it in the meantime. An `OwnedFd` or a new object belongs
 * to the listener; without a listener for the event it is closed or destroyed. Strings and arrays are copies. In
 * requests, a `BorrowedFd` may be closed as soon as the method has returned.
 *
 * Methods throw WaylandVersionError; WaylandError `destroyed` or `closed`; RangeError for a number that does not fit,
 * a string that is too long or an object that cannot be an argument; SysError if a descriptor cannot be duplicated.
 * A method that throws has sent nothing. Methods do not throw if the compositor is gone: `WaylandDisplay.onClosed`
 * reports that.
 *
 * To use a protocol without a generated class, extend this class as the files in `generated/` do.
 */
export abstract class WaylandObject implements Disposable {
  readonly connection: ObjectOwner;
  /** Unique within the connection while the object exists; reused afterwards. */
  readonly id: number;
  /** The version of the interface that was bound; an object created by another object has that object's version. */
  readonly version: number;
  listener: object | null = null;
  #isDestroyed = false;
  #lastRequest = -1;

  /** Called by ObjectMap only. */
  constructor(connection: ObjectOwner, id: number, version: number) {
    this.connection = connection;
    this.id = id;
    this.version = version;
  }

  abstract get interface(): InterfaceTable;

  /** True once a destructor was sent or received, or the connection ended. */
  get isDestroyed(): boolean {
    return this.#isDestroyed;
  }

  /** Name of the request that was sent last, for error messages; null if there was none. */
  get lastRequest(): string | null {
    return this.interface.requests[this.#lastRequest]?.name ?? null;
  }

  /** `wl_surface#7`. */
  toString(): string {
    return `${this.interface.name}#${this.id}`;
  }

  /**
   * Sends the destructor if the bound version has one. Otherwise the compositor keeps the object, and its events are
   * discarded. Does nothing if the object is destroyed.
   */
  [Symbol.dispose](): void {
    if (this.#isDestroyed) return;
    const opcode = this.interface.requests.findIndex(
      ({ destructor, since, args }) => destructor && since <= this.version && args.length === 0,
    );
    if (opcode >= 0) this.request(opcode, 8).end();
    this.retire();
  }

  /**
   * Reads one event and calls the listener; called by the connection. Throws if the event is not what the interface
   * says, which ends the connection.
   */
  dispatch(_opcode: number, event: Incoming): void {
    throw new Malformed(`its interface has no event ${event.opcode}`);
  }

  /**
   * Marks the object as destroyed: its requests throw and its listener is not called again. A destructor calls this
   * after its request has been sent.
   */
  retire(): void {
    this.#isDestroyed = true;
    this.listener = null;
  }

  /**
   * Begins a request of `size` bytes, header included, that version `since` of the interface added. The arguments and
   * `end` must follow before any other request begins.
   */
  protected request(opcode: number, size: number, since = 1): Outgoing {
    if (this.#isDestroyed || this.version < since) throw this.#misuse(opcode, since);
    this.#lastRequest = opcode;
    return this.connection.request(this.id, opcode, size);
  }

  #misuse(opcode: number, since: number): Error {
    const request = this.interface.requests[opcode]!.name;
    if (!this.#isDestroyed) return new WaylandVersionError(this.interface.name, request, since, this.version);
    const { closeReason } = this.connection;
    if (!closeReason)
      return new WaylandError('destroyed', `${String(this)}.${request} was called after the object was destroyed`);
    const message = `${String(this)}.${request} was called after the connection ended: ${closeReason.message}`;
    return new WaylandError('closed', message, { cause: closeReason });
  }
}

/**
 * A connection's objects by id. An object that was destroyed stays until the compositor confirms it
 * (wl_display.delete_id), because events to it may be on their way; only then is its id reused. The compositor
 * may reuse an id of its own range as soon as the client has destroyed the object.
 */
export class ObjectMap {
  readonly #connection: ObjectOwner;
  /** Indexed by id; id 0 is never used. */
  readonly #client: (WaylandObject | null)[] = [null];
  readonly #free: number[] = [];
  /** Indexed by id - SERVER_ID_START. */
  readonly #server: WaylandObject[] = [];

  constructor(connection: ObjectOwner) {
    this.#connection = connection;
  }

  /** No more objects may be created: the compositor confirms the destruction of none. */
  get isFull(): boolean {
    return this.#free.length === 0 && this.#client.length >= MAX_CLIENT_OBJECTS;
  }

  /** The id that the next `create` will use: a `new_id` argument names it before the request is complete. */
  get nextId(): number {
    return this.#free.at(-1) ?? this.#client.length;
  }

  /** The id of an object as an argument; 0 for null. RangeError if it is destroyed or of another connection. */
  idOf(object: WaylandObject | null): number {
    if (object === null) return 0;
    if (object.isDestroyed) throw new RangeError(`${String(object)} cannot be an argument: it is destroyed`);
    if (this.get(object.id) !== object)
      throw new RangeError(`${String(object)} cannot be an argument: it belongs to another connection`);
    return object.id;
  }

  /** Creates the object with id `nextId`, which the compositor learns from the request just sent. */
  create<T extends WaylandObject>(type: WaylandClass<T>, version: number): T {
    const id = this.#free.pop() ?? this.#client.length;
    const object = new type(this.#connection, id, version);
    this.#client[id] = object;
    return object;
  }

  /** Creates the object that the compositor has announced as `id`. Malformed if the compositor may not use this id. */
  adopt<T extends WaylandObject>(type: WaylandClass<T>, id: number, version: number): T {
    const index = id - SERVER_ID_START;
    if (index < 0 || index > this.#server.length || index >= MAX_SERVER_OBJECTS)
      throw new Malformed(`a new object cannot have id ${id}`);
    if (this.#server[index]?.isDestroyed === false)
      throw new Malformed(`a new object has the id of ${String(this.#server[index])}`);
    const object = new type(this.#connection, id, version);
    this.#server[index] = object;
    return object;
  }

  /** The object with this id, destroyed or not; null if there is none. */
  get(id: number): WaylandObject | null {
    return (id < SERVER_ID_START ? this.#client[id] : this.#server[id - SERVER_ID_START]) ?? null;
  }

  /**
   * The object that an argument of an event refers to; null if the client has destroyed it. Malformed if there is no
   * such object or it has another interface.
   */
  resolve<T extends WaylandObject>(type: WaylandClass<T>, id: number): T | null {
    const object = this.get(id);
    if (object instanceof type) return object.isDestroyed ? null : object;
    const expected = `expected ${type.interface.name}`;
    if (id === 0) throw new Malformed(`an object argument is null, ${expected}`);
    throw new Malformed(`an argument refers to ${object ? String(object) : `unknown object ${id}`}, ${expected}`);
  }

  /** As `resolve`, but id 0 is allowed and gives null. */
  resolveNullable<T extends WaylandObject>(type: WaylandClass<T>, id: number): T | null {
    return id === 0 ? null : this.resolve(type, id);
  }

  /**
   * Frees the id of a client's object, as the compositor says. Malformed if there is no such object, or it is not
   * destroyed. Objects without requests, such as callbacks, go without a word when what they are about does.
   */
  delete(id: number): void {
    const object = this.#client[id];
    if (!object || id === DISPLAY_ID) throw new Malformed(`object ${id} does not exist or cannot be deleted`);
    if (!object.isDestroyed && object.interface.requests.length > 0)
      throw new Malformed(`${String(object)} was deleted, but not destroyed`);
    object.retire();
    this.#client[id] = null;
    this.#free.push(id);
  }

  /** Retires all objects at the end of the connection. */
  retireAll(): void {
    for (const object of this.#client) object?.retire();
    for (const object of this.#server) object.retire();
  }
}
