import { EXPORT_EVENT, EXPORT_MAX_DAMAGE, export_error, export_frame, export_header } from '../../protocols/export.ts';
import type { Damage } from '../../src/core/damage.ts';
import type { PollEvents } from '../../src/sys/poll.ts';
import type { UnixConnection } from '../../src/sys/socket.ts';
import { ExportError } from './errors.ts';

/** The longest message, in bytes, also of one that the receiver does not know. */
const MAX_MESSAGE = 4096;

/** Fills in the header of a whole message. */
export function message(type: number, bytes: Uint8Array): Uint8Array {
  export_header.set(new DataView(bytes.buffer, bytes.byteOffset), 0, { size: bytes.length, type });
  return bytes;
}

export function errorMessage(code: number, request: number, id: Uint8Array | null, serial: number): Uint8Array {
  return message(EXPORT_EVENT.ERROR, export_error.encode({ code, request, ...(id && { id }), serial }));
}

/** The damage of an `export_frame`, of which there is room for as many rectangles as a Damage has. */
export function writeDamage(view: DataView, damage: Damage): void {
  const count = Math.min(damage.count, EXPORT_MAX_DAMAGE);
  export_frame.field.damage_count.set(view, 0, count);
  for (let i = 0, at = export_frame.offset.damage; i < count; i++, at += 16) {
    view.setInt32(at, damage.x(i), true);
    view.setInt32(at + 4, damage.y(i), true);
    view.setUint32(at + 8, damage.width(i), true);
    view.setUint32(at + 12, damage.height(i), true);
  }
}

/** Cuts what arrives on a stream into messages. Allocates nothing per message. */
export class MessageReader {
  /** The message that `next` found is at its start. */
  readonly bytes = new Uint8Array(MAX_MESSAGE);
  readonly view = new DataView(this.bytes.buffer);
  readonly #sizes: ReadonlyMap<number, number>;
  #filled = 0;
  #size = 0;
  #isDrained = false;
  /** Nothing will say that more has arrived. */
  #isAtEnd = false;

  /** `sizes` has the size of each known type; messages of others may be of any. */
  constructor(sizes: ReadonlyMap<number, number>) {
    this.#sizes = sizes;
  }

  /** There is a part of a message. */
  get isInside(): boolean {
    return this.#filled > 0;
  }

  /** The size of the message that `next` found. */
  get size(): number {
    return this.#size;
  }

  /**
   * The last `fill` left nothing, so that reading again would only find that out; `wake` says that something has arrived
   * since.
   */
  get isDrained(): boolean {
    return this.#isDrained && !this.#isAtEnd;
  }

  /** A poll of the connection has called back. */
  wake({ readable = false }: PollEvents): void {
    this.#isDrained = false;
    // An error, which it reports once: the peer is gone, and what it sent before is still to be read.
    this.#isAtEnd = !readable;
  }

  /** Reads what has arrived, as far as there is room. As `UnixConnection.recv`; only after `next` has returned 0. */
  fill(connection: UnixConnection): number {
    const room = MAX_MESSAGE - this.#filled;
    const count = connection.recv(this.bytes, this.#filled, room);
    this.#isDrained = count < room;
    if (count > 0) this.#filled += count;
    return count;
  }

  /** The type of the first message, which `drop` removes; 0 if it is not complete. ExportError `protocol` if there cannot be one. */
  next(): number {
    if (this.#filled < export_header.size) return 0;
    const size = export_header.field.size.get(this.view, 0);
    const type = export_header.field.type.get(this.view, 0);
    const known = this.#sizes.get(type);
    if (type === 0 || size < export_header.size || size > MAX_MESSAGE || (known !== undefined && size !== known))
      throw new ExportError('protocol', `a message of type ${type} has ${size} bytes`);
    this.#size = size;
    return this.#filled < size ? 0 : type;
  }

  drop(): void {
    this.bytes.copyWithin(0, this.#size, this.#filled);
    this.#filled -= this.#size;
  }
}
