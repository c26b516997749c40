import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test, vi } from 'vitest';
import * as wire from '../../../../protocols/vhost-user.ts';
import { VhostUserServer } from '../../../../src/guest/vhost-user/server.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { UnixConnection, connectUnix, listenUnix, socketPair } from '../../../../src/sys/socket.ts';
import {
  connect,
  device,
  directory,
  displaySockets,
  leave,
  log,
  MIB,
  PROTOCOL,
  RecordingDevice,
  region,
  RING_RESET,
  server,
  slot,
  useServer,
  VERSION_1,
  VHOST_USER,
  VHOST_USER_PROTOCOL_F,
  Vmm,
} from './rig.ts';

useServer();

describe('VhostUserServer: negotiation', () => {
  test('offers the features of the device with those of the rings', async () => {
    const vmm = await connect();
    expect(await vmm.get(VHOST_USER.GET_FEATURES)).toBe(
      device.features | VERSION_1 | PROTOCOL | (1n << 28n) | (1n << 29n),
    );
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    expect(await vmm.get(VHOST_USER.GET_MAX_MEM_SLOTS)).toBe(509n);
    await leave(vmm);
  });

  test('offers memory slots only on connections that it accepted itself', async () => {
    const slots = 1n << BigInt(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS);
    const vmm = await connect();
    expect((await vmm.get(VHOST_USER.GET_PROTOCOL_FEATURES)) & slots).toBe(slots);
    await leave(vmm);
    const [ours, theirs] = socketPair();
    using other = VhostUserServer.adopt(ours, new RecordingDevice(), { log: () => undefined });
    using second = new Vmm(theirs);
    expect(other.connected).toBe(true);
    expect((await second.get(VHOST_USER.GET_PROTOCOL_FEATURES)) & slots).toBe(0n);
  });

  test.each<[string, (vmm: Vmm) => Promise<unknown>]>([
    ['ADD_MEM_REG', (vmm) => vmm.try(VHOST_USER.ADD_MEM_REG, slot(0, MIB), [vmm.memfd])],
    ['REM_MEM_REG', (vmm) => vmm.try(VHOST_USER.REM_MEM_REG, slot(0, MIB))],
    ['GET_MAX_MEM_SLOTS', (vmm) => vmm.get(VHOST_USER.GET_MAX_MEM_SLOTS).catch(() => 'closed')],
  ])('without memory slots offered, %s ends the connection', async (_name, request) => {
    const [ours, theirs] = socketPair();
    const seen: string[] = [];
    using other = VhostUserServer.adopt(ours, new RecordingDevice(), { log: (_level, message) => seen.push(message) });
    using vmm = new Vmm(theirs);
    expect(await request(vmm)).toBe('closed');
    expect(other.connected).toBe(false);
    expect(seen.at(-1)).toContain('was not offered');
  });

  test('is not needed for requests of protocol features that were offered', async () => {
    const vmm = await connect();
    expect(await vmm.get(VHOST_USER.GET_MAX_MEM_SLOTS)).toBe(509n);
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(0, MIB), [vmm.memfd])).toBe('done');
    expect(await vmm.try(VHOST_USER.RESET_DEVICE)).toBe('done');
    await leave(vmm);
  });

  test('logs and drops acknowledged bits that were not offered', async () => {
    const vmm = await connect();
    await vmm.number(VHOST_USER.SET_FEATURES, 2n | VERSION_1 | PROTOCOL | RING_RESET);
    expect(device.calls).toContain('negotiated 0x100000002');
    await vmm.number(VHOST_USER.SET_PROTOCOL_FEATURES, 1n << 16n);
    expect(log.filter((line) => line.includes('not offered'))).toEqual([
      expect.stringContaining('0x10000000000'),
      expect.stringContaining('0x10000'),
    ]);
    await leave(vmm);
  });

  test('is not needed by a front end that takes over from another', async () => {
    const vmm = await connect();
    await vmm.start(7);
    expect(device.calls).toContain('kicked 0');
    expect(await vmm.base(0)).toBe(7);
    await leave(vmm);
  });

  test('precedes config reads, which are zero beyond the device’s space and refused beyond the largest one', async () => {
    const vmm = await connect();
    const read = async (offset: number, size: number): Promise<Uint8Array> =>
      vmm.channel.call(
        VHOST_USER.GET_CONFIG,
        Buffer.concat([wire.VhostUserConfig.encode({ offset, size }), new Uint8Array(size)]),
      );
    expect((await read(4, 3)).subarray(12)).toEqual(Uint8Array.of(4, 5, 6));
    expect((await read(14, 4)).subarray(12)).toEqual(Uint8Array.of(14, 15, 0, 0));
    expect(await read(250, 7)).toHaveLength(0);
    expect(
      await vmm.try(
        VHOST_USER.SET_CONFIG,
        Buffer.concat([wire.VhostUserConfig.encode({ offset: 4, size: 2 }), Uint8Array.of(1, 2)]),
      ),
    ).toBe('done');
    expect(device.calls).toContain('config 4 1 2');
    await leave(vmm);
  });
});

describe('VhostUserServer: the back-end channel', () => {
  test('notifies the front end of a changed config space', async () => {
    const vmm = await connect();
    expect(device.transport?.configChanged()).toBe(false);
    const [near, far] = socketPair();
    using channel = UnixConnection.adopt(near);
    expect(await vmm.try(VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far])).toBe('done');
    far[Symbol.dispose]();
    expect(device.transport?.configChanged()).toBe(true);
    const message = new Uint8Array(64);
    expect(channel.recv(message, 0, 64)).toBe(12);
    expect(wire.VhostUserHeader.decode(message)).toEqual({
      request: wire.VHOST_USER_BACKEND.CONFIG_CHANGE_MSG,
      flags: 1,
      size: 0,
    });
    await leave(vmm);
  });

  test('may be closed by the front end without an error', async () => {
    const vmm = await connect();
    const [near, far] = socketPair();
    await vmm.try(VHOST_USER.SET_BACKEND_REQ_FD, undefined, [far]);
    near[Symbol.dispose]();
    far[Symbol.dispose]();
    expect(device.transport?.configChanged()).toBe(false);
    expect(device.transport?.configChanged()).toBe(false);
    await leave(vmm);
  });
});

describe('VhostUserServer: the display socket', () => {
  test('goes to onDisplaySocket each time one comes', async () => {
    const vmm = await connect();
    await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [vmm.kick]);
    await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [vmm.kick]);
    expect(displaySockets).toHaveLength(2);
    await leave(vmm);
  });

  test('stays open without onDisplaySocket, because QEMU spins on a closed one', async () => {
    const [ours, theirs] = socketPair();
    using other = VhostUserServer.adopt(ours, device, { log: () => undefined });
    using vmm = new Vmm(theirs);
    const [near, far] = socketPair();
    using display = UnixConnection.adopt(near);
    expect(await vmm.try(VHOST_USER.GPU_SET_SOCKET, undefined, [far])).toBe('done');
    far[Symbol.dispose]();
    expect(display.recv(new Uint8Array(1), 0, 1)).toBe(-1);
    other[Symbol.dispose]();
    expect(display.recv(new Uint8Array(1), 0, 1)).toBe(0);
  });
});

describe('VhostUserServer: guest memory', () => {
  test('slots are added and removed', async () => {
    const vmm = await connect();
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(0, MIB), [vmm.memfd])).toBe('done');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(2 ** 33, MIB), [vmm.memfd])).toBe('done');
    expect(device.memory?.covers(2 ** 33, MIB)).toBe(true);
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(0, MIB), [vmm.memfd])).toBe('done');
    expect(device.memory?.covers(0, 1)).toBe(false);
    expect(device.calls.filter((call) => call.startsWith('memory'))).toEqual(['memory 1', 'memory 2', 'memory 1']);
    await leave(vmm);
  });

  test('regions that cannot be used are refused, and the table stays', async () => {
    const vmm = await connect();
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(0, MIB))).toBe('refused');
    expect(await vmm.memory()).toBe('done');
    expect(await vmm.memory(0, 2 * MIB)).toBe('refused');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(MIB / 2, MIB), [vmm.memfd])).toBe('refused');
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(2 ** 33, 0), [vmm.memfd])).toBe('refused');
    expect(await vmm.try(VHOST_USER.REM_MEM_REG, slot(MIB, MIB))).toBe('refused');
    expect(device.memory?.covers(0, MIB)).toBe(true);
    expect(device.calls.filter((call) => call.startsWith('memory'))).toEqual(['memory 1']);
    await leave(vmm);
  });

  test('that can be truncated is refused with the option that allows it', async () => {
    const vmm = await connect();
    using unsealed = createMemfd('ram', MIB, 0);
    expect(await vmm.try(VHOST_USER.ADD_MEM_REG, slot(0, MIB), [unsealed])).toBe('refused');
    expect(log.at(-1)).toContain('--allow-unsealed-memory');
    await leave(vmm);
  });

  test('that can be truncated is accepted with that option', async () => {
    const [ours, theirs] = socketPair();
    using tolerant = VhostUserServer.adopt(theirs, new RecordingDevice(), { allowUnsealedMemory: true });
    using vmm = new Vmm(ours);
    using unsealed = createMemfd('ram', MIB, 0);
    const table = Buffer.concat([wire.VhostUserMemory.encode({ nregions: 1 }), region(0, MIB)]);
    expect(await vmm.try(VHOST_USER.SET_MEM_TABLE, table, [unsealed])).toBe('done');
    expect(tolerant.connected).toBe(true);
  });

  test('of a running ring may be sent again, and stops the ring when it is removed', async () => {
    const vmm = await connect();
    await vmm.start();
    expect(await vmm.memory()).toBe('done');
    expect(device.queues[0]).not.toBeNull();
    const kicked = device.next('kicked 0');
    vmm.kick.signal();
    await kicked;
    expect(await vmm.memory(2 * MIB)).toBe('done');
    expect(device.calls.slice(-2)).toEqual(['stopped 0', 'memory 1']);
    expect(log.at(-1)).toContain('ring 0 stops');
    await leave(vmm);
  });
});

describe('VhostUserServer: disconnects a front end, and serves the next, after', () => {
  const header = (request: number, size = 0, flags = 1): Uint8Array =>
    wire.VhostUserHeader.encode({ request, flags, size });

  test.each<[string, (vmm: Vmm) => void]>([
    ['an unknown request', (vmm) => vmm.channel.sendRaw(header(99))],
    ['a request that was not offered', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.SET_LOG_FD))],
    ['another protocol version', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.GET_FEATURES, 0, 2))],
    ['an impossible size', (vmm) => vmm.channel.sendRaw(header(VHOST_USER.SET_FEATURES, 0xffff_ffff))],
    [
      'a ring that does not exist',
      (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_NUM, wire.vhost_vring_state.encode({ index: 2, num: 16 })),
    ],
    [
      'a kick for a ring that does not exist',
      (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_KICK, wire.VhostUserU64.encode({ u64: 255n }), [vmm.kick]),
    ],
    [
      'an enable that is neither 0 nor 1',
      (vmm) => vmm.channel.send(VHOST_USER.SET_VRING_ENABLE, wire.vhost_vring_state.encode({ index: 0, num: 2 })),
    ],
    ['surplus descriptors', (vmm) => vmm.channel.send(VHOST_USER.GET_FEATURES, undefined, [vmm.kick, vmm.memfd])],
    ['missing descriptors', (vmm) => vmm.channel.send(VHOST_USER.ADD_MEM_REG, slot(0, MIB))],
    [
      'a descriptor flood',
      (vmm) =>
        vmm.channel.sendRaw(
          header(VHOST_USER.SET_MEM_TABLE, 264).subarray(0, 5),
          Array.from({ length: 200 }, () => vmm.memfd),
        ),
    ],
    [
      'a refused request without a need for a reply',
      (vmm) => vmm.channel.send(VHOST_USER.ADD_MEM_REG, slot(0, 0), [vmm.memfd]),
    ],
    ['noise', (vmm) => vmm.channel.sendRaw(new Uint8Array(500).fill(0xa5))],
  ])('%s', async (_name, send) => {
    const bad = await connect();
    const detached = device.next('detached');
    send(bad);
    await Promise.all([bad.closed, detached]);
    bad[Symbol.dispose]();
    expect(log.at(-1)).toMatch(/^error: front end disconnected: /);
    const good = await connect();
    await good.start();
    expect(device.calls).toContain('started 0');
    await leave(good);
  });
});

test('VhostUserServer: an unexpected error in a call of the device ends the connection only', async () => {
  const vmm = await connect();
  vi.spyOn(device, 'negotiated').mockImplementationOnce(() => {
    throw new TypeError('thrown on purpose');
  });
  vmm.channel.send(VHOST_USER.SET_FEATURES, wire.VhostUserU64.encode({ u64: VERSION_1 }));
  await vmm.closed;
  vmm[Symbol.dispose]();
  expect(log.at(-1)).toBe('error: front end disconnected: TypeError: thrown on purpose');
  const next = await connect();
  await next.start();
  await leave(next);
});

test('VhostUserServer: an unexpected error of the device when a ring is kicked ends the connection only', async () => {
  const vmm = await connect();
  await vmm.start();
  vi.spyOn(device, 'kicked').mockImplementationOnce(() => {
    throw new TypeError('thrown on purpose');
  });
  vmm.kick.signal();
  await vmm.closed;
  vmm[Symbol.dispose]();
  expect(log.at(-1)).toBe('error: front end disconnected: TypeError: thrown on purpose');
  const next = await connect();
  await next.start();
  await leave(next);
});

test('VhostUserServer: an error that the device reports ends the connection only', async () => {
  const vmm = await connect();
  await vmm.start();
  device.transport!.failed(new TypeError('thrown on purpose'));
  await vmm.closed;
  vmm[Symbol.dispose]();
  expect(log.at(-1)).toBe('error: front end disconnected: TypeError: thrown on purpose');
  const next = await connect();
  await next.start();
  await leave(next);
});

describe('VhostUserServer: a front end', () => {
  const getFeatures = wire.VhostUserHeader.encode({ request: VHOST_USER.GET_FEATURES, flags: 1 });
  const setOwner = wire.VhostUserHeader.encode({ request: VHOST_USER.SET_OWNER, flags: 1 });

  test('that sends messages without end does not keep the event loop from turning', { timeout: 180_000 }, async () => {
    const [ours, theirs] = socketPair();
    using flooded = VhostUserServer.adopt(theirs, new RecordingDevice());
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const flood = new Worker(
      `const { workerData: { fd, stop, message }, parentPort } = require('node:worker_threads');
      const { writeSync } = require('node:fs');
      const many = Buffer.concat(new Array(100).fill(Buffer.from(message)));
      let rounds = 0;
      for (; rounds < 50_000 && Atomics.load(stop, 0) === 0; rounds++)
        for (let at = 0; at < many.length && Atomics.load(stop, 0) === 0; )
          try { at += writeSync(fd, many, at); } catch (error) { if (error.code !== 'EAGAIN') throw error; }
      parentPort.postMessage(rounds);`,
      { eval: true, workerData: { fd: ours.fd, stop, message: setOwner } },
    );
    const rounds = new Promise<number>((resolve) => flood.once('message', resolve));
    await new Promise((resolve) => flood.once('online', resolve));
    for (let turn = 0; turn < 1000; turn++) await new Promise((resolve) => setImmediate(resolve));
    Atomics.store(stop, 0, 1);
    expect(await rounds).toBeLessThan(50_000);
    expect(flooded.connected).toBe(true);
    await flood.terminate();
    ours[Symbol.dispose]();
  });

  test('that does not read its replies is not read until it does, and then gets all of them', async () => {
    const [ours, theirs] = socketPair();
    using asked = VhostUserServer.adopt(theirs, new RecordingDevice());
    using vmm = UnixConnection.adopt(ours);
    const turn = (): Promise<void> =>
      new Promise((resolve) => {
        setImmediate(resolve);
      });
    let sent = 0;
    // The connection queues what the kernel does not take.
    for (let idle = 0; idle < 100 && sent < 100_000; idle++) {
      while (vmm.queuedBytes === 0) {
        vmm.send(getFeatures);
        sent++;
        idle = 0;
      }
      await turn();
    }
    expect(sent).toBeLessThan(100_000);
    const replies = new Uint8Array(sent * 20);
    for (let at = 0; at < replies.length;) {
      at += Math.max(vmm.recv(replies, at, replies.length - at), 0);
      await turn();
    }
    expect(wire.VhostUserHeader.decode(replies.subarray(-20)).request).toBe(VHOST_USER.GET_FEATURES);
    expect(asked.connected).toBe(true);
  });
});

describe('VhostUserServer: connections', () => {
  test('of a second front end are refused, and the first one is undisturbed', async () => {
    const vmm = await connect();
    const second = new Vmm();
    await second.closed;
    second[Symbol.dispose]();
    expect(log.at(-1)).toContain('refused a second front end');
    expect(await vmm.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    await leave(vmm);
  });

  test('can follow one another', async () => {
    for (let round = 0; round < 3; round++) {
      const vmm = await connect();
      await vmm.start();
      await leave(vmm);
    }
    expect(device.calls.filter((call) => call === 'started 0')).toHaveLength(3);
    expect(server.connected).toBe(false);
  });

  test('are closed when the server is disposed', async () => {
    const vmm = await connect();
    await vmm.start();
    server[Symbol.dispose]();
    expect(device.calls.slice(-3)).toEqual(['stopped 0', 'reset', 'detached']);
    await vmm.closed;
    vmm[Symbol.dispose]();
  });

  test('end well if the server is disposed from inside a call of its device', async () => {
    const vmm = await connect();
    vi.spyOn(device, 'queueStarted').mockImplementation(() => server[Symbol.dispose]());
    await vmm.start().catch(() => undefined);
    await vmm.closed;
    expect(device.calls.at(-1)).toBe('detached');
    vmm[Symbol.dispose]();
  });

  test('of an inherited listening socket are served one after the other', async () => {
    const inherited = join(directory, 'inherited');
    const listener = listenUnix(inherited);
    const early = connectUnix(inherited);
    const other = new RecordingDevice();
    using adopted = VhostUserServer.adopt(listener, other, { log: () => undefined });
    expect(adopted.connected).toBe(true);
    const first = new Vmm(early);
    expect(await first.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
    const detached = other.next('detached');
    first[Symbol.dispose]();
    await detached;
    using second = new Vmm(connectUnix(inherited));
    expect(await second.get(VHOST_USER.GET_QUEUE_NUM)).toBe(2n);
  });

  test('of a socket file that another server has replaced go on after dispose', () => {
    const shared = join(directory, 'shared');
    const first = VhostUserServer.listen(shared, new RecordingDevice());
    rmSync(shared);
    using second = VhostUserServer.listen(shared, new RecordingDevice());
    first[Symbol.dispose]();
    using client = connectUnix(shared);
    expect(client.closed || second.connected).toBe(false);
  });

  test('need a socket: other descriptors are refused', () => {
    expect(() =>
      VhostUserServer.adopt(createMemfd('no socket', 1), new RecordingDevice(), { log: () => undefined }),
    ).toThrow('ENOTSOCK');
  });
});
