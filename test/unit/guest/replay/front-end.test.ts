import { mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VHOST_USER, VHOST_USER_PROTOCOL_F } from '../../../../protocols/vhost-user.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../../../protocols/virtio-ring.ts';
import { FrontEndError } from '../../../../src/guest/replay/front-end-channel.ts';
import { FrontEnd, type TestFrontEndOptions } from '../../../rig/front-end.ts';
import { VhostUserServer } from '../../../../src/guest/vhost-user/server.ts';
import { mappingCount, openFds } from '../../../rig/process-resources.ts';
import { connectUnix } from '../../../../src/sys/socket.ts';
import { EchoDevice } from './echo-device.ts';

const ALL = ~0n;
const without = (...bits: number[]): bigint => bits.reduce((mask, bit) => mask & ~(1n << BigInt(bit)), ALL);
const MIB = 2 ** 20;

let directory: string;
let before: { fds: number; mappings: number };
let device: EchoDevice;
let server: VhostUserServer;
let frontEnd: FrontEnd;

function open(options: Partial<TestFrontEndOptions> = {}): void {
  const path = join(directory, 'socket');
  device = new EchoDevice();
  // Memory slots are offered to front ends that connect themselves only.
  server = VhostUserServer.listen(path, device, { log: () => undefined });
  frontEnd = FrontEnd.create({ socket: connectUnix(path), memory: [{ guestAddress: 0, size: MIB }], ...options });
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'front-end-'));
  before = { fds: openFds().size, mappings: mappingCount() };
});

afterEach(() => {
  frontEnd[Symbol.dispose]();
  server[Symbol.dispose]();
  expect({ fds: openFds().size, mappings: mappingCount() }).toEqual(before);
  rmSync(directory, { recursive: true });
});

describe.each([
  ['indirect, event index', ALL],
  ['direct, event index', without(VIRTIO_RING_F_INDIRECT_DESC)],
  ['indirect, flags', without(VIRTIO_RING_F_EVENT_IDX)],
  ['direct, flags', without(VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX)],
])('ReplayFrontEnd with rings of %s', (_name, features) => {
  test('gets the response to a request', async () => {
    open({ features });
    await frontEnd.connect();
    expect(await frontEnd.request(0, Uint8Array.of(1, 2, 3), 8)).toEqual(Uint8Array.of(1, 2, 3));
    expect(await frontEnd.request(1, Uint8Array.of(9), 1)).toEqual(Uint8Array.of(9));
  });

  test('reuses the same memory for thousands of requests, in bursts that fill the ring', async () => {
    open({ features, queueSizes: [16, 16], maxSegment: 100 });
    await frontEnd.connect();
    for (let round = 0; round < 500; round++) {
      const answers = [1, 2, 3].map((n) => frontEnd.request(0, new Uint8Array(250).fill(n), 250));
      expect((await Promise.all(answers)).map((bytes) => bytes.at(-1))).toEqual([1, 2, 3]);
    }
    expect(frontEnd.ring(0).freeDescriptors).toBe(16);
  });

  test('reports a full ring, which works again when it is drained', async () => {
    open({ features, queueSizes: [4, 4] });
    await frontEnd.connect();
    const tokens: number[] = [];
    for (
      let token = frontEnd.submit(0, Uint8Array.of(1), 1);
      token >= 0;
      token = frontEnd.submit(0, Uint8Array.of(1), 1)
    )
      tokens.push(token);
    expect(tokens.length).toBeGreaterThanOrEqual(2);
    await new Promise<void>((resolve) => {
      let left = tokens.length;
      frontEnd.whenUsed(0, () => --left === 0 && resolve());
      frontEnd.kick(0);
    });
    expect(await frontEnd.request(0, Uint8Array.of(5), 1)).toEqual(Uint8Array.of(5));
  });
});

describe.each([
  ['one by one', ALL],
  ['as one table', without(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS)],
  ['without acknowledgements', without(VHOST_USER_PROTOCOL_F.REPLY_ACK, VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS)],
])('ReplayFrontEnd with memory regions sent %s', (_name, protocolFeatures) => {
  test('lets the device read what was written, also above 4 GiB', async () => {
    open({
      protocolFeatures,
      memory: [
        { guestAddress: 0, size: MIB },
        { guestAddress: 5 * 2 ** 30, size: MIB },
      ],
    });
    frontEnd.memory.write(5 * 2 ** 30 + 4096, Uint8Array.of(7, 8, 9));
    await frontEnd.connect();
    await frontEnd.request(0, Uint8Array.of(0), 1);
    const seen = new Uint8Array(3);
    expect(device.memory!.copyOut(5 * 2 ** 30 + 4096, 3, seen, 0)).toBe(true);
    expect(seen).toEqual(Uint8Array.of(7, 8, 9));
    const written = new Uint8Array(3);
    readSync(frontEnd.memory.memfd.fd, written, 0, 3, 5 * 2 ** 30 + 4096);
    expect(written).toEqual(seen);
  });

  test('keeps the contents of regions that stay in a new table', async () => {
    open({ protocolFeatures });
    await frontEnd.connect();
    frontEnd.memory.write(4096, Uint8Array.of(1));
    expect((frontEnd.protocolFeatures >> BigInt(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS)) & 1n).toBe(
      protocolFeatures === ALL ? 1n : 0n,
    );
    await frontEnd.setMemory([
      { guestAddress: 4096, size: 4096 },
      { guestAddress: 2 ** 33, size: MIB },
    ]);
    expect(await frontEnd.request(0, Uint8Array.of(3), 1)).toEqual(Uint8Array.of(3));
    const seen = new Uint8Array(1);
    expect(device.memory!.copyOut(4096, 1, seen, 0)).toBe(true);
    expect(seen[0]).toBe(1);
    expect(device.memory!.covers(0, 1)).toBe(false);
  });
});

test('ReplayFrontEnd: a reset drops what was not answered, and the next start works', async () => {
  open();
  await frontEnd.connect();
  const resets = device.resets;
  frontEnd.submit(0, Uint8Array.of(1), 1);
  await frontEnd.stop();
  expect(device.resets).toBeGreaterThan(resets);
  expect(() => frontEnd.ring(0)).toThrow(FrontEndError);
  await frontEnd.start();
  expect(await frontEnd.request(0, Uint8Array.of(4), 1)).toEqual(Uint8Array.of(4));
});

test('FrontEnd of the rig: reads and writes the config space, and is notified of its change', async () => {
  open();
  await frontEnd.connect();
  await frontEnd.writeConfig(2, Uint8Array.of(77));
  expect(await frontEnd.readConfig(0, 4)).toEqual(Uint8Array.of(1, 2, 77, 4));
  const heard = new Promise<void>((resolve) => (frontEnd.onConfigChanged = resolve));
  expect(device.transport!.configChanged()).toBe(true);
  await heard;
});

test('ReplayFrontEnd: a back end that goes away rejects requests with `closed`', async () => {
  open();
  await frontEnd.connect();
  const answer = frontEnd.request(0, Uint8Array.of(1), 1);
  server[Symbol.dispose]();
  await expect(answer).rejects.toMatchObject({ code: 'closed' });
  await expect(frontEnd.channel.get(VHOST_USER.GET_FEATURES)).rejects.toMatchObject({ code: 'closed' });
});

test('ReplayFrontEnd: a request sent before the end of the stream was read rejects with `closed` too', async () => {
  open();
  await frontEnd.connect();
  server[Symbol.dispose]();
  await expect(frontEnd.channel.get(VHOST_USER.GET_FEATURES)).rejects.toMatchObject({
    code: 'closed',
    cause: { code: 'EPIPE' },
  });
});

test('ReplayFrontEnd: a refused message rejects with `refused`', async () => {
  open();
  await frontEnd.connect();
  await expect(frontEnd.channel.set(VHOST_USER.REM_MEM_REG, new Uint8Array(40))).rejects.toMatchObject({
    code: 'refused',
  });
});

test('HostileQueue: raw chains reach the device, and a loop breaks the ring until the reset', async () => {
  open();
  await frontEnd.connect();
  const ring = frontEnd.ring(0);
  ring.setDescriptor(3, frontEnd.driver.address + frontEnd.allocate(16), 16, 1, 3);
  ring.publish(3);
  frontEnd.forceKick(0);
  await frontEnd.stop();
  await frontEnd.start();
  expect(await frontEnd.request(0, Uint8Array.of(6), 1)).toEqual(Uint8Array.of(6));
});
