/**
 * A hostile compositor: connects a client that holds objects of all interfaces and listens to them, and sends it
 * events that are valid, random, cut or malicious. Everything follows from one seed.
 */
import * as bindings from '../../../../../display/wayland/client/index.ts';
import {
  WaylandDisplay,
  WaylandError,
  WaylandObject,
  WaylandProtocolError,
  type WaylandClass,
} from '../../../../../display/wayland/client/index.ts';
import { memberName } from '../../../../../protocols/wayland/scanner/names.ts';
import type { ArgumentTable } from '../../../../../protocols/wayland/wire.ts';
import { OwnedFd } from '../../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { UnixConnection, socketPair } from '../../../../../src/sys/socket.ts';
import type { Random } from '../../../../rig/random.ts';
import { type WireValue, encodeMessage } from './codec.ts';

const classes = Object.values(bindings).filter(
  (value): value is WaylandClass => typeof value === 'function' && value.prototype instanceof WaylandObject,
);

const NUMBERS = [
  0, 1, 2, 3, 4, 5, 8, 255, 256, 4096, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xfeff_ffff, 0xff00_0000, 0xff00_0001,
  0xffff_ffff,
];
const STRINGS = ['', 'a', 'wl_seat', 'größer', '\ud83d\ude00', 'x'.repeat(5000)];

export interface WireFuzzResult {
  events: number;
  /** Events that reached a listener. */
  heard: number;
  /** Close reason -> number of connections that ended with it. */
  readonly ends: Map<string, number>;
  readonly faults: string[];
}

/** Runs one connection to its end. */
export async function fuzzConnection(random: Random, result: WireFuzzResult): Promise<void> {
  const [near, far] = socketPair();
  using server = UnixConnection.adopt(far);
  using memfd = createMemfd('fuzz', 16);
  const connecting = WaylandDisplay.connect({ socket: near }).catch((error: unknown) => error);
  // Answers get_registry (id 2) and sync (id 3).
  server.send(
    encodeMessage(
      2,
      0,
      [
        { name: '', type: 'uint' },
        { name: '', type: 'string' },
        { name: '', type: 'uint' },
      ],
      [1, 'wl_compositor', 6],
    ),
  );
  server.send(encodeMessage(3, 0, [{ name: '', type: 'uint' }], [0]));
  const display = await connecting;
  if (!(display instanceof WaylandDisplay)) throw new Error('the client did not connect', { cause: display });
  const closed = new Promise<unknown>((resolve) => display.onClosed(resolve));
  const objects = populate(display, random, result);
  const count = 1 + random.below(40);
  const nasty = random.pick([0, 0.02, 0.3]);
  for (let i = 0; i < count && display.closeReason === null; i++) {
    const { bytes, fds } = randomEvent(random, objects, memfd, nasty);
    result.events++;
    try {
      server.send(bytes, fds);
    } catch {
      // The client has hung up.
      break;
    }
    if (random.chance(0.2)) await new Promise((resolve) => setImmediate(resolve));
  }
  server[Symbol.dispose]();
  const reason = await closed;
  if (!(reason instanceof WaylandError || reason instanceof WaylandProtocolError))
    result.faults.push(`closed with ${String(reason)}`);
  const code = reason instanceof WaylandError || reason instanceof WaylandProtocolError ? reason.code : 'none';
  result.ends.set(code, (result.ends.get(code) ?? 0) + 1);
}

/** Creates an object of every class. Listeners close descriptors, and sometimes destroy an object or the display. */
function populate(display: WaylandDisplay, random: Random, result: WireFuzzResult): WaylandObject[] {
  const { connection } = display.bind(bindings.WlCompositor, 6)!;
  const objects = classes
    .filter((type) => type !== bindings.WlDisplay)
    .map((type) => connection.objects.create(type, type.interface.version));
  for (const object of objects) {
    const listen = (...args: unknown[]): void => {
      result.heard++;
      for (const arg of args) if (arg instanceof OwnedFd) arg[Symbol.dispose]();
      if (random.chance(0.1)) random.pick(objects)[Symbol.dispose]();
      if (random.chance(0.002)) display[Symbol.dispose]();
    };
    if (random.chance(0.8))
      object.listener = Object.fromEntries(object.interface.events.map(({ name }) => [memberName(name), listen]));
    if (random.chance(0.1)) object[Symbol.dispose]();
  }
  return [connection.objects.get(1)!, ...objects];
}

function randomEvent(
  random: Random,
  objects: readonly WaylandObject[],
  memfd: OwnedFd,
  nasty: number,
): { bytes: Uint8Array; fds: OwnedFd[] } {
  const object = random.pick(objects.filter(({ interface: { events } }) => events.length > 0));
  const opcode = random.below(object.interface.events.length);
  const { args } = object.interface.events[opcode]!;
  let bytes = encodeMessage(
    object.id,
    opcode,
    args,
    args.map((arg) => randomValue(random, arg, objects, nasty)),
  );
  const fds = args.filter(({ type }) => type === 'fd').map(() => memfd);
  if (!random.chance(nasty)) return { bytes, fds };
  switch (random.below(6)) {
    case 0: // another word
      bytes.writeUInt32LE(random.pick(NUMBERS), random.below(bytes.length >> 2) * 4);
      break;
    case 1: // another byte
      bytes[random.below(bytes.length)] = random.below(256);
      break;
    case 2: // a missing end
      bytes = bytes.subarray(0, 1 + random.below(bytes.length));
      break;
    case 3: // noise
      bytes = Buffer.from(Array.from({ length: 1 + random.below(64) }, () => random.below(256)));
      break;
    case 4: // surplus descriptors
      for (let i = random.below(60); i > 0; i--) fds.push(memfd);
      break;
    default: // missing descriptors
      fds.length = 0;
  }
  return { bytes, fds };
}

function randomValue(
  random: Random,
  { type, interface: interfaceName, nullable }: ArgumentTable,
  objects: readonly WaylandObject[],
  nasty: number,
): WireValue {
  switch (type) {
    case 'string':
      return nullable && random.chance(0.3) ? null : random.pick(STRINGS);
    case 'array':
      return new Uint8Array(random.below(64));
    case 'fd':
      return 0;
    case 'object':
      if (random.chance(nasty)) return random.pick(objects).id;
      return objects.find((object) => object.interface.name === interfaceName)?.id ?? 0;
    case 'new_id':
      return 0xff00_0000 + random.below(3);
    default:
      return random.pick(NUMBERS);
  }
}
