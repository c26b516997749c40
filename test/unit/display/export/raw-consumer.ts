import { setImmediate } from 'node:timers/promises';
import {
  EXPORT_EVENT,
  EXPORT_REQUEST,
  export_error,
  export_exported,
  export_frame,
  export_gone,
  export_header,
  export_hello,
  export_import,
  export_imported,
  export_release,
  export_revoked,
} from '../../../../protocols/export.ts';
import type { Struct, ValueOf } from '../../../../protocols/layout.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../../../src/sys/fd.ts';
import { connectUnix, UnixConnection } from '../../../../src/sys/socket.ts';

const STRUCTS = {
  [EXPORT_EVENT.HELLO]: export_hello,
  [EXPORT_EVENT.FRAME]: export_frame,
  [EXPORT_EVENT.EXPORTED]: export_exported,
  [EXPORT_EVENT.GONE]: export_gone,
  [EXPORT_EVENT.REVOKED]: export_revoked,
  [EXPORT_EVENT.IMPORTED]: export_imported,
  [EXPORT_EVENT.ERROR]: export_error,
} as const;

type Structs = typeof STRUCTS;
type EventType = keyof Structs;
export type EventOf<T extends EventType> = ValueOf<Structs[T]>;

/** The other end of an export socket, which does what a test says, right or wrong. */
export class RawConsumer implements Disposable {
  readonly connection: UnixConnection;
  readonly fds: OwnedFd[];
  /** The connection has ended. */
  isOver = false;
  #bytes = Buffer.alloc(0);
  readonly #events: { type: EventType; value: unknown }[] = [];

  constructor(path: string) {
    this.connection = UnixConnection.adopt(connectUnix(path));
    this.fds = this.connection.fds;
  }

  /** The next event, which must be of this type. */
  async take<T extends EventType>(type: T): Promise<EventOf<T>> {
    for (;;) {
      this.read();
      const event = this.#events.shift();
      if (event) {
        if (event.type !== type) throw new Error(`event ${event.type}, expected ${type}`);
        return event.value as EventOf<T>;
      }
      if (this.isOver) throw new Error(`the connection ended, expected event ${type}`);
      await setImmediate();
    }
  }

  /** Every event that has arrived. */
  takeNow(): { type: EventType; value: unknown }[] {
    this.read();
    return this.#events.splice(0);
  }

  takeFd(): OwnedFd {
    return this.fds.shift()!;
  }

  async ended(): Promise<void> {
    for (;;) {
      this.read();
      if (this.isOver) return;
      await setImmediate();
    }
  }

  send(bytes: Uint8Array, fds: readonly BorrowedFd[] = []): void {
    this.connection.send(bytes, fds);
  }

  import(id: Uint8Array): void {
    this.send(encode(EXPORT_REQUEST.IMPORT, export_import, { id }));
  }

  release(id: Uint8Array, serial: number, flags = 0, fds: readonly BorrowedFd[] = []): void {
    this.send(encode(EXPORT_REQUEST.RELEASE, export_release, { id, serial, flags }), fds);
  }

  [Symbol.dispose](): void {
    this.connection[Symbol.dispose]();
  }

  read(): void {
    const chunk = new Uint8Array(65536);
    for (let count = this.#receive(chunk); ; count = this.#receive(chunk)) {
      if (count === 0) this.isOver = true;
      if (count <= 0) break;
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(0, count)]);
    }
    while (this.#bytes.length >= export_header.size) {
      const { size, type } = export_header.decode(this.#bytes);
      if (this.#bytes.length < size) return;
      const struct = STRUCTS[type as EventType] as Struct<any>; // eslint-disable-line @typescript-eslint/no-explicit-any
      this.#events.push({ type: type as EventType, value: struct.decode(this.#bytes) });
      this.#bytes = this.#bytes.subarray(size);
    }
  }

  #receive(chunk: Uint8Array): number {
    if (this.isOver) return -1;
    try {
      return this.connection.recv(chunk, 0, chunk.length);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      return 0;
    }
  }
}

/** A whole message. */
export function encode<F extends Record<string, any>>( // eslint-disable-line @typescript-eslint/no-explicit-any
  type: number,
  struct: Struct<F>,
  value: Parameters<Struct<F>['encode']>[0],
): Uint8Array {
  const bytes = struct.encode(value);
  export_header.set(new DataView(bytes.buffer), 0, { size: bytes.length, type });
  return bytes;
}
