import type { ArgumentType } from '../wire.ts';

/** What a protocol's XML says, without its prose. Only what our version of each interface has. */
export interface Protocol {
  /** `xdg-shell`: names the generated files. */
  readonly name: string;
  readonly interfaces: readonly InterfaceModel[];
}

export interface InterfaceModel {
  readonly name: string;
  /** The one we know, which the XML's may exceed. */
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
  /** Of an object or new_id; null where any will do. */
  readonly interface: string | null;
  readonly isNullable: boolean;
  /** `wl_output.transform`. */
  readonly enum: string | null;
}

export interface EnumModel {
  /** `wl_output.transform`. */
  readonly name: string;
  readonly isBitfield: boolean;
  /** Values as the XML writes them, decimal or hexadecimal. */
  readonly entries: readonly (readonly [name: string, value: string])[];
}
