import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as wire from '../../../../protocols/vhost-user.ts';
import { VhostUserConnection } from '../../../../src/guest/vhost-user/connection.ts';
import { VhostUserError } from '../../../../src/guest/vhost-user/errors.ts';
import { MAX_FDS, MAX_PAYLOAD, checkHeader, decode } from '../../../../src/guest/vhost-user/messages.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { UnixConnection, socketPair } from '../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

const { VHOST_USER } = wire;

expectNoLeaks();

let peer: UnixConnection;
let connection: VhostUserConnection;

beforeEach(() => {
  const [ours, theirs] = socketPair();
  peer = UnixConnection.adopt(theirs);
  connection = new VhostUserConnection(ours);
});

afterEach(() => {
  peer[Symbol.dispose]();
  connection[Symbol.dispose]();
});

function message(
  request: number,
  payload: Uint8Array = new Uint8Array(0),
  flags = wire.VHOST_USER_VERSION,
): Uint8Array {
  return Buffer.concat([wire.VhostUserHeader.encode({ request, flags, size: payload.length }), payload]);
}

function memoryTable(...regions: { address: number; size: number }[]): Uint8Array {
  const encoded = regions.map(({ address, size }) =>
    wire.VhostUserMemoryRegion.encode({
      guest_phys_addr: address,
      memory_size: size,
      userspace_addr: address + 1,
      mmap_offset: address + 2,
    }),
  );
  return Buffer.concat([wire.VhostUserMemory.encode({ nregions: regions.length }), ...encoded]);
}

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return (error as VhostUserError).code;
  }
}

describe('VhostUserConnection', () => {
  const first = message(
    VHOST_USER.SET_MEM_TABLE,
    memoryTable({ address: 0x1000, size: 1 }, { address: 0x3000, size: 2 }),
    wire.VHOST_USER_VERSION | wire.VHOST_USER_NEED_REPLY_MASK,
  );
  const second = message(VHOST_USER.SET_VRING_KICK, wire.VhostUserU64.encode({ u64: 1n }));
  const bytes = Buffer.concat([first, second]);

  test.each(Array.from({ length: bytes.length - 1 }, (_, i) => i + 1))(
    'receives the same two messages if the stream is cut after byte %i',
    (cut) => {
      using memfd = createMemfd('region', 1);
      const seen: unknown[] = [];
      const drain = (): void => {
        for (let raw = connection.receive(); raw !== null; raw = connection.receive()) {
          seen.push([raw.request, raw.needReply, raw.payload.byteLength, raw.fds.length]);
        }
      };
      // A front end sends the descriptors with the first byte of their message.
      for (const [from, to, fds] of [
        [0, Math.min(cut, first.length), [memfd, memfd]],
        [Math.min(cut, first.length), first.length, []],
        [first.length, Math.max(cut, first.length), [memfd]],
        [Math.max(cut, first.length), bytes.length, cut > first.length ? [] : [memfd]],
      ] as const) {
        if (from === to) continue;
        peer.send(bytes.subarray(from, to), fds);
        drain();
      }
      expect(seen).toEqual([
        [VHOST_USER.SET_MEM_TABLE, true, first.length - 12, 2],
        [VHOST_USER.SET_VRING_KICK, false, 8, 1],
      ]);
    },
  );

  test('gives messages that arrive together their own descriptors', () => {
    using memfd = createMemfd('call', 1);
    peer.send(message(VHOST_USER.GET_FEATURES));
    peer.send(second, [memfd]);
    peer.send(message(VHOST_USER.GET_FEATURES));
    const counts: number[] = [];
    for (let raw = connection.receive(); raw !== null; raw = connection.receive()) counts.push(raw.fds.length);
    expect(counts).toEqual([0, 1, 0]);
  });

  test('closes descriptors that were not taken with the next message', () => {
    using memfd = createMemfd('call', 1);
    peer.send(second, [memfd]);
    expect(connection.receive()?.fds).toHaveLength(1);
    const open = openFds().size;
    expect(connection.receive()).toBeNull();
    expect(openFds().size).toBe(open - 1);
  });

  test('has ended if the stream ends within a message', () => {
    peer.send(first.subarray(0, 20));
    expect(connection.receive()).toBeNull();
    expect(connection.ended).toBe(false);
    peer[Symbol.dispose]();
    expect(connection.receive()).toBeNull();
    expect(connection.ended).toBe(true);
  });

  test('refuses more descriptors than any message has before the message is complete', () => {
    using memfd = createMemfd('flood', 1);
    peer.send(
      first.subarray(0, 4),
      Array.from({ length: MAX_FDS + 1 }, () => memfd),
    );
    expect(codeOf(() => connection.receive())).toBe('fds');
  });

  test('refuses a payload of 4 GiB by its header', () => {
    peer.send(wire.VhostUserHeader.encode({ request: VHOST_USER.SET_CONFIG, flags: 1, size: 0xffff_ffff }));
    expect(codeOf(() => connection.receive())).toBe('message');
  });

  test('sends a reply with the request, the version and the reply flag', () => {
    connection.reply(VHOST_USER.GET_FEATURES, wire.VhostUserU64.encode({ u64: 7n }));
    const reply = new Uint8Array(64);
    expect(peer.recv(reply, 0, 64)).toBe(20);
    expect(wire.VhostUserHeader.decode(reply)).toEqual({ request: 1, flags: 5, size: 8 });
    expect(wire.VhostUserU64.decode(reply.subarray(12)).u64).toBe(7n);
  });

  test('turns random bytes into messages or typed errors', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        fc.integer({ min: 0, max: 44 }),
        (noise, request) => {
          const [ours, theirs] = socketPair();
          using far = UnixConnection.adopt(theirs);
          using near = new VhostUserConnection(ours);
          const head = wire.VhostUserHeader.encode({ request, flags: 1, size: noise.length });
          far.send(Buffer.concat([head, noise]));
          try {
            for (let raw = near.receive(); raw !== null; raw = near.receive())
              decode(raw.request, raw.payload, raw.fds);
          } catch (error) {
            expect(error).toBeInstanceOf(VhostUserError);
          }
        },
      ),
    );
  });
});

describe('checkHeader', () => {
  test.each<[string, number, number, number]>([
    ['version 0', VHOST_USER.GET_FEATURES, 0, 0],
    ['version 2', VHOST_USER.GET_FEATURES, 2, 0],
    ['a reply', VHOST_USER.GET_FEATURES, 1 | wire.VHOST_USER_REPLY_MASK, 0],
    ['a payload where none belongs', VHOST_USER.GET_FEATURES, 1, 8],
    ['a short number', VHOST_USER.SET_FEATURES, 1, 7],
    ['a long number', VHOST_USER.SET_FEATURES, 1, 9],
    ['nine regions', VHOST_USER.SET_MEM_TABLE, 1, 8 + 9 * 32],
    ['a config space above 256 bytes', VHOST_USER.SET_CONFIG, 1, 12 + 257],
  ])('refuses %s', (_name, request, flags, size) => {
    expect(codeOf(() => checkHeader(request, flags, size))).toBe('message');
  });

  test.each([
    0,
    VHOST_USER.SET_LOG_BASE,
    VHOST_USER.POSTCOPY_ADVISE,
    VHOST_USER.GET_INFLIGHT_FD,
    VHOST_USER.SET_STATUS,
    99,
    0xffff_ffff,
  ])('refuses request %i, which is not offered', (request) => {
    expect(codeOf(() => checkHeader(request, 1, 0))).toBe('request');
  });
});

describe('decode', () => {
  function view(bytes: Uint8Array): DataView {
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Real descriptors, closed at the end of the test if nothing took them. */
  function descriptors(count: number): { fds: OwnedFd[]; all: readonly OwnedFd[] } & Disposable {
    const all = Array.from({ length: count }, () => createMemfd('test', 1));
    return { fds: [...all], all, [Symbol.dispose]: () => all.forEach((fd) => fd[Symbol.dispose]()) };
  }

  test('takes one descriptor for each region of a memory table, in order', () => {
    using sent = descriptors(2);
    const table = decode(
      VHOST_USER.SET_MEM_TABLE,
      view(memoryTable({ address: 2 ** 33, size: 2 ** 34 }, { address: 0x1000, size: 5 })),
      sent.fds,
    );
    expect(table).toEqual({
      request: VHOST_USER.SET_MEM_TABLE,
      regions: [
        { guestAddress: 2 ** 33, size: 2 ** 34, userAddress: 2 ** 33 + 1, mmapOffset: 2 ** 33 + 2 },
        { guestAddress: 0x1000, size: 5, userAddress: 0x1001, mmapOffset: 0x1002 },
      ],
      fds: sent.all,
    });
    expect(sent.fds).toEqual([]);
  });

  test.each<[string, number, Uint8Array, number, string]>([
    ['fewer descriptors than regions', VHOST_USER.SET_MEM_TABLE, memoryTable({ address: 0, size: 1 }), 0, 'fds'],
    ['more descriptors than regions', VHOST_USER.SET_MEM_TABLE, memoryTable({ address: 0, size: 1 }), 2, 'fds'],
    ['more regions than bytes', VHOST_USER.SET_MEM_TABLE, wire.VhostUserMemory.encode({ nregions: 1 }), 1, 'message'],
    ['2^32-1 regions', VHOST_USER.SET_MEM_TABLE, wire.VhostUserMemory.encode({ nregions: 0xffff_ffff }), 0, 'message'],
    ['a slot without a descriptor', VHOST_USER.ADD_MEM_REG, wire.VhostUserMemRegMsg.encode({}), 0, 'fds'],
    ['a removed slot with two', VHOST_USER.REM_MEM_REG, wire.VhostUserMemRegMsg.encode({}), 2, 'fds'],
    ['a kick without a descriptor', VHOST_USER.SET_VRING_KICK, wire.VhostUserU64.encode({ u64: 0n }), 0, 'fds'],
    [
      'a kick that says it has none, with one',
      VHOST_USER.SET_VRING_KICK,
      wire.VhostUserU64.encode({ u64: 0x100n }),
      1,
      'fds',
    ],
    ['a call with two', VHOST_USER.SET_VRING_CALL, wire.VhostUserU64.encode({ u64: 0n }), 2, 'fds'],
    ['a display socket without a descriptor', VHOST_USER.GPU_SET_SOCKET, new Uint8Array(0), 0, 'fds'],
    ['a back-end channel without a descriptor', VHOST_USER.SET_BACKEND_REQ_FD, new Uint8Array(0), 0, 'fds'],
    ['a descriptor where none belongs', VHOST_USER.SET_FEATURES, wire.VhostUserU64.encode({ u64: 0n }), 1, 'fds'],
    [
      'a config read longer than its payload',
      VHOST_USER.GET_CONFIG,
      wire.VhostUserConfig.encode({ size: 1 }),
      0,
      'message',
    ],
    [
      'a config write of 4 GiB',
      VHOST_USER.SET_CONFIG,
      wire.VhostUserConfig.encode({ size: 0xffff_ffff }),
      0,
      'message',
    ],
  ])('refuses %s, and leaves the descriptors to the caller', (_name, request, payload, fdCount, code) => {
    using sent = descriptors(fdCount);
    expect(codeOf(() => decode(request, view(payload), sent.fds))).toBe(code);
    expect(sent.fds).toHaveLength(fdCount);
  });

  test.each([
    [0x0n, 1, 0, 1],
    [0x1n, 1, 1, 1],
    [0x101n, 0, 1, 0],
    [0xffff_ffff_0000_0002n, 1, 2, 1],
  ])('reads the ring of SET_VRING_CALL, and whether it has a descriptor, from 0x%x', (u64, fdCount, ring, taken) => {
    using sent = descriptors(fdCount);
    expect(decode(VHOST_USER.SET_VRING_CALL, view(wire.VhostUserU64.encode({ u64 })), sent.fds)).toEqual({
      request: VHOST_USER.SET_VRING_CALL,
      ring,
      fd: taken === 1 ? sent.all[0] : null,
    });
  });

  test('copies the bytes of a config write', () => {
    const payload = Buffer.concat([wire.VhostUserConfig.encode({ offset: 4, size: 2 }), Uint8Array.of(7, 8)]);
    const decoded = decode(VHOST_USER.SET_CONFIG, view(payload), []);
    payload.fill(0);
    expect(decoded).toEqual({ request: VHOST_USER.SET_CONFIG, offset: 4, bytes: Uint8Array.of(7, 8) });
  });

  test('decodes or refuses any request of any size and any bytes', () => {
    const payload = fc.uint8Array({ maxLength: MAX_PAYLOAD });
    let decoded = 0;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 44 }), payload, fc.boolean(), (request, bytes, small) => {
        // Small leading numbers reach further into the decoders.
        if (small) bytes.fill(0, 1, 12);
        try {
          checkHeader(request, 1, bytes.length);
          decode(request, view(bytes), []);
          decoded++;
        } catch (error) {
          expect(error).toBeInstanceOf(VhostUserError);
        }
      }),
      { numRuns: 2000 },
    );
    expect(decoded).toBeGreaterThan(0);
  });
});

test('VhostUserError.closes: tells whether the stream can be trusted', () => {
  expect(new VhostUserError('memory', 'x').closes).toBe(false);
  expect(new VhostUserError('fds', 'x').closes).toBe(true);
  expect(new SysError('read', 'EIO')).not.toBeInstanceOf(VhostUserError);
});
