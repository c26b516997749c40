/** A second, table-driven implementation of the wire format, to test the client's against: slow and general. */
import * as cursorShape from '../../../../../protocols/wayland/generated/cursor-shape.ts';
import * as fractionalScale from '../../../../../protocols/wayland/generated/fractional-scale.ts';
import * as idleInhibit from '../../../../../protocols/wayland/generated/idle-inhibit.ts';
import * as shortcutsInhibit from '../../../../../protocols/wayland/generated/keyboard-shortcuts-inhibit.ts';
import * as linuxDmabuf from '../../../../../protocols/wayland/generated/linux-dmabuf.ts';
import * as drmSyncobj from '../../../../../protocols/wayland/generated/linux-drm-syncobj.ts';
import * as pointerConstraints from '../../../../../protocols/wayland/generated/pointer-constraints.ts';
import * as presentationTime from '../../../../../protocols/wayland/generated/presentation-time.ts';
import * as relativePointer from '../../../../../protocols/wayland/generated/relative-pointer.ts';
import * as singlePixelBuffer from '../../../../../protocols/wayland/generated/single-pixel-buffer.ts';
import * as tablet from '../../../../../protocols/wayland/generated/tablet.ts';
import * as tearingControl from '../../../../../protocols/wayland/generated/tearing-control.ts';
import * as viewporter from '../../../../../protocols/wayland/generated/viewporter.ts';
import * as wayland from '../../../../../protocols/wayland/generated/wayland.ts';
import * as xdgActivation from '../../../../../protocols/wayland/generated/xdg-activation.ts';
import * as xdgDecoration from '../../../../../protocols/wayland/generated/xdg-decoration.ts';
import * as xdgOutput from '../../../../../protocols/wayland/generated/xdg-output.ts';
import * as xdgShell from '../../../../../protocols/wayland/generated/xdg-shell.ts';
import * as toplevelIcon from '../../../../../protocols/wayland/generated/xdg-toplevel-icon.ts';
import type { ArgumentTable, InterfaceTable, MessageTable } from '../../../../../protocols/wayland/wire.ts';
import type { OwnedFd } from '../../../../../src/sys/fd.ts';

const modules: readonly object[] = [
  ...[
    wayland,
    xdgShell,
    xdgDecoration,
    xdgOutput,
    viewporter,
    fractionalScale,
    linuxDmabuf,
    presentationTime,
    drmSyncobj,
  ],
  ...[tablet, tearingControl, singlePixelBuffer, cursorShape, relativePointer, pointerConstraints, shortcutsInhibit],
  ...[xdgActivation, toplevelIcon, idleInhibit],
];

/** Every interface with a table, by name. */
export const INTERFACES: ReadonlyMap<string, InterfaceTable> = new Map(
  modules
    .flatMap((module) => Object.values(module) as object[])
    .filter((value): value is InterfaceTable => 'requests' in value)
    .map((table) => [table.name, table]),
);

export function interfaceOf(name: string): InterfaceTable {
  const table = INTERFACES.get(name);
  if (!table) throw new Error(`no table for interface ${name}`);
  return table;
}

/** The value of an argument; an object or new_id is its id. */
export type WireValue = number | string | null | Uint8Array | OwnedFd;

/** A new_id argument whose interface is part of the message. */
export interface GenericNewId {
  readonly interface: string;
  readonly version: number;
  readonly id: number;
}

/** Encodes a message. Descriptors are not part of the bytes: send them along. */
export function encodeMessage(
  objectId: number,
  opcode: number,
  args: readonly ArgumentTable[],
  values: readonly WireValue[],
): Buffer {
  if (args.length !== values.length)
    throw new Error(`${values.length} values for ${args.map(({ name }) => name).join(', ')}`);
  const body = Buffer.concat(args.map(({ type }, i) => encodeValue(type, values[i]!)));
  return Buffer.concat([word(objectId), word(((body.length + 8) * 0x10000 + opcode) >>> 0), body]);
}

function encodeValue(type: ArgumentTable['type'], value: WireValue): Buffer {
  switch (type) {
    case 'fd':
      return Buffer.alloc(0);
    case 'string':
      return value === null ? word(0) : counted(Buffer.from(`${value as string}\0`));
    case 'array':
      return counted(Buffer.from(value as Uint8Array));
    case 'fixed':
      return word(Math.round((value as number) * 256) >>> 0);
    default:
      return word(((value ?? 0) as number) >>> 0);
  }
}

function counted(bytes: Buffer): Buffer {
  return Buffer.concat([word(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Decodes the arguments of a complete message; `takeFd` returns the next descriptor. Throws if the length is wrong. */
export function decodeMessage(
  message: Buffer,
  table: MessageTable,
  takeFd: () => OwnedFd,
): (WireValue | GenericNewId)[] {
  let at = 8;
  const uint = (): number => message.readUInt32LE((at += 4) - 4);
  const bytes = (): Buffer => {
    const length = uint();
    const from = at;
    at += (length + 3) & ~3;
    if (at > message.length) throw new Error(`${table.name}: ${length} bytes run past the end of the message`);
    return Buffer.from(message.subarray(from, from + length));
  };
  const string = (): string | null => {
    const raw = bytes();
    if (raw.length === 0) return null;
    if (raw.indexOf(0) !== raw.length - 1)
      throw new Error(`${table.name}: a string does not end with its only zero byte`);
    return raw.toString('utf8', 0, raw.length - 1);
  };
  const decode = ({ type, interface: interfaceName }: ArgumentTable): WireValue | GenericNewId => {
    switch (type) {
      case 'int':
        return uint() | 0;
      case 'fixed':
        return (uint() | 0) / 256;
      case 'string':
        return string();
      case 'array':
        return new Uint8Array(bytes());
      case 'fd':
        return takeFd();
      case 'new_id':
        return interfaceName === undefined ? { interface: string()!, version: uint(), id: uint() } : uint();
      default:
        return uint();
    }
  };
  const values = table.args.map(decode);
  if (at !== message.length) throw new Error(`${table.name}: ${message.length - at} bytes are left over`);
  return values;
}
