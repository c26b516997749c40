import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../../../protocols/virtio-ring.ts';
import { virtualMonitor } from '../../../../src/core/monitor.ts';
import { FrontEnd } from '../../../rig/front-end.ts';
import { Recorder } from '../../../../src/guest/replay/recorder.ts';
import { RecordingReader } from '../../../../src/guest/replay/recording-reader.ts';
import { RecordEncoder, RecordingWriter } from '../../../../src/guest/replay/recording-writer.ts';
import { Replay, type ReplayProgress } from '../../../../src/guest/replay/replay.ts';
import { VhostUserServer } from '../../../../src/guest/vhost-user/server.ts';
import { VirtioGpu } from '../../../../src/guest/virtio-gpu/device.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { withFreeFds } from '../../sys/few-fds.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { PictureSink } from './picture-sink.ts';
import { play } from './play.ts';
import { type Step, blobSession, syntheticSession } from './synthetic-guest.ts';

const GIB = 2 ** 30;
const LOW = { guestAddress: 0x10_0000, size: 64 * 2 ** 20 };
const HIGH = { guestAddress: 5 * GIB, size: 64 * 2 ** 20 };

expectNoLeaks();

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'replay-'));
  file = join(directory, 'session.scanout');
});

afterEach(() => rmSync(directory, { recursive: true }));

/** Records a session; what the sink saw of it. */
async function record(
  steps: readonly Step[],
  options: { features?: bigint; resets?: number; clock?: () => number } = {},
): Promise<string[]> {
  using recorder = Recorder.open({ file, scanouts: 1, ...(options.clock ? { now: options.clock } : {}) });
  const monitor = virtualMonitor('test', 64, 48, 60_000);
  using device = new VirtioGpu({ tap: recorder.tap });
  const sink = new PictureSink();
  device.connect(sink);
  device.setMonitor(0, monitor);
  const [ours, theirs] = socketPair();
  using server = VhostUserServer.adopt(theirs, device, { log: () => undefined });
  using frontEnd = FrontEnd.create({ socket: ours, memory: [LOW, HIGH], features: options.features ?? ~0n });
  await frontEnd.connect();
  for (let i = 0; i < (options.resets ?? 0); i++) {
    await play(frontEnd, steps.slice(0, 20));
    await frontEnd.stop();
    await frontEnd.start();
  }
  await play(frontEnd, steps);
  expect(server.connected).toBe(true);
  return [...sink.seen];
}

async function replay(
  speed: 'fast' | 'recorded' = 'fast',
): Promise<{ seen: string[]; commands: number; errors: number }> {
  using source = Replay.open({ file, speed });
  const sink = new PictureSink();
  source.connect(sink);
  const { commands, errors } = await source.finished;
  return { seen: [...sink.seen], commands, errors };
}

describe.each([
  ['indirect, event index', ~0n],
  ['direct, event index', ~(1n << BigInt(VIRTIO_RING_F_INDIRECT_DESC))],
  ['indirect, flags', ~(1n << BigInt(VIRTIO_RING_F_EVENT_IDX))],
  ['direct, flags', ~((1n << BigInt(VIRTIO_RING_F_INDIRECT_DESC)) | (1n << BigInt(VIRTIO_RING_F_EVENT_IDX)))],
])('Replay with rings of %s', (_name, features) => {
  test('shows what the recorded session showed, with memory above 4 GiB', async () => {
    const steps = syntheticSession(LOW.guestAddress, HIGH.guestAddress, 60);
    const recorded = await record(steps, { features });
    const replayed = await replay();
    const flushes = recorded.filter((line) => line.startsWith('flush'));
    expect(new Set(flushes).size).toBe(flushes.length);
    expect(flushes.length).toBeGreaterThanOrEqual(30);
    expect(replayed).toEqual({
      seen: recorded,
      commands: steps.filter(({ kind }) => kind === 'command').length,
      errors: 1,
    });
  });
});

test('Replay: shows blobs as they were recorded', async () => {
  const recorded = await record(blobSession(LOW.guestAddress, HIGH.guestAddress));
  expect(recorded.some((line) => line.startsWith('flush'))).toBe(true);
  expect((await replay()).seen).toEqual(recorded);
});

test('Replay: repeats resets', async () => {
  const recorded = await record(syntheticSession(LOW.guestAddress, HIGH.guestAddress, 5), { resets: 3 });
  expect((await replay()).seen).toEqual(recorded);
});

test('Replay: keeps the recorded speed', async () => {
  let ms = 0;
  await record(blobSession(LOW.guestAddress, HIGH.guestAddress), { clock: () => (ms += 2) });
  const started = performance.now();
  using source = Replay.open({ file, speed: 'recorded' });
  source.connect(new PictureSink());
  const { durationMs } = await source.finished;
  expect(durationMs).toBeGreaterThanOrEqual(ms - 5);
  expect(performance.now() - started).toBeGreaterThanOrEqual(durationMs);
});

test('Recorder: writes only the pixels that changed', async () => {
  const steps = syntheticSession(LOW.guestAddress, HIGH.guestAddress, 2);
  await record(steps);
  const once = statSync(file).size;
  const draw = steps.slice(8, -1);
  await record([...steps.slice(0, -1), ...Array.from({ length: 20 }, () => draw).flat()]);
  // Two pictures of noise, drawn twenty times over: commands and nothing else are added.
  expect(statSync(file).size).toBeLessThan(once + 6000);
});

test('Recorder: has lost no more than the last seconds when it is killed', async () => {
  let ms = 0;
  const recorder = Recorder.open({ file, scanouts: 1, now: () => ms });
  for (const second of [0, 4, 8, 12, 16]) {
    ms = second * 1000;
    recorder.tap.command(0, Uint8Array.of(second), 1, 24);
  }
  while (recorder.fileBytes === 12) await setImmediate();
  const bytes = readFileSync(file);
  recorder[Symbol.dispose]();
  using reader = RecordingReader.open({ bytes });
  expect([reader.next(), reader.next(), reader.next()]).toMatchObject([
    { timeUs: 0 },
    { timeUs: 4e6 },
    { timeUs: 8e6 },
  ]);
});

test('Replay: reports progress up to the end', async () => {
  await record(syntheticSession(LOW.guestAddress, HIGH.guestAddress, 10));
  const progress: ReplayProgress[] = [];
  using source = Replay.open({ file, speed: 'fast', onProgress: (at) => progress.push(at) });
  source.connect(new PictureSink());
  const { commands } = await source.finished;
  expect(progress.at(-1)).toMatchObject({ fraction: 1, commands });
});

test('Replay: knows the first monitors before it plays', async () => {
  await record(blobSession(LOW.guestAddress, HIGH.guestAddress));
  using source = Replay.open({ file });
  expect([...source.monitors]).toEqual([[0, virtualMonitor('test', 64, 48, 60_000)]]);
});

test('Replay: plays a cut recording up to the cut and then rejects', async () => {
  const recorded = await record(syntheticSession(LOW.guestAddress, HIGH.guestAddress, 30));
  const bytes = readFileSync(file);
  // All is one block here, so append a torn block instead of cutting the only one.
  writeFileSync(file, Buffer.concat([bytes, bytes.subarray(12, 60)]));
  using source = Replay.open({ file, speed: 'fast' });
  const sink = new PictureSink();
  source.connect(sink);
  await expect(source.finished).rejects.toMatchObject({ code: 'truncated' });
  expect(sink.seen).toEqual(recorded);
});

test('Replay: rejects with `closed` when disposed half-way, and leaks nothing', async () => {
  await record(syntheticSession(LOW.guestAddress, HIGH.guestAddress, 200));
  const source = Replay.open({ file, speed: 'fast' });
  const half = new Promise<void>((resolve) => {
    const sink = new PictureSink();
    const flush = sink.flush.bind(sink);
    let flushes = 0;
    sink.flush = (...args) => {
      flush(...args);
      if (++flushes === 100) resolve();
    };
    source.connect(sink);
  });
  await half;
  source[Symbol.dispose]();
  await expect(source.finished).rejects.toMatchObject({ code: 'closed' });
});

test.each([0, 1, 2, 3, 4, 5])('Replay.open: throws EMFILE and leaks nothing with %i free descriptors', async (free) => {
  await record(blobSession(LOW.guestAddress, HIGH.guestAddress));
  using any = EventFd.create();
  withFreeFds(any, free, () => {
    expect(() => Replay.open({ file })).toThrow('EMFILE');
  });
});

test('Replay.open: needs six free descriptors', async () => {
  await record(blobSession(LOW.guestAddress, HIGH.guestAddress));
  using any = EventFd.create();
  withFreeFds(any, 6, () => Replay.open({ file })[Symbol.dispose]());
});

test('Replay: can be disposed before it played', async () => {
  await record(blobSession(LOW.guestAddress, HIGH.guestAddress));
  const source = Replay.open({ file });
  source[Symbol.dispose]();
  await expect(source.finished).rejects.toMatchObject({ code: 'closed' });
});

/** A recording of `writes` writes of 64 KiB, `stride` bytes apart, and a command. */
function writeFile(writes: number, stride: number): void {
  const writer = RecordingWriter.create(file, 1, (error) => {
    throw error;
  });
  const encoder = new RecordEncoder(4 * 2 ** 20);
  const one = new Uint8Array(4096).fill(1);
  encoder.memory([{ guestAddress: 0, size: 2 * GIB }]);
  for (let i = 0; i < writes; i++)
    for (let page = 0; page < 16; page++) encoder.write(i * stride + page * 4096, one, 0, 4096);
  encoder.command(1, 0, 24, Uint8Array.of(1), 1);
  encoder.end(1);
  writer.write(encoder.take());
  writer[Symbol.dispose]();
}

test('Replay: refuses a recording whose guest writes more memory than it may, and gives it back', async () => {
  writeFile(2000, 65536);
  using source = Replay.open({ file, speed: 'fast', maxGuestMemory: 100 * 2 ** 20 });
  source.connect(new PictureSink());
  await expect(source.finished).rejects.toMatchObject({ code: 'too-large' });
  await expect(source.finished).rejects.toThrow('--max-memory');
  expect(source.budget.used).toBeLessThanOrEqual(source.budget.limit);
  source[Symbol.dispose]();
  expect(source.budget.used).toBe(0);
});

test('Replay: may write the same memory again and again', async () => {
  writeFile(2000, 0);
  using source = Replay.open({ file, speed: 'fast', maxGuestMemory: 2 ** 21 });
  source.connect(new PictureSink());
  await expect(source.finished).resolves.toMatchObject({ commands: 1 });
});

test('Replay: lets the event loop turn while it writes memory', async () => {
  writeFile(4000, 65536);
  using source = Replay.open({ file, speed: 'fast' });
  source.connect(new PictureSink());
  let isFinished = false;
  void source.finished.then(() => (isFinished = true));
  // Whatever runs in one turn runs before this.
  for (let turns = 0; turns < 10; turns++) await setImmediate();
  expect(isFinished).toBe(false);
  await source.finished;
});
