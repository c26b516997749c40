import type { ArgumentType } from '../wire.ts';

/** What a protocol's XML says, without its prose, up to the chosen version of each interface. */
export interface Protocol {
  /** `xdg-shell`. The generated files are named after it. */
  readonly name: string;
  readonly interfaces: readonly InterfaceModel[];
}

export interface InterfaceModel {
  readonly name: string;
  /** The chosen version. The XML may have a higher one. */
  readonly version: number;
  /** The index is the opcode. */
  readonly requests: readonly MessageModel[];
  readonly events: readonly MessageModel[];
  readonly enums: readonly EnumModel[];
}

export interface MessageModel {
  readonly name: string;
  readonly since: number;
  readonly isDestructor: boolean;
  readonly args: readonly ArgumentModel[];
}

export interface ArgumentModel {
  readonly name: string;
  readonly type: ArgumentType;
  /** Of an object or new_id; null if any interface is allowed. */
  readonly interface: string | null;
  readonly isNullable: boolean;
  /** `wl_output.transform`. */
  readonly enum: string | null;
}

export interface EnumModel {
  /** `wl_output.transform`. */
  readonly name: string;
  readonly isBitfield: boolean;
  /** Values as written in the XML, decimal or hexadecimal. */
  readonly entries: readonly (readonly [name: string, value: string])[];
}
