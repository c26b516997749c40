import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_COMMAND, RecordingError, type RecordingEvent } from '../../../../src/guest/replay/format.ts';
import { PageMirror } from '../../../../src/guest/replay/page-mirror.ts';
import { RecordDecoder, RecordingReader } from '../../../../src/guest/replay/recording-reader.ts';
import { RecordEncoder, RecordingWriter } from '../../../../src/guest/replay/recording-writer.ts';
import { Recorder } from '../../../../src/guest/replay/recorder.ts';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import { virtualMonitor } from '../../../../src/core/monitor.ts';
import type { GpuTap } from '../../../../src/guest/virtio-gpu/tap.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import * as request from '../virtio-gpu/requests.ts';
import { GpuRig, HEAP } from '../virtio-gpu/rig.ts';

expectNoLeaks();

let directory: string;

/** A write that was under way may close its file after the writer. */
const isOpen = (path: string): boolean => [...openFds().values()].some((target) => target.includes(path));

/** Of this process: `bytes` or `unlimited`. */
function limitFileSize(bytes: string): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'recording-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function encodeEvent(encoder: RecordEncoder, event: RecordingEvent): void {
  switch (event.kind) {
    case 'memory': {
      encoder.memory(event.regions);
      return;
    }
    case 'features': {
      encoder.features(event.features);
      return;
    }
    case 'monitor': {
      encoder.monitor(event.timeUs, event.scanout, event.monitor);
      return;
    }
    case 'write': {
      encoder.write(event.guestAddress, event.bytes, 0, event.bytes.length);
      return;
    }
    case 'command': {
      encoder.command(event.timeUs, event.queue, event.responseSpace, event.bytes, event.bytes.length);
      return;
    }
    case 'reset': {
      encoder.reset(event.timeUs);
      return;
    }
    case 'end': {
      encoder.end(event.timeUs);
      return;
    }
  }
}

function decodeAll(block: Uint8Array): RecordingEvent[] {
  const decoder = new RecordDecoder();
  decoder.feed(block);
  const events: RecordingEvent[] = [];
  while (!decoder.empty) events.push(decoder.next());
  return events;
}

function readAll(bytes: Uint8Array): { events: RecordingEvent[]; error: unknown } {
  const events: RecordingEvent[] = [];
  try {
    using reader = RecordingReader.open({ bytes });
    for (let event = reader.next(); event !== null; event = reader.next()) events.push(structuredClone(event));
    return { events, error: null };
  } catch (error) {
    return { events, error };
  }
}

const nat = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });
const event: fc.Arbitrary<RecordingEvent> = fc.oneof(
  fc.record({ kind: fc.constant('features' as const), features: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
  fc.record({
    kind: fc.constant('memory' as const),
    regions: fc
      .nat(3)
      .map((n) => Array.from({ length: n }, (_, i) => ({ guestAddress: i * 2 ** 33, size: 2 ** 33 - i }))),
  }),
  fc.record({
    kind: fc.constant('command' as const),
    timeUs: fc.constant(0),
    queue: nat(1),
    responseSpace: fc.integer({ min: 1, max: 1112 }),
    bytes: fc.uint8Array({ maxLength: 200 }),
  }),
  fc.record({
    kind: fc.constant('monitor' as const),
    timeUs: fc.constant(0),
    scanout: nat(15),
    monitor: fc.option(
      fc.record({
        width: nat(9999),
        height: nat(9999),
        refreshMhz: nat(999999),
        widthMm: nat(999),
        heightMm: nat(999),
        name: fc.string({ maxLength: 13 }),
      }),
    ),
  }),
  fc.record({ kind: fc.constant('reset' as const), timeUs: fc.constant(0) }),
);

/** Times that only grow. */
const session = fc.array(fc.tuple(event, fc.nat(2 ** 40)), { maxLength: 40 }).map((pairs) => {
  let timeUs = 0;
  return pairs.map(([one, delta]) => ('timeUs' in one ? { ...one, timeUs: (timeUs += delta) } : one));
});

/** A small file of several blocks. */
function smallFile(): Uint8Array {
  const path = join(directory, 'small.scanout');
  using writer = RecordingWriter.create(path, 1, (error) => {
    throw error;
  });
  const encoder = new RecordEncoder(4096);
  encoder.features(5n);
  encoder.memory([{ guestAddress: 0, size: 2 ** 20 }]);
  for (let block = 0; block < 4; block++) {
    encoder.write(block * 100, Uint8Array.of(1, 2, 3, block), 0, 4);
    encoder.command(block * 1000, 0, 24, Uint8Array.of(block, 9), 2);
    writer.write(encoder.take());
  }
  encoder.end(9000);
  writer.write(encoder.take());
  writer[Symbol.dispose]();
  return readFileSync(path);
}

describe('RecordEncoder and RecordDecoder', () => {
  test('decode what was encoded', () => {
    fc.assert(
      fc.property(session, (events) => {
        const encoder = new RecordEncoder(2 ** 20);
        for (const one of events) encodeEvent(encoder, one);
        expect(decodeAll(encoder.take())).toEqual(events);
      }),
    );
  });

  test('join writes that are side by side, and no others', () => {
    const encoder = new RecordEncoder(4096);
    encoder.write(2 ** 33, Uint8Array.of(1, 2), 0, 2);
    encoder.write(2 ** 33 + 2, Uint8Array.of(3), 0, 1);
    encoder.write(4096, Uint8Array.of(4), 0, 1);
    expect(decodeAll(encoder.take())).toEqual([
      { kind: 'write', guestAddress: 2 ** 33, bytes: Uint8Array.of(1, 2, 3) },
      { kind: 'write', guestAddress: 4096, bytes: Uint8Array.of(4) },
    ]);
  });

  test('pack pixels of up to sixteen colours, and unpack them', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 18 }),
        fc.integer({ min: 1, max: 1100 }),
        fc.nat(2 ** 32 - 1),
        (colours, count, base) => {
          const pixels = Uint32Array.from({ length: count }, (_, i) => base + (Math.imul(i, 7919) % colours));
          const bytes = new Uint8Array(pixels.buffer);
          const encoder = new RecordEncoder(2 ** 20);
          encoder.write(4096, bytes.subarray(0, Math.min(bytes.length, 4096)), 0, Math.min(bytes.length, 4096));
          if (bytes.length > 4096) encoder.write(8192, bytes, 4096, bytes.length - 4096);
          const block = encoder.take();
          expect(decodeAll(block).map((one) => ({ ...one, bytes: 0 }))).toEqual([
            { kind: 'write', guestAddress: 4096, bytes: 0 },
          ]);
          const decoder = new RecordDecoder();
          decoder.feed(block);
          expect(decoder.next()).toEqual({ kind: 'write', guestAddress: 4096, bytes });
          if (new Set(pixels).size <= 2 && count > 200) expect(block.length).toBeLessThan(bytes.length / 16);
        },
      ),
    );
  });

  test('turn any bytes into events or fail as malformed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expectRecordingErrorOrNothing(() => decodeAll(bytes), 'malformed');
      }),
      { numRuns: 2000 },
    );
  });

  test('turn mutated records into events or fail as malformed', () => {
    fc.assert(
      fc.property(
        session,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (events, mutations) => {
          const encoder = new RecordEncoder(2 ** 20);
          for (const one of events) encodeEvent(encoder, one);
          encoder.end(2 ** 50);
          const bytes = encoder.take();
          for (const [at, value] of mutations) bytes[at % bytes.length] = value;
          expectRecordingErrorOrNothing(() => decodeAll(bytes), 'malformed');
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('refuse an END whose counts are wrong as malformed', () => {
    const encoder = new RecordEncoder(4096);
    encoder.command(0, 0, 24, Uint8Array.of(1), 1);
    encoder.commands = 2;
    encoder.end(0);
    expect(() => decodeAll(encoder.take())).toThrow(expect.objectContaining({ code: 'malformed' }));
  });

  test('cut requests that are longer than the limit', () => {
    const encoder = new RecordEncoder(4096);
    encoder.command(0, 0, 24, new Uint8Array(MAX_COMMAND + 1), MAX_COMMAND + 1);
    expect(decodeAll(encoder.take())).toMatchObject([{ kind: 'command', bytes: { length: MAX_COMMAND } }]);
  });
});

describe('recording files', () => {
  test('RecordingReader: reads a whole file to its end', () => {
    const { events, error } = readAll(smallFile());
    expect(error).toBeNull();
    expect(events.map(({ kind }) => kind)).toEqual([
      'features',
      'memory',
      ...Array<string[]>(4).fill(['write', 'command']).flat(),
      'end',
    ]);
    expect(events.at(-1)).toEqual({ kind: 'end', timeUs: 9000, commands: 4, writes: 4 });
  });

  test('RecordingReader: reads the blocks before a cut anywhere in the file, then fails as `truncated`', () => {
    const whole = smallFile();
    const all = readAll(whole).events;
    for (let length = 0; length < whole.length; length++) {
      const { events, error } = readAll(whole.subarray(0, length));
      expect(error).toBeInstanceOf(RecordingError);
      expect((error as RecordingError).code).toBe('truncated');
      expect(events).toEqual(all.slice(0, events.length));
    }
  });

  test('RecordingReader: finds a changed byte anywhere', () => {
    const whole = smallFile();
    for (let at = 0; at < whole.length; at++) {
      const bytes = whole.slice();
      bytes[at]! ^= 0x10;
      const { error } = readAll(bytes);
      // The last byte of the header is not used.
      if (at !== 11) expect(error, `byte ${at}`).toBeInstanceOf(RecordingError);
    }
  });

  test('RecordingReader: refuses other files and newer versions', () => {
    expect(readAll(Buffer.from('PNG, honestly')).error).toMatchObject({ code: 'magic' });
    const newer = smallFile();
    newer[8] = 2;
    expect(readAll(newer).error).toMatchObject({ code: 'version' });
  });

  test('Recorder: a file that cannot grow ends the recording and is reported once', () => {
    const failures: Error[] = [];
    const ignore = (): void => undefined;
    process.on('SIGXFSZ', ignore);
    limitFileSize('0');
    try {
      const file = join(directory, 'full.scanout');
      const recorder = Recorder.open({ file, scanouts: 1, onFailed: (error) => failures.push(error) });
      recorder.tap.command(0, Uint8Array.of(1), 1, 24);
      recorder[Symbol.dispose]();
    } finally {
      limitFileSize('unlimited');
      process.off('SIGXFSZ', ignore);
    }
    expect(failures).toMatchObject([{ code: 'EFBIG' }]);
  });

  test.each([0, 17, 257, 1.5])('Recorder.open: refuses %d scanouts and creates no file', (scanouts) => {
    const path = join(directory, 'refused.scanout');
    expect(() => Recorder.open({ file: path, scanouts })).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(existsSync(path)).toBe(false);
  });

  test.each([1, 16])('Recorder.open: writes a recording of %d scanouts that opens', (scanouts) => {
    const path = join(directory, 'accepted.scanout');
    Recorder.open({ file: path, scanouts })[Symbol.dispose]();
    using reader = RecordingReader.open({ file: path });
    expect(reader.scanouts).toBe(scanouts);
  });

  test('Recorder: replaces a symbolic link and not its target, and refuses a pipe', () => {
    const path = (name: string): string => join(directory, name);
    writeFileSync(path('target'), 'mine');
    symlinkSync(path('target'), path('link'));
    execFileSync('mkfifo', [path('pipe')]);

    Recorder.open({ file: path('link'), scanouts: 1 })[Symbol.dispose]();
    expect(() => Recorder.open({ file: path('pipe'), scanouts: 1 })).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );

    expect(readFileSync(path('target'), 'utf8')).toBe('mine');
    expect(lstatSync(path('link')).isFile()).toBe(true);
  });

  test('Recorder: makes a file that exists readable by its owner only', () => {
    const path = join(directory, 'open.scanout');
    writeFileSync(path, '', { mode: 0o644 });
    Recorder.open({ file: path, scanouts: 1 })[Symbol.dispose]();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('Recorder: grows by nothing but commands', () => {
    const path = join(directory, 'quiet.scanout');
    const recorder = Recorder.open({ file: path, scanouts: 1 });
    const memory = { regions: Array.from({ length: 512 }, (_, i) => ({ guestAddress: i * 2 ** 32, size: 4096 })) };
    for (let i = 0; i < 10_000; i++) {
      recorder.tap.memoryChanged(memory);
      recorder.tap.negotiated(5n);
      recorder.tap.monitorChanged(0, virtualMonitor('m', 640 + i, 480, 60_000));
      recorder.tap.reset();
    }
    recorder.tap.command(0, Uint8Array.of(1), 1, 24);
    recorder[Symbol.dispose]();
    const { events } = readAll(readFileSync(path));
    expect(events.map(({ kind }) => kind)).toEqual(['reset', 'memory', 'features', 'monitor', 'command', 'end']);
    expect(events[3]).toMatchObject({ monitor: { width: 640 + 9999 } });
  });

  test('Recorder: holds a guest back that draws faster than it can write, and loses nothing', async () => {
    const path = join(directory, 'noise.scanout');
    using recorder = Recorder.open({ file: path, scanouts: 1 });
    let wasBusy = false;
    const tap = Object.create(recorder.tap, {
      isBusy: { get: () => recorder.tap.isBusy && (wasBusy = true) },
    }) as GpuTap;
    // Memory for no copies: all that is drawn is written each time.
    using rig = new GpuRig({ tap, maxGuestMemory: 2 ** 20 });
    const bytes = 2048 * 1024 * 4;
    rig.at(HEAP, bytes).set(randomBytes(bytes));
    rig.type(request.create2d(1, 2048, 1024));
    rig.type(request.attach(1, request.contiguous(bytes)));
    const tokens = Array.from({ length: 3 }, () => rig.send(request.transfer(1, 0, 0, 2048, 1024, 0)));
    for (const token of tokens) await rig.answered(token);
    expect(wasBusy).toBe(true);
    recorder[Symbol.dispose]();
    const { events, error } = readAll(readFileSync(path));
    expect(error).toBeNull();
    expect(events.filter(({ kind }) => kind === 'command')).toHaveLength(2 + tokens.length);
    const written = events.reduce((sum, one) => sum + (one.kind === 'write' ? one.bytes.length : 0), 0);
    expect(written).toBe(tokens.length * bytes);
    while (isOpen(path)) await turn();
  });

  test('RecordingWriter: is busy until what waits is written', async () => {
    const path = join(directory, 'busy.scanout');
    using writer = RecordingWriter.create(path, 1, () => undefined);
    const isReady = new Promise<void>((resolve) => (writer.onReady = resolve));
    while (!writer.isBusy) writer.write(new Uint8Array(2 ** 20));
    const { written } = writer;
    await isReady;
    expect(writer.isBusy).toBe(false);
    expect(writer.written).toBeGreaterThan(written);
    writer[Symbol.dispose]();
    while (isOpen(path)) await turn();
  });

  test('RecordingWriter: writes more blocks than may wait, in order', () => {
    const path = join(directory, 'many.scanout');
    const writer = RecordingWriter.create(path, 1, () => undefined);
    const encoder = new RecordEncoder(4096);
    for (let i = 0; i < 50; i++) {
      encoder.command(i, 0, 24, Uint8Array.of(i), 1);
      writer.write(encoder.take());
    }
    encoder.end(50);
    writer.write(encoder.take());
    writer[Symbol.dispose]();
    const { events, error } = readAll(readFileSync(path));
    expect(error).toBeNull();
    expect(events.flatMap((one) => (one.kind === 'command' ? [one.bytes[0]] : []))).toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    );
  });
});

describe('PageMirror', () => {
  const changes = (mirror: PageMirror, address: number, bytes: Uint8Array): [number, number[]][] => {
    const seen: [number, number[]][] = [];
    mirror.update(address, Buffer.from(bytes), 0, bytes.length, (at, from, start, length) =>
      seen.push([at, [...from.subarray(start, start + length)]]),
    );
    return seen;
  };

  test('reports what changed, and nothing the second time', () => {
    const mirror = new PageMirror(2 ** 20, new MemoryBudget(Infinity));
    const bytes = new Uint8Array(1000);
    bytes[3] = 1;
    bytes[900] = 2;
    const seen = changes(mirror, 4000, bytes);
    // Units of 32 bytes counted from the page's start, and no further than the bytes that were given.
    expect(seen.map(([at, run]) => [at, run.length])).toEqual([
      [4000, 32],
      [4896, 32],
    ]);
    expect(seen.map(([at, run]) => run.findIndex((byte) => byte !== 0) + at)).toEqual([4003, 4900]);
    expect(changes(mirror, 4000, bytes)).toEqual([]);
  });

  test('charges what it keeps until it is disposed, and reports everything once there is no room', () => {
    const budget = new MemoryBudget(2 ** 20);
    const mirror = new PageMirror(2 ** 30, budget);
    expect(changes(mirror, 0, Uint8Array.of(1))).toHaveLength(1);
    expect(budget.used).toBe(2 ** 20);
    for (let page = 1; page < 256; page++) changes(mirror, page * 4096, Uint8Array.of(1));
    for (let time = 0; time < 2; time++) expect(changes(mirror, 2 ** 20, Uint8Array.of(1))).toHaveLength(1);
    expect(changes(mirror, 4096, Uint8Array.of(1))).toEqual([]);
    expect(budget.used).toBe(2 ** 20);
    mirror[Symbol.dispose]();
    expect(budget.used).toBe(0);
  });

  test('reports changes that add up to the same memory', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(nat(20_000), fc.uint8Array({ maxLength: 6000 }))),
        fc.constantFrom(0, 4096, 2 ** 20),
        (updates, limit) => {
          const mirror = new PageMirror(limit, new MemoryBudget(Infinity));
          const real = Buffer.alloc(40_000);
          const replayed = Buffer.alloc(40_000);
          for (const [address, bytes] of updates) {
            real.set(bytes, address);
            for (const [at, run] of changes(mirror, address, bytes)) replayed.set(run, at);
            expect(replayed.equals(real)).toBe(true);
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});

function expectRecordingErrorOrNothing(run: () => void, code: string): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(RecordingError);
    expect((error as RecordingError).code).toBe(code);
  }
}
