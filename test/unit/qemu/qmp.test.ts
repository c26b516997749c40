/** The QMP client with a scripted QEMU; test/host has real ones. */
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Qmp } from '../../../src/qemu/qmp.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { socketPair, UnixConnection } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

let near: OwnedFd;
let qmp: Qmp | null;
let qemu: Socket;

expectNoLeaks();

beforeEach(() => {
  const [ours, theirs] = socketPair();
  near = ours;
  qmp = null;
  qemu = new Socket({ fd: theirs.take(), readable: true, writable: true });
});

afterEach(async () => {
  qmp?.[Symbol.dispose]();
  near[Symbol.dispose]();
  if (!qemu.closed) await once(qemu.destroy(), 'close');
});

/** A client whose QEMU has greeted it and has accepted its capabilities. */
async function open(): Promise<Qmp> {
  qemu.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
  const opened = Qmp.open(near);
  await once(qemu, 'data');
  qemu.write('{"return": {}, "id": 1}\r\n');
  return (qmp = await opened);
}

test('Qmp: resolves with the result of a command whose reply comes byte by byte, after an event', async () => {
  const qmp = await open();

  const status = qmp.command('query-status');
  for (const byte of '{"event": "RESUME"}\r\n{"return": {"status": "running"}, "id": 2}\r\n')
    await new Promise((resolve) => qemu.write(byte, resolve));

  expect(await status).toEqual({ status: 'running' });
});

test('Qmp: tells when QEMU has stopped the guest for good, not when it only pauses it', async () => {
  const qmp = await open();
  let isStuck = false;

  const failed = qmp.internalError().then(() => (isStuck = true));
  qemu.write('{"return": {"status": "running"}, "id": 2}\r\n{"event": "STOP"}\r\n');
  await once(qemu, 'data');
  await once(qemu, 'data');
  qemu.write('{"return": {"status": "paused"}, "id": 3}\r\n{"event": "STOP"}\r\n');
  await once(qemu, 'data');
  expect(isStuck).toBe(false);
  qemu.write('{"return": {"status": "internal-error"}, "id": 4}\r\n');
  await failed;
});

test('Qmp: rejects with the message of QEMU if it refuses a command', async () => {
  const qmp = await open();

  const command = qmp.command('explode');
  qemu.write('{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": 2}\r\n');

  await expect(command).rejects.toMatchObject({ code: 'refused', message: 'QMP explode: no such command' });
});

test.each([
  ['a line that is not JSON', 'boo\r\n'],
  ['a line that is not an object', 'null\r\n'],
  ['a line without end', ' '.repeat(2 ** 21)],
])('Qmp: closes the connection on %s and rejects what waits, and what comes later', async (_what, line) => {
  const qmp = await open();
  const command = qmp.command('query-status');
  const event = qmp.event('RESET');
  const failed = Promise.all([
    expect(command).rejects.toThrow('QMP query-status: QEMU sent a malformed QMP message'),
    expect(event).rejects.toThrow('QEMU sent a malformed QMP message'),
  ]);

  qemu.write(line);

  await failed;
  await expect(qmp.command('query-status')).rejects.toThrow('QEMU sent a malformed QMP message');
  await expect(qmp.event('RESET')).rejects.toThrow('QEMU sent a malformed QMP message');
});

test('Qmp: rejects what waits when QEMU closes the connection', async () => {
  const qmp = await open();
  const failed = expect(qmp.command('query-status')).rejects.toThrow('QMP query-status: QEMU closed its QMP socket');

  qemu.destroy();

  await failed;
});

test('Qmp: passes descriptors with the command that uses them', async () => {
  const [ours, theirs] = socketPair();
  using peer = UnixConnection.adopt(theirs);
  using memfd = createMemfd('qmp-test', 4096);
  const bytes = Buffer.alloc(4096);
  const opened = Qmp.open(ours);
  peer.recv(bytes, 0, bytes.length);
  peer.send(Buffer.from('{"return": {}, "id": 1}\n'));
  using client = await opened;

  const reply = client.command('getfd', { fdname: 'x' }, [memfd]);

  const length = peer.recv(bytes, 0, bytes.length);
  expect(JSON.parse(bytes.toString('utf8', 0, length))).toMatchObject({
    execute: 'getfd',
    arguments: { fdname: 'x' },
  });
  expect(fstatSync(peer.fds[0]!.fd).ino).toBe(fstatSync(memfd.fd).ino);
  peer.send(Buffer.from('{"return": {}, "id": 2}\n'));
  await reply;
});
