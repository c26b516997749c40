import {
  DISPLAY_ID,
  SERVER_ID_START,
  type InterfaceTable,
  type MessageTable,
} from '../../../../../protocols/wayland/wire.ts';
import type { BorrowedFd, OwnedFd } from '../../../../../src/sys/fd.ts';
import { Poll } from '../../../../../src/sys/poll.ts';
import { SysError } from '../../../../../src/sys/errors.ts';
import { UnixConnection } from '../../../../../src/sys/socket.ts';
import { type GenericNewId, type WireValue, decodeMessage, encodeMessage, interfaceOf } from './codec.ts';

/** An argument as tests see it: objects are FakeObjects. */
export type FakeValue = WireValue | FakeObject;

/** A received request. Its handler may take the descriptors; the server closes the others when it is disposed. */
export interface FakeRequest {
  readonly client: FakeClient;
  readonly object: FakeObject;
  /** `wl_surface.attach`. */
  readonly name: string;
  readonly args: Readonly<Record<string, FakeValue>>;
}

/** The compositor's side of an object. */
export class FakeObject {
  readonly client: FakeClient;
  readonly id: number;
  readonly interface: InterfaceTable;
  readonly version: number;
  /** The client has sent its destructor. */
  isDestroyed = false;

  constructor(client: FakeClient, id: number, table: InterfaceTable, version: number) {
    this.client = client;
    this.id = id;
    this.interface = table;
    this.version = version;
  }

  /** Sends an event. Descriptors are borrowed. An event that destroys the object deletes its id too. */
  send(event: string, ...values: (FakeValue | BorrowedFd)[]): void {
    this.client.send(this, event, values);
  }
}

/** One connection of a client, and its objects. */
export class FakeClient implements Disposable {
  readonly objects = new Map<number, FakeObject>();
  readonly display: FakeObject;
  /** How many descriptors each recvmsg with any returned: Linux never joins those of two sendmsg calls. */
  readonly fdsPerMessage: number[] = [];
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #onRequest: (request: FakeRequest) => void;
  readonly #chunk = new Uint8Array(65536);
  readonly #received: OwnedFd[] = [];
  #bytes = Buffer.alloc(0);
  #nextServerId = SERVER_ID_START;
  #isClosed = false;

  constructor(socket: OwnedFd, onRequest: (request: FakeRequest) => void) {
    this.#connection = UnixConnection.adopt(socket);
    this.#onRequest = onRequest;
    this.display = this.#add(DISPLAY_ID, interfaceOf('wl_display'), 1);
    this.#poll = Poll.readable(this.#connection, () => this.#onReadable());
  }

  /** True once either side has hung up. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  send(object: FakeObject, event: string, values: readonly (FakeValue | BorrowedFd)[]): void {
    const opcode = object.interface.events.findIndex(({ name }) => name === event);
    const table = object.interface.events[opcode];
    if (!table) throw new Error(`${object.interface.name} has no event ${event}`);
    const fds = table.args.flatMap(({ type }, i) => (type === 'fd' ? [values[i] as BorrowedFd] : []));
    this.raw(
      encodeMessage(
        object.id,
        opcode,
        table.args,
        values.map((value) => (value instanceof FakeObject ? value.id : (value as WireValue))),
      ),
      fds,
    );
    if (table.destructor) this.destroyed(object);
  }

  /** Sends bytes unchanged. Does nothing if the client has hung up. */
  raw(bytes: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    if (this.#isClosed) return;
    try {
      this.#connection.send(bytes, fds);
    } catch (error) {
      this.#gone(error);
    }
  }

  /** Adds an object, by default in the server's id range; the caller announces it by an event. */
  newObject(interfaceName: string, version: number, id = this.#nextServerId++): FakeObject {
    return this.#add(id, interfaceOf(interfaceName), version);
  }

  /** Sends wl_display.error and hangs up, as compositors do. */
  refuse(object: FakeObject, code: number, message: string): void {
    this.display.send('error', object, code, message);
    this[Symbol.dispose]();
  }

  /** Removes an object, and tells the client that it may reuse the id. */
  destroyed(object: FakeObject): void {
    object.isDestroyed = true;
    this.objects.delete(object.id);
    if (object.id < SERVER_ID_START) this.display.send('delete_id', object.id);
  }

  /** Stops reading, like a compositor that hangs. */
  pause(): void {
    this.#poll.pause();
  }

  resume(): void {
    this.#poll.resume();
  }

  /** Hangs up. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
    for (const fd of this.#received) fd[Symbol.dispose]();
  }

  #add(id: number, table: InterfaceTable, version: number): FakeObject {
    if (this.objects.has(id))
      throw new Error(`the client gave ${table.name} the id ${id} of its ${this.objects.get(id)!.interface.name}`);
    const object = new FakeObject(this, id, table, version);
    this.objects.set(id, object);
    return object;
  }

  #onReadable(): void {
    const before = this.#connection.fds.length;
    const count = this.#receive();
    if (count === 0) this[Symbol.dispose]();
    if (count <= 0) return;
    if (this.#connection.fds.length > before) this.fdsPerMessage.push(this.#connection.fds.length - before);
    this.#bytes = Buffer.concat([this.#bytes, this.#chunk.subarray(0, count)]);
    while (this.#bytes.length >= 8 && this.#bytes.length >= this.#bytes.readUInt16LE(6) && !this.#isClosed)
      this.#request();
  }

  #receive(): number {
    try {
      return this.#connection.recv(this.#chunk, 0, this.#chunk.length);
    } catch (error) {
      return this.#gone(error);
    }
  }

  #gone(error: unknown): 0 {
    if (!(error instanceof SysError) || !['EPIPE', 'ECONNRESET'].includes(error.code)) throw error;
    this[Symbol.dispose]();
    return 0;
  }

  #request(): void {
    const size = this.#bytes.readUInt16LE(6);
    const message = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    const object = this.objects.get(message.readUInt32LE(0));
    const table = object?.interface.requests[message.readUInt16LE(4)];
    if (!object || !table)
      throw new Error(
        `the client sent request ${message.readUInt16LE(4)} of ${object?.interface.name ?? message.readUInt32LE(0)}`,
      );
    if (table.since > object.version)
      throw new Error(
        `the client sent ${object.interface.name}.${table.name}, since ${table.since}, at version ${object.version}`,
      );
    const values = decodeMessage(message, table, () => this.#takeFd(table.name));
    const args = Object.fromEntries(
      table.args.map((_, i) => [table.args[i]!.name, this.#argument(object, table, i, values[i]!)]),
    );
    this.#onRequest({ client: this, object, name: `${object.interface.name}.${table.name}`, args });
    if (table.destructor) object.isDestroyed = true;
  }

  #argument(object: FakeObject, { args }: MessageTable, index: number, value: WireValue | GenericNewId): FakeValue {
    const { type, interface: interfaceName, nullable, name } = args[index]!;
    if (type === 'new_id') {
      if (typeof value === 'object')
        return this.#add(
          (value as GenericNewId).id,
          interfaceOf((value as GenericNewId).interface),
          (value as GenericNewId).version,
        );
      return this.#add(value as number, interfaceOf(interfaceName!), object.version);
    }
    if (type !== 'object' || (nullable && value === 0)) return type === 'object' ? null : (value as WireValue);
    const named = this.objects.get(value as number);
    if (!named || named.interface.name !== interfaceName)
      throw new Error(`${name}: #${value as number} is no ${String(interfaceName)}`);
    return named;
  }

  #takeFd(request: string): OwnedFd {
    const fd = this.#connection.fds.shift();
    if (!fd) throw new Error(`${request} came without its file descriptor`);
    this.#received.push(fd);
    return fd;
  }
}
