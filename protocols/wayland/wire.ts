/**
 * The Wayland wire format: what is the same for every message, and the types of the generated
 * tables, which have the rest.
 */

/**
 * Bytes of a message's header: the object id, then (size of the whole message) << 16 | opcode. All
 * numbers are in the host's byte order.
 */
export const HEADER_SIZE = 8;

/** Largest message that libwayland reads by default, in bytes. It ends the connection on a longer one. */
export const LIBWAYLAND_MESSAGE_SIZE = 4096;

/** Most file descriptors that libwayland receives with one sendmsg. It loses the rest. */
export const LIBWAYLAND_MESSAGE_FDS = 28;

/** Id of wl_display, which exists from the start. */
export const DISPLAY_ID = 1;

/** The server allocates ids from here on, the client those below. */
export const SERVER_ID_START = 0xff00_0000;

/** 1.0 as a fixed-point number. */
export const FIXED_ONE = 256;

export const ARGUMENT_TYPES = ['int', 'uint', 'fixed', 'string', 'object', 'new_id', 'array', 'fd'] as const;
export type ArgumentType = (typeof ARGUMENT_TYPES)[number];

/** `length` bytes, rounded up to whole words. */
export const padded = (length: number): number => (length + 3) & ~3;

/** A value of an enum, or a value from a later version of the protocol. */
export type OrLater<Enum extends number> = Enum | (number & Record<never, never>);

export interface ArgumentTable {
  readonly name: string;
  readonly type: ArgumentType;
  /**
   * Of an object or new_id; absent if any interface is allowed. Such a new_id is preceded by its
   * interface's name and version.
   */
  readonly interface?: string;
  readonly nullable?: true;
}

export interface MessageTable {
  readonly name: string;
  readonly since: number;
  /** The message destroys the object. */
  readonly destructor?: true;
  readonly args: readonly ArgumentTable[];
}

/** An interface as the protocol names it. The index of a message is its opcode. */
export interface InterfaceTable<Name extends string = string> {
  readonly name: Name;
  /** The highest version that the tables describe. */
  readonly version: number;
  readonly requests: readonly MessageTable[];
  readonly events: readonly MessageTable[];
  /** Error codes of wl_display.error for such an object, by name. */
  readonly errors: Readonly<Record<string, number>>;
}
