/** The codec alone, without objects or a connection: argument types that no generated class uses yet. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Incoming } from '../../../../../display/wayland/client/incoming.ts';
import { Outgoing, arraySize } from '../../../../../display/wayland/client/outgoing.ts';
import type { ArgumentTable } from '../../../../../protocols/wayland/wire.ts';
import type { OwnedFd } from '../../../../../src/sys/fd.ts';
import { UnixConnection, socketPair } from '../../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { decodeMessage, encodeMessage } from './codec.ts';

expectNoLeaks();

let near: OwnedFd;
let far: UnixConnection;
beforeEach(() => {
  const [ours, theirs] = socketPair();
  near = ours;
  far = UnixConnection.adopt(theirs);
});
afterEach(() => {
  near[Symbol.dispose]();
  far[Symbol.dispose]();
});

const STRING: ArgumentTable = { name: 'text', type: 'string', nullable: true };
const ARRAY: ArgumentTable = { name: 'bytes', type: 'array' };
const UINT: ArgumentTable = { name: 'number', type: 'uint' };

test('Incoming.nullableString reads null, an empty string and text', () => {
  using incoming = new Incoming();
  far.send(encodeMessage(7, 3, [STRING, STRING, STRING, UINT], [null, '', 'größer', 5]));
  incoming.receive(near);
  expect(incoming.next()).toBe(true);
  expect([incoming.objectId, incoming.opcode]).toEqual([7, 3]);
  expect([incoming.nullableString(), incoming.nullableString(), incoming.nullableString(), incoming.uint()]).toEqual([
    null,
    '',
    'größer',
    5,
  ]);
  incoming.end();
  expect(incoming.next()).toBe(false);
});

test.each([0, 1, 3, 4, 5])('Outgoing.array sends %i bytes with their padding', (length) => {
  using out = new Outgoing(null);
  const bytes = Uint8Array.from({ length }, (_, i) => 255 - i);
  const size = 12 + arraySize(bytes);
  out.begin(9, 2, size);
  out.array(bytes);
  out.uint(5);
  out.end();
  expect(out.send(near)).toBe(true);
  const message = Buffer.alloc(64);
  expect(far.recv(message, 0, message.length)).toBe(size);
  const noFd = (): OwnedFd => {
    throw new Error('no descriptor was sent');
  };
  expect(decodeMessage(message.subarray(0, size), { name: 'request', since: 1, args: [ARRAY, UINT] }, noFd)).toEqual([
    bytes,
    5,
  ]);
});

test('Outgoing overwrites a request that was begun but not ended', () => {
  using out = new Outgoing(null);
  out.begin(1, 1, 16).uint(11);
  out.begin(2, 2, 12).uint(22);
  out.end();
  expect(out.send(near)).toBe(true);
  const message = Buffer.alloc(64);
  expect(far.recv(message, 0, message.length)).toBe(12);
  expect([message.readUInt32LE(0), message.readUInt32LE(8)]).toEqual([2, 22]);
});
