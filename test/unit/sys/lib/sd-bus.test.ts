import { fstatSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { SysError } from '../../../../src/sys/errors.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { type BusListener, BusConnection, type BusMessage, METHOD_ERROR } from '../../../../src/sys/lib/sd-bus.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { viewOf } from '../../../../src/sys/libc.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../no-leaks.ts';

expectNoLeaks();

const open: BusConnection[] = [];
afterEach(() => open.splice(0).forEach((connection) => connection[Symbol.dispose]()));

const quiet: BusListener = { received: () => undefined, closed: () => undefined };
const target = { path: '/a/b', interface: 'org.example.Test' };

/** A client and the server it is connected to, which hands its messages to `received`. */
function pair(received: (message: BusMessage, server: BusConnection) => void, client = quiet) {
  const [one, other] = socketPair();
  const server = BusConnection.peer(
    other,
    { received: (message) => received(message, server), closed: vi.fn() },
    'server',
  );
  const connection = BusConnection.peer(one, client);
  open.push(server, connection);
  return { server, client: connection };
}

test('BusConnection: calls a peer and reads its reply, whatever the types', async () => {
  const seen: unknown[] = [];
  const { client } = pair((call, server) => {
    seen.push(call.path, call.interface, call.member, call.signature);
    seen.push(call.u32(), call.i32(), call.u64(), call.boolean(), call.string(), call.string('o'), call.strings());
    const { address, length } = call.bytes();
    seen.push([...new Uint8Array(viewOf(address, length))]);
    server.reply(call, (reply) =>
      reply.container('a', '{sv}', () => {
        reply.container('e', 'sv', () => {
          reply.append('s', ['Width']);
          reply.container('v', 'u', () => reply.append('u', [1280]));
        });
        reply.container('e', 'sv', () => {
          reply.append('s', ['Interfaces']);
          reply.container('v', 'as', () => reply.append('as', [['org.example.More']]));
        });
      }),
    );
  });
  const properties: Record<string, unknown> = {};
  await new Promise<void>((resolve) =>
    client.call(
      target,
      'Do',
      'uitbsoasay',
      [4_000_000_000, -5, 2n ** 60n, true, 'text', '/x', ['a', 'b'], Uint8Array.of(1, 2, 3)],
      (reply) => {
        reply.dictionary((name, type) => {
          properties[name] = type === 'u' ? reply.u32() : reply.strings();
        });
        resolve();
      },
    ),
  );
  expect(seen).toEqual([
    ...['/a/b', 'org.example.Test', 'Do', 'uitbsoasay'],
    ...[4_000_000_000, -5, 2n ** 60n, true, 'text', '/x', ['a', 'b'], [1, 2, 3]],
  ]);
  expect(properties).toEqual({ Width: 1280, Interfaces: ['org.example.More'] });
});

test('BusConnection: passes descriptors, which the receiver owns', async () => {
  using memfd = createMemfd('sd-bus-test', 4096);
  const taken: OwnedFd[] = [];
  const { client } = pair((call, server) => {
    if (call.member === 'Take') taken.push(call.fd());
    server.reply(call);
  });
  await new Promise((resolve) => client.call(target, 'Hello', '', [], resolve));
  expect(client.isReady).toBe(true);
  await new Promise((resolve) => client.call(target, 'Take', 'h', [memfd], resolve));
  using received = taken[0]!;
  expect(fstatSync(received.fd).ino).toBe(fstatSync(memfd.fd).ino);
});

test('BusConnection: a refused call and an unreadable value are errors with an errno', async () => {
  const failures: unknown[] = [];
  const { client } = pair((call, server) => {
    try {
      call.u32();
    } catch (error) {
      failures.push((error as { code: string }).code);
    }
    server.refuse(call, 22);
  });
  const reply = await new Promise((resolve) =>
    client.call(target, 'Do', 's', ['no number'], (message) => resolve([message.type, message.errno])),
  );
  expect(failures).toEqual(['ENXIO']);
  expect(reply).toEqual([METHOD_ERROR, 'EINVAL']);
});

test('BusConnection: reports a peer that goes away once, after the messages it sent', async () => {
  const log: string[] = [];
  const closed = new Promise<Error>((resolve) => {
    const { server, client } = pair(
      (call) => {
        server.reply(call);
        server.signal('/a', 'org.example.Test', 'Bye', () => undefined);
        queueMicrotask(() => server[Symbol.dispose]());
      },
      { received: (message) => log.push(message.member), closed: resolve },
    );
    client.call(target, 'Do', '', [], () => log.push('reply'));
  });
  expect(await closed).toMatchObject({ code: 'ECONNRESET' });
  expect(log).toEqual(['reply', 'Bye']);
});

test('BusConnection: what a listener throws ends the connection only', async () => {
  const failure = new Error('no use for this');
  const closed = new Promise<Error>((resolve) => {
    const [one, other] = socketPair();
    const throwing: BusListener = {
      received: () => {
        throw failure;
      },
      closed: resolve,
    };
    open.push(BusConnection.peer(other, throwing, 'server'));
    const client = BusConnection.peer(one, quiet);
    open.push(client);
    client.call(target, 'Do');
  });
  expect(await closed).toBe(failure);
});

test('BusConnection: a malformed address and a dead bus are SysErrors, and nothing leaks', () => {
  expect(() => BusConnection.bus('nonsense', quiet)).toThrow(SysError);
  expect(() => BusConnection.bus('unix:path=/nonexistent/bus', quiet)).toThrow(SysError);
});

test('BusConnection: without libsystemd it says which package to install', async () => {
  vi.doMock('koffi', async (original) => {
    const { default: koffi } = await original<{ default: { load(name: string | null): unknown } }>();
    const load = (name: string | null) => {
      if (name === 'libsystemd.so.0') throw new Error('no such file');
      return koffi.load(name);
    };
    return { default: { ...koffi, load } };
  });
  vi.resetModules();
  const { BusConnection: Unlucky } = await import('../../../../src/sys/lib/sd-bus.ts');
  expect(() => Unlucky.bus('unix:path=/x', quiet)).toThrow(/libsystemd0/);
});
