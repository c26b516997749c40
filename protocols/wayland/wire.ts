/** The Wayland wire format: what is true of every message, and how the generated tables say the rest. */

/** Object id; size of the whole message << 16 | opcode. In the host's byte order, as all that follows. */
export const HEADER_SIZE = 8;

/** A peer on libwayland reads messages up to this size unless told otherwise; what is longer ends the connection. */
export const LIBWAYLAND_MESSAGE_SIZE = 4096;

/** A peer on libwayland takes no more file descriptors than this with one sendmsg; it loses the others. */
export const LIBWAYLAND_MESSAGE_FDS = 28;

/** wl_display, there from the start. */
export const DISPLAY_ID = 1;

/** Ids from here on are given by the server, those below by the client. */
export const SERVER_ID_START = 0xff00_0000;

/** A fixed number counts 1/256. */
export const FIXED_ONE = 256;

export const ARGUMENT_TYPES = ['int', 'uint', 'fixed', 'string', 'object', 'new_id', 'array', 'fd'] as const;
export type ArgumentType = (typeof ARGUMENT_TYPES)[number];

/** Bytes of something with its padding to whole words. */
export const padded = (length: number): number => (length + 3) & ~3;

/** A value of an enum, or one of a later version of the protocol than ours. */
export type OrLater<Enum extends number> = Enum | (number & Record<never, never>);

export interface ArgumentTable {
  readonly name: string;
  readonly type: ArgumentType;
  /** Of an object or new_id; absent where any will do: a new_id is then preceded by name and version. */
  readonly interface?: string;
  readonly nullable?: true;
}

export interface MessageTable {
  readonly name: string;
  readonly since: number;
  /** The object is of no use afterwards. */
  readonly destructor?: true;
  readonly args: readonly ArgumentTable[];
}

/** An interface as the protocol names it. The index of a message is its opcode. */
export interface InterfaceTable<Name extends string = string> {
  readonly name: Name;
  /** The highest we know. */
  readonly version: number;
  readonly requests: readonly MessageTable[];
  readonly events: readonly MessageTable[];
  /** Codes of wl_display.error about such an object. */
  readonly errors: Readonly<Record<string, number>>;
}
