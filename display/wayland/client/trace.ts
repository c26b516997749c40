import { FIXED_ONE, type ArgumentTable, type MessageTable, padded } from '../../../protocols/wayland/wire.ts';
import type { BorrowedFd } from '../../../src/sys/fd.ts';
import { escaped } from './errors.ts';
import type { Incoming } from './incoming.ts';
import type { ObjectMap } from './object.ts';
import type { RequestObserver } from './outgoing.ts';

/** Whether WAYLAND_DEBUG has this value for clients: as in libwayland, it contains `1` or `client`. */
export function isTraceWanted(value: string | undefined): boolean {
  return value !== undefined && (value.includes('1') || value.includes('client'));
}

/**
 * Prints every message of a connection to stderr, in the format of libwayland up to 1.22 (1.23 writes `#` for `@` and
 * adds the event queue, which this client does not have):
 *
 *     [1234567.890]  -> wl_compositor@4.create_surface(new id wl_surface@5)
 *     [1234567.901] wl_keyboard@7.keymap(1, fd 12, 4096)
 *
 * The time is CLOCK_REALTIME in ms, modulo 2^32 us, so that lines of the client and the compositor can be merged.
 * `discarded` marks an event to a destroyed object or one without a listener. Control characters in strings are
 * escaped, because the compositor must not control the terminal.
 */
export class Trace {
  readonly #objects: ObjectMap;

  constructor(objects: ObjectMap) {
    this.#objects = objects;
  }

  readonly request: RequestObserver = (objectId, opcode, body, fds) => {
    const object = this.#objects.get(objectId);
    this.#print(' -> ', objectId, object?.interface.requests[opcode], body, fds);
  };

  /** Prints the current message, before its arguments are read. A message that cannot be read is cut short. */
  event({ objectId, opcode, body, fds }: Incoming): void {
    const object = this.#objects.get(objectId);
    const isDiscarded = !object || object.isDestroyed || object.listener === null;
    this.#print(isDiscarded ? 'discarded ' : '', objectId, object?.interface.events[opcode], body, fds);
  }

  #print(
    prefix: string,
    objectId: number,
    message: MessageTable | undefined,
    body: Uint8Array,
    fds: readonly BorrowedFd[],
  ): void {
    if (!message) return;
    const args = new Arguments(body, fds, (id) => this.#nameOf(id)).format(message.args);
    process.stderr.write(`[${timestamp()}] ${prefix}${this.#nameOf(objectId)}.${message.name}(${args})\n`);
  }

  #nameOf(id: number): string {
    return `${this.#objects.get(id)?.interface.name ?? '[unknown]'}@${id}`;
  }
}

/** The arguments of one message, read as its table says. */
class Arguments {
  /** The wire uses host byte order. */
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #fds: readonly BorrowedFd[];
  readonly #nameOf: (id: number) => string;
  #at = 0;
  #fdsRead = 0;

  constructor(body: Uint8Array, fds: readonly BorrowedFd[], nameOf: (id: number) => string) {
    this.#bytes = body;
    this.#words = new Uint32Array(body.buffer, body.byteOffset, body.length >> 2);
    this.#fds = fds;
    this.#nameOf = nameOf;
  }

  format(tables: readonly ArgumentTable[]): string {
    const texts: string[] = [];
    for (const table of tables) {
      const text = this.#next(table);
      texts.push(text ?? '[malformed]');
      if (text === null) break;
    }
    return texts.join(', ');
  }

  /** Null if the message ends early. */
  #next({ type, interface: interfaceName }: ArgumentTable): string | null {
    if (type === 'fd') return `fd ${this.#fds[this.#fdsRead++]?.fd ?? -1}`;
    if (type === 'new_id' && interfaceName === undefined) return this.#genericNewId();
    const word = this.#words[this.#at++];
    if (word === undefined) return null;
    switch (type) {
      case 'int':
        return String(word | 0);
      case 'uint':
        return String(word);
      case 'fixed':
        return formatFixed(word | 0);
      case 'string':
        return word === 0 ? 'nil' : this.#string(word);
      case 'array':
        return this.#skip(word) === null ? null : `array[${word}]`;
      case 'object':
        return word === 0 ? 'nil' : this.#nameOf(word);
      default:
        return `new id ${interfaceName}@${word === 0 ? 'nil' : word}`;
    }
  }

  /** Only in wl_registry.bind: the interface's name, its version, the id. */
  #genericNewId(): string | null {
    const type = this.#next({ name: 'interface', type: 'string' });
    const version = this.#next({ name: 'version', type: 'uint' });
    const id = this.#next({ name: 'id', type: 'uint' });
    return id === null ? null : `${type}, ${version}, new id [unknown]@${id}`;
  }

  #string(length: number): string | null {
    const from = this.#skip(length);
    if (from === null) return null;
    return `"${escaped(Buffer.from(this.#bytes.subarray(from, from + length - 1)).toString())}"`;
  }

  /** Skips `length` bytes and their padding, and returns where they begin; null if they are not there. */
  #skip(length: number): number | null {
    const from = this.#at * 4;
    if (length > this.#bytes.length - from) return null;
    this.#at += padded(length) >> 2;
    return from;
  }
}

function formatFixed(value: number): string {
  const magnitude = Math.abs(value);
  const decimals = (magnitude % FIXED_ONE) * (1e8 / FIXED_ONE);
  return `${value < 0 ? '-' : ''}${Math.floor(magnitude / FIXED_ONE)}.${String(decimals).padStart(8, '0')}`;
}

function timestamp(): string {
  const microseconds = ((performance.timeOrigin + performance.now()) * 1000) >>> 0;
  return `${String(Math.floor(microseconds / 1000)).padStart(7)}.${String(microseconds % 1000).padStart(3, '0')}`;
}
