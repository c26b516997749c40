import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { encodePng } from '../../../display/picture/png.ts';
import type { ScreenFrame, WatchedScreen } from '../../../display/picture/screen-copy.ts';
import { KEY } from '../../../protocols/input-event-codes.ts';
import { ControlClient, requestPng, requestScreenshot, requestStats } from '../../../src/control/client.ts';
import { FrameTrace } from '../../../src/control/frame-trace.ts';
import { FrameWatch } from '../../../src/control/frame-watch.ts';
import { Operator } from '../../../src/control/operator.ts';
import {
  checkDirectory,
  ControlError,
  defaultControlPath,
  MAX_REQUEST,
  parseRequest,
  PROTOCOL,
} from '../../../src/control/protocol.ts';
import { type ControlHandlers, ControlServer } from '../../../src/control/server.ts';
import type { FrameTimes } from '../../../src/bridge/frame-ages.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Rect } from '../../../src/core/geometry.ts';
import type { GuestInput } from '../../../src/core/input.ts';
import { listenUnix } from '../../../src/sys/socket.ts';
import { eventually } from '../../rig/eventually.ts';

const picture = { width: 3, height: 2, data: Uint8Array.from({ length: 24 }, (_, i) => i) };

/** A screen of a test, which says what changes on it. */
class FakeScreen implements WatchedScreen {
  readonly name = 'fake';
  readonly #listeners = new Set<(frame: ScreenFrame) => void>();
  /** How many watches have ended. */
  released = 0;

  capture(): null {
    return null;
  }

  copyChanges(): void {
    // Nothing is shown.
  }

  onFrame(listener: (frame: ScreenFrame) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  settled(): Promise<void> {
    return Promise.resolve();
  }

  frame(timeMs: number, changed: Rect | null, width = 3, height = 2): void {
    const damage = new Damage();
    if (changed) damage.addRect(changed);
    const frame = { timeMs, width, height, isDark: changed === null, damage, cursorDamage: new Damage() };
    for (const listener of this.#listeners) listener(frame);
  }
}

let directory: string;
let path: string;
let handlers: ControlHandlers;
let screen: FakeScreen;
const tracers = new Set<(output: string, times: FrameTimes) => void>();
let server: ControlServer;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-control-'));
  path = join(directory, 'made', 'control.sock');
  screen = new FakeScreen();
  handlers = {
    hello: () => ({ protocol: PROTOCOL, scanouts: 2, keyboard: true, touch: false }),
    stats: () => ({ frames: 7 }),
    screenshot: vi.fn(() => Promise.resolve(picture)),
    screenshotPng: vi.fn(() => Promise.resolve({ width: 3, height: 2, bytes: encodePng(picture) })),
    wait: vi.fn(() => Promise.resolve()),
    watch: () => Promise.resolve(new FrameWatch(screen, { width: 3, height: 2 }, () => screen.released++)),
    trace: () =>
      new FrameTrace((tracer) => {
        tracers.add(tracer);
        return () => void tracers.delete(tracer);
      }),
    operate: vi.fn(() => Promise.resolve()),
  };
  server = ControlServer.open(path, handlers);
});

afterEach(() => {
  server[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

/** Sends bytes, closes the sending side, and returns everything that the server answers. */
async function exchange(bytes: string | Uint8Array): Promise<string> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  socket.end(bytes);
  return text(socket);
}

/** A process that refuses every client as a bridge does that serves enough of them. */
const CROWDED = `
  const server = require('node:net').createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end('{"ok":false,"code":"busy","message":"later"}\\n', () => socket.destroy());
  });
  server.listen(process.argv[1], () => console.log('listening'));`;

describe('ControlServer socket', () => {
  test('and the directory created for it are accessible to their owner only', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'made')).mode & 0o777).toBe(0o700);
  });

  test('is accessible to its owner only even with a umask of 0', () => {
    const umask = process.umask(0);
    try {
      const open = join(directory, 'open.sock');
      using _other = ControlServer.open(open, handlers);
      expect(statSync(open).mode & 0o777).toBe(0o600);
    } finally {
      process.umask(umask);
    }
  });

  test('is removed and its clients are disconnected on dispose', async () => {
    const client = connect(path);
    await once(client, 'connect');
    client.write('{"command":"stats"}\n');
    await once(client, 'data');

    server[Symbol.dispose]();

    await once(client, 'close');
    expect(existsSync(path)).toBe(false);
  });

  test('of another bridge at the same path is left alone on dispose', async () => {
    rmSync(path);
    using _other = ControlServer.open(path, { ...handlers, stats: () => ({ frames: 8 }) });

    server[Symbol.dispose]();

    expect(await requestStats(path)).toEqual({ frames: 8 });
  });

  test('of a running bridge is not taken over', async () => {
    expect(() => ControlServer.open(path, handlers)).toThrow(expect.objectContaining({ code: 'in-use' }));

    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('of a bridge that died is replaced', async () => {
    const stale = join(directory, 'stale.sock');
    listenUnix(stale)[Symbol.dispose]();

    using _second = ControlServer.open(stale, handlers);

    expect(await requestStats(stale)).toEqual({ frames: 7 });
  });

  test('does not replace a file that is not a socket', () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'precious');

    expect(() => ControlServer.open(file, handlers)).toThrow(ControlError);
    expect(statSync(file).size).toBe(8);
  });

  test.each([
    [{ XDG_RUNTIME_DIR: '/run/user/7' }, '/run/user/7/scanout-bridge.sock'],
    [{}, `/tmp/scanout-bridge-${process.getuid!()}/control.sock`],
    [{ XDG_RUNTIME_DIR: '' }, `/tmp/scanout-bridge-${process.getuid!()}/control.sock`],
  ])('with the environment %j is at %s by default', (env, expected) => {
    expect(defaultControlPath(env)).toBe(expected);
  });
});

describe('control client', () => {
  test('requestStats resolves with the stats', async () => {
    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('requestScreenshot passes on the scanout and the cursor, and resolves with the picture', async () => {
    expect(await requestScreenshot(path, { scanout: 2, cursor: false })).toEqual({
      width: 3,
      height: 2,
      data: picture.data,
    });
    expect(handlers.screenshot).toHaveBeenCalledWith(
      { command: 'screenshot', scanout: 2, cursor: false },
      expect.any(AbortSignal),
    );
  });

  test('requestScreenshot resolves with a picture larger than a socket buffer', async () => {
    const large = { width: 2000, height: 1000, data: new Uint8Array(8e6).map((_, i) => i >> 8) };
    vi.mocked(handlers.screenshot).mockResolvedValue(large);

    expect(Buffer.compare((await requestScreenshot(path, { scanout: 0, cursor: true })).data, large.data)).toBe(0);
  });

  test('requestScreenshot passes on a region, and rejects if the bridge sends the whole picture', async () => {
    const region = { x: 1, y: 0, width: 2, height: 2 };
    const asked = requestScreenshot(path, { scanout: 0, cursor: true, region });

    await expect(asked).rejects.toMatchObject({
      code: 'protocol',
      message: expect.stringContaining('older') as string,
    });
    expect(handlers.screenshot).toHaveBeenCalledWith(
      { command: 'screenshot', scanout: 0, cursor: true, region },
      expect.any(AbortSignal),
    );
  });

  test('requestScreenshot passes on that a monitor is asked, and an older bridge does not pass for one', async () => {
    await requestScreenshot(path, { scanout: 0, cursor: true, output: true });
    expect(handlers.screenshot).toHaveBeenCalledWith(
      { command: 'screenshot', scanout: 0, cursor: true, output: true },
      expect.any(AbortSignal),
    );

    const old = join(directory, 'old.sock');
    const bridge: Server = createServer((socket) => {
      socket.end('{"ok":true,"width":1,"height":1,"bytes":4}\nabcd');
    }).listen(old);
    await once(bridge, 'listening');
    await expect(requestScreenshot(old, { scanout: 0, cursor: true, output: true })).rejects.toMatchObject({
      code: 'protocol',
      message: expect.stringContaining('older') as string,
    });
    bridge.close();
  });

  test('requestPng resolves with the file of the picture, and an older bridge does not pass for one', async () => {
    const { width, height, bytes } = await requestPng(path, { scanout: 0, cursor: true });
    expect({ width, height }).toEqual({ width: 3, height: 2 });
    expect(Buffer.compare(bytes, encodePng(picture))).toBe(0);
    expect(handlers.screenshotPng).toHaveBeenCalledWith(
      { command: 'screenshot', scanout: 0, cursor: true, format: 'png' },
      expect.any(AbortSignal),
    );
    expect(await new ControlClient(path).screenshotPng()).toEqual({ width: 3, height: 2, bytes });

    const old = join(directory, 'old.sock');
    const bridge: Server = createServer((socket) => {
      socket.end('{"ok":true,"width":1,"height":1,"bytes":4}\nabcd');
    }).listen(old);
    await once(bridge, 'listening');
    await expect(requestPng(old, { scanout: 0, cursor: true })).rejects.toMatchObject({
      code: 'protocol',
      message: expect.stringContaining('older version, which sends pixels only') as string,
    });
    bridge.close();
  });

  test('an unknown format of a screenshot is malformed', async () => {
    expect(await exchange('{"command":"screenshot","format":"jpeg"}\n')).toContain(
      '"code":"malformed","message":"\\"format\\" must be one of',
    );
  });

  test('requestScreenshot passes on how long to wait for a still picture', async () => {
    await requestScreenshot(path, { scanout: 0, cursor: true, still: { quietMs: 500, timeoutMs: 2000 } });

    expect(handlers.screenshot).toHaveBeenCalledWith(
      { command: 'screenshot', scanout: 0, cursor: true, still: { quietMs: 500, timeoutMs: 2000 } },
      expect.any(AbortSignal),
    );
  });

  test('requestScreenshot rejects and the wait is aborted when the bridge exits', async () => {
    const asked = new Promise<AbortSignal>((resolve) => {
      vi.mocked(handlers.screenshot).mockImplementation((_request, signal) => {
        resolve(signal);
        return new Promise(() => undefined);
      });
    });
    const failed = expect(requestScreenshot(path, { scanout: 0, cursor: true })).rejects.toMatchObject({
      code: 'protocol',
    });
    const signal = await asked;
    const aborted = once(signal, 'abort');
    server[Symbol.dispose]();

    await failed;
    await aborted;
  });

  test('requestScreenshot rejects with the code and message of the bridge', async () => {
    vi.mocked(handlers.screenshot).mockRejectedValue(new ControlError('no-picture', 'scanout 0 is off'));

    await expect(requestScreenshot(path, { scanout: 0, cursor: true })).rejects.toMatchObject({
      code: 'no-picture',
      message: 'scanout 0 is off',
    });
  });

  test('requestStats rejects with advice when no bridge listens', async () => {
    await expect(requestStats(join(directory, 'unused.sock'))).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('scanout run') as string,
    });
  });

  test('can send several requests on one connection, in one piece or byte by byte', async () => {
    const requests = '{"command":"stats"}\n{"command":"screenshot"}\n{"command":"stats"}\n';
    const whole = await exchange(requests);
    const socket = connect(path);
    socket.setNoDelay(true);
    for (const byte of requests) await new Promise((resolve) => socket.write(byte, resolve));
    socket.end();

    expect(await text(socket)).toBe(whole);
    expect(whole.match(/"ok":true/g)).toHaveLength(3);
  });

  test('requestScreenshot rejects when the answer is cut off at any byte', async () => {
    const reply = Buffer.concat([Buffer.from('{"ok":true,"width":3,"height":2,"bytes":24}\n'), picture.data]);
    for (let cut = 0; cut < reply.length; cut++) {
      const fake = join(directory, `cut-${cut}.sock`);
      const impostor: Server = createServer((socket) => socket.end(reply.subarray(0, cut))).listen(fake);
      await once(impostor, 'listening');
      await expect(requestScreenshot(fake, { scanout: 0, cursor: true })).rejects.toBeInstanceOf(ControlError);
      impostor.close();
    }
  });

  test.each([
    'nonsense\n',
    'null\n',
    '{"ok":true,"width":3,"height":2,"bytes":-1}\n',
    '{"ok":true,"width":9,"height":9,"bytes":4}\nabcd',
    '{"ok":true,"bytes":1e12}\n',
    `${' '.repeat(2 ** 20)} `,
    '[]\n',
    '{"ok":true,"width":1000000000,"height":0,"bytes":0}\n',
    '{"ok":true,"width":-1,"height":-1,"bytes":4}\nabcd',
    '{"ok":true,"width":0.5,"height":2,"bytes":4}\nabcd',
    '{"ok":false}\n',
    '{"ok":false,"code":{"a":1},"message":{"toString":1}}\n',
    '{"ok":false,"code":"of another version","message":"no"}\n',
  ])('requestScreenshot rejects when the peer is not a bridge: %j', async (reply) => {
    const fake = join(directory, 'fake.sock');
    const impostor = createServer((socket) => socket.end(reply)).listen(fake);
    await once(impostor, 'listening');

    await expect(requestScreenshot(fake, { scanout: 0, cursor: true })).rejects.toMatchObject({ code: 'protocol' });
    impostor.close();
  });
});

describe('ControlClient', () => {
  const operated = (): unknown[] => vi.mocked(handlers.operate).mock.calls.map(([request]) => request);

  test('hello resolves with what the bridge has', async () => {
    expect(await new ControlClient(path).hello()).toEqual({
      protocol: PROTOCOL,
      scanouts: 2,
      keyboard: true,
      touch: false,
    });
  });

  test('each way to operate the guest arrives as it is documented, with defaults', async () => {
    const client = new ControlClient(path);
    const [from, to] = [
      { x: 1, y: 2 },
      { x: 3.5, y: 4 },
    ];
    await client.type('ls\n');
    await client.press('ctrl+c');
    await client.move(1, 2, { scanout: 1 });
    await client.click(1, 2);
    await client.click(1, 2, { button: 'right', double: true });
    await client.drag(from, to);
    await client.scroll({ down: -3 });
    await client.scroll({ right: 2, at: from });
    await client.touch(from);
    await client.touch(from, { to });

    expect(operated()).toEqual([
      { command: 'type', text: 'ls\n' },
      { command: 'press', keys: 'ctrl+c' },
      { command: 'move', scanout: 1, x: 1, y: 2 },
      { command: 'click', scanout: 0, x: 1, y: 2, button: 'left', double: false },
      { command: 'click', scanout: 0, x: 1, y: 2, button: 'right', double: true },
      { command: 'drag', scanout: 0, from, to, button: 'left' },
      { command: 'scroll', scanout: 0, down: -3, right: 0 },
      { command: 'scroll', scanout: 0, down: 0, right: 2, at: from },
      { command: 'touch', scanout: 0, from, to: from },
      { command: 'touch', scanout: 0, from, to },
    ]);
  });

  test('type refuses a text that is too long for a request before it connects', async () => {
    server[Symbol.dispose]();

    await expect(new ControlClient(path).type('x'.repeat(MAX_REQUEST))).rejects.toMatchObject({ code: 'malformed' });
  });

  test('rejects with the code of the bridge, and with its own reason once it is aborted', async () => {
    vi.mocked(handlers.operate).mockRejectedValueOnce(new ControlError('key', 'no such key'));
    await expect(new ControlClient(path).press('ecs')).rejects.toMatchObject({ code: 'key', message: 'no such key' });

    const stopped = new Promise((resolve) => {
      vi.mocked(handlers.operate).mockImplementation((_request, signal) => {
        end.abort(new Error('enough'));
        return new Promise((_, reject) =>
          signal.addEventListener('abort', () => {
            resolve(signal.reason);
            reject(signal.reason as Error);
          }),
        );
      });
    });
    const end = new AbortController();

    await expect(new ControlClient(path).type('x', { signal: end.signal })).rejects.toThrow('enough');
    expect(await stopped).toMatchObject({ code: 'unreachable' });
  });

  test('waits arrive with their limits', async () => {
    const region = { x: 0, y: 1, width: 2, height: 1 };
    await new ControlClient(path).waitForStable({ quietMs: 9, timeoutMs: 99, region });
    await new ControlClient(path).waitForChange({ scanout: 1, cursor: false });

    expect(vi.mocked(handlers.wait).mock.calls.map(([request]) => request)).toEqual([
      { command: 'wait', for: 'stable', scanout: 0, cursor: true, region, quietMs: 9, timeoutMs: 99 },
      { command: 'wait', for: 'change', scanout: 1, cursor: false, quietMs: 0, timeoutMs: 30_000 },
    ]);
  });

  test('watch begins with what is there, then tells of frames; those that come faster than they are read are combined', async () => {
    const events = new ControlClient(path).watch();
    const first = await events.next();
    screen.frame(5, { x: 0, y: 0, width: 1, height: 1 });
    const second = await events.next();
    // Both before the event loop can send either.
    screen.frame(6, { x: 1, y: 0, width: 9, height: 1 });
    screen.frame(7, { x: 2, y: 1, width: 1, height: 1 });
    const third = await events.next();
    screen.frame(8, { x: 0, y: 0, width: 1, height: 1 }, 1, 1);
    const smaller = await events.next();
    screen.frame(9, null);
    const dark = await events.next();
    await events.return();

    const place = { width: 3, height: 2, cursor: [] };
    expect(first.value).toMatchObject({ ...place, frames: 0, damage: [{ x: 0, y: 0, width: 3, height: 2 }] });
    expect(second.value).toEqual({ ...place, timeMs: 5, frames: 1, damage: [{ x: 0, y: 0, width: 1, height: 1 }] });
    expect(third.value).toEqual({
      ...place,
      timeMs: 7,
      frames: 2,
      damage: [
        { x: 1, y: 0, width: 2, height: 1 },
        { x: 2, y: 1, width: 1, height: 1 },
      ],
    });
    expect(smaller.value).toMatchObject({ width: 1, height: 1, damage: [{ x: 0, y: 0, width: 1, height: 1 }] });
    expect(dark.value).toMatchObject({ width: 0, height: 0, damage: [] });
    await eventually(() => expect(screen.released).toBe(1));
  });

  test('watch: a client that does not read costs one event', async () => {
    const lazy = connect(path);
    lazy.pause();
    const sent = vi.spyOn(FrameWatch.prototype, 'next');
    lazy.write('{"command":"watch"}\n');
    await eventually(() => expect(sent).toHaveBeenCalled());
    // Until the socket's buffer is full.
    for (let i = 0, before = -1; before !== sent.mock.calls.length || i < 5000; i++) {
      before = sent.mock.calls.length;
      screen.frame(i, { x: 0, y: 0, width: 1, height: 1 });
      await new Promise(setImmediate);
    }
    const taken = sent.mock.calls.length;
    for (let i = 0; i < 1000; i++) {
      screen.frame(i, { x: 0, y: 0, width: 1, height: 1 });
      await new Promise(setImmediate);
    }

    expect(sent.mock.calls.length).toBe(taken);
    lazy.destroy();
    await eventually(() => expect(screen.released).toBe(1));
  });

  test('watch ends its watching when the client goes', async () => {
    const client = connect(path);
    client.write('{"command":"watch"}\n');
    await once(client, 'data');
    client.destroy();

    await eventually(() => expect(screen.released).toBe(1));
  });

  const TIMES = { flushed: 1, staged: 2, presented: 3, onScreen: 4, released: null };

  test('trace hands out what came, those of a moment together, and ends its tracing when the client goes', async () => {
    const events = new ControlClient(path).trace();
    const first = events.next();
    await eventually(() => expect(tracers.size).toBe(1));
    const [tracer] = tracers;
    tracer!('one', TIMES);
    tracer!('two', { ...TIMES, released: 5 });
    expect((await first).value).toEqual({
      frames: [
        { output: 'one', ...TIMES },
        { output: 'two', ...TIMES, released: 5 },
      ],
      lost: 0,
    });
    for (let i = 0; i < 1500; i++) tracer!('one', TIMES);
    const { frames, lost } = (await events.next()).value!;
    expect([frames.length, lost]).toEqual([1024, 476]);
    await events.return();
    await eventually(() => expect(tracers.size).toBe(0));
  });

  test.each([
    { frames: [], lost: 'none' },
    { frames: [{ output: 'one', ...TIMES, staged: null }], lost: 0 },
    { frames: [{ ...TIMES }], lost: 0 },
    null,
  ])('trace rejects an event that is none: %j', async (trace) => {
    const fake = join(directory, 'fake.sock');
    const other = createServer((socket) => socket.end(`${JSON.stringify({ ok: true, trace })}\n`)).listen(fake);
    await once(other, 'listening');
    await expect(new ControlClient(fake).trace().next()).rejects.toMatchObject({ code: 'protocol' });
    other.close();
  });

  test.each([
    { timeMs: 1, frames: 1, width: 3, height: 2, damage: [{ x: 0 }], cursor: [] },
    { timeMs: 1, frames: 1, width: -3, height: 2, damage: [], cursor: [] },
    { timeMs: 'now', frames: 1, width: 3, height: 2, damage: [], cursor: [] },
    { timeMs: 1, frames: 1, width: 3, height: 2, damage: null, cursor: [] },
    null,
  ])('watch rejects an event that is none: %j', async (frame) => {
    const fake = join(directory, 'fake.sock');
    const impostor = createServer((socket) => socket.end(`${JSON.stringify({ ok: true, frame })}\n`)).listen(fake);
    await once(impostor, 'listening');

    await expect(new ControlClient(fake).watch().next()).rejects.toMatchObject({ code: 'protocol' });
    impostor.close();
  });

  test('waitForMatch compares when something changes there, and resolves with the picture that matches', async () => {
    const other = { ...picture, data: new Uint8Array(24) };
    const part = { width: 1, height: 1, data: Uint8Array.of(1, 2, 3, 255) };
    vi.mocked(handlers.screenshot).mockResolvedValueOnce(other);
    const matching = new ControlClient(path).waitForMatch(picture);
    await eventually(() => expect(handlers.screenshot).toHaveBeenCalledTimes(1));
    screen.frame(1, { x: 0, y: 0, width: 1, height: 1 });
    expect((await matching).data).toEqual(picture.data);

    vi.mocked(handlers.screenshot).mockClear();
    vi.mocked(handlers.screenshot)
      .mockRejectedValueOnce(new ControlError('no-region', 'it is smaller'))
      .mockResolvedValueOnce(part);
    const at = new ControlClient(path).waitForMatch(part, { at: { x: 2, y: 1 } });
    await eventually(() => expect(handlers.screenshot).toHaveBeenCalledTimes(1));
    screen.frame(2, { x: 0, y: 0, width: 1, height: 1 });
    screen.frame(3, { x: 2, y: 1, width: 1, height: 1 });
    await at;

    expect(handlers.screenshot).toHaveBeenCalledTimes(2);
    expect(vi.mocked(handlers.screenshot).mock.calls[1]![0]).toMatchObject({
      region: { x: 2, y: 1, width: 1, height: 1 },
    });
  });

  test('waitForMatch rejects in time, with how the last picture differed', async () => {
    const other = { ...picture, data: new Uint8Array(24) };

    await expect(new ControlClient(path).waitForMatch(other, { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringMatching(/did not show the expected picture \(last: .+\) within 200 ms/) as string,
    });
    await eventually(() => expect(screen.released).toBe(1));
  });

  test('several clients are served in the order in which they asked, and their texts are not mixed', async () => {
    const keys: number[] = [];
    const untaken: (() => void)[] = [];
    const input = {
      leds: 0,
      key: (code: number, isPressed: boolean) => void (isPressed && keys.push(code)),
      frame: () => undefined,
      taken: () => new Promise<void>((resolve) => untaken.push(resolve)),
    } as Partial<GuestInput> as GuestInput;
    const operator = new Operator(
      input,
      () => null,
      () => keys.length,
    );
    vi.mocked(handlers.operate).mockImplementation((request, signal) =>
      operator.type((request as { text: string }).text, signal),
    );
    const answered: string[] = [];
    const asked: Promise<unknown>[] = [];
    for (const text of ['ab', 'cd', 'ef', 'gh']) {
      asked.push(new ControlClient(path).type(text).then(() => answered.push(text)));
      await eventually(() => expect(handlers.operate).toHaveBeenCalledTimes(asked.length));
    }
    expect(keys).toEqual([KEY.A]);
    // The guest takes a key in each turn of the event loop.
    while (answered.length < asked.length) {
      untaken.shift()?.();
      await new Promise(setImmediate);
    }
    await Promise.all(asked);

    expect(keys).toEqual([KEY.A, KEY.B, KEY.C, KEY.D, KEY.E, KEY.F, KEY.G, KEY.H]);
    expect(answered).toEqual(['ab', 'cd', 'ef', 'gh']);
  });
});

describe('ControlServer with a misbehaving client', () => {
  test.each([
    ['text that is not JSON', 'hello\n'],
    ['an empty line', '\n'],
    ['JSON that is not an object', '7\n'],
    ['an object without a command', '{}\n'],
    ['an unknown command', '{"command":"format"}\n'],
    ['a scanout that is not a number', '{"command":"screenshot","scanout":"0"}\n'],
    ['a negative scanout', '{"command":"screenshot","scanout":-1}\n'],
    ['a cursor that is not a boolean', '{"command":"screenshot","cursor":1}\n'],
    ['a screen without its cursor', '{"command":"screenshot","output":true,"cursor":false}\n'],
    ['an empty region', '{"command":"screenshot","region":{"x":0,"y":0,"width":0,"height":1}}\n'],
    ['a region without a place', '{"command":"screenshot","region":{"width":1,"height":1}}\n'],
    ['a region that is no object', '{"command":"screenshot","region":null}\n'],
    ['a quietMs without a timeoutMs', '{"command":"screenshot","quietMs":1}\n'],
    ['a wait that is too long', '{"command":"screenshot","quietMs":1,"timeoutMs":86400000}\n'],
    ['a wait for nothing known', '{"command":"wait","for":"ever"}\n'],
    ['a text that is not text', '{"command":"type","text":["ls"]}\n'],
    ['keys that are missing', '{"command":"press"}\n'],
    ['a position that is missing', '{"command":"click","x":1}\n'],
    ['a position that is negative', '{"command":"move","x":1,"y":-1}\n'],
    ['a position that is infinite', '{"command":"move","x":1,"y":1e999}\n'],
    ['a button that no mouse has', '{"command":"click","x":1,"y":1,"button":"LEFT"}\n'],
    ['a drag to nowhere', '{"command":"drag","from":{"x":1,"y":1}}\n'],
    ['a wheel that is turned for ever', '{"command":"scroll","down":101}\n'],
    ['a touch of null', '{"command":"touch","from":null}\n'],
    ["a command of JavaScript's", '{"command":"constructor"}\n'],
    ['a line without a newline', 'x'.repeat(MAX_REQUEST + 1)],
    ['a line that is too long', `${'x'.repeat(MAX_REQUEST + 1)}\n`],
    ['bytes that are not UTF-8', Uint8Array.of(0xff, 0xfe, 0, 10)],
  ])('answers %s with an error, disconnects, and serves other clients', async (_what, bytes) => {
    const other = connect(path);
    await once(other, 'connect');

    expect(JSON.parse(await exchange(bytes))).toMatchObject({ ok: false, code: 'malformed' });

    other.end('{"command":"stats"}\n');
    expect(JSON.parse(await text(other))).toMatchObject({ ok: true });
  });

  test('parseRequest throws only ControlError malformed for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
        try {
          parseRequest(line);
        } catch (error) {
          expect(error).toMatchObject({ code: 'malformed' });
        }
      }),
    );
  });

  test('serves others after a client disconnects in the middle of a request', async () => {
    const socket = connect(path);
    await once(socket, 'connect');
    socket.write('{"command":"screen');
    socket.destroy();
    await once(socket, 'close');

    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('takes one picture for a client that sends many requests and reads no answer', async () => {
    vi.mocked(handlers.screenshot).mockResolvedValue({ width: 1000, height: 1000, data: new Uint8Array(4e6) });
    const greedy = connect(path);
    greedy.pause();
    await once(greedy, 'connect');
    await new Promise((resolve) => greedy.write('{"command":"screenshot"}\n'.repeat(150), resolve));

    await requestStats(path);
    await requestStats(path);

    expect(handlers.screenshot).toHaveBeenCalledTimes(1);
    greedy.destroy();
  });

  test('tells more than 8 clients that it is busy, and disconnects them', async () => {
    const crowd: Socket[] = Array.from({ length: 12 }, () => connect(path).on('error', () => undefined));
    await Promise.all(crowd.slice(0, 8).map((socket) => once(socket, 'connect')));
    const answers = await Promise.all(crowd.slice(8).map((socket) => text(socket)));

    expect(answers.map((answer) => (JSON.parse(answer) as { code: string }).code)).toEqual(Array(4).fill('busy'));
    for (const socket of crowd) socket.destroy();
  });

  test('reports that a bridge is busy, whether or not that arrives before the request fails', async () => {
    const socket = join(directory, 'crowded');
    const crowded = spawn(process.execPath, ['-e', CROWDED, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = once(crowded, 'close');
    await once(crowded.stdout, 'data');
    const codes = new Set<unknown>();
    for (let i = 0; i < 300; i++)
      codes.add(await requestStats(socket).catch((error: unknown) => (error as ControlError).code));
    crowded.kill();
    await gone;

    expect([...codes]).toEqual(['busy']);
  });

  test.each([
    ['is killed', (socket: Socket) => socket.destroy()],
    ['closes its sending side', (socket: Socket) => socket.end()],
  ])('ends the wait of a client that %s while it waits for a still picture', async (_what, leave) => {
    const waits: AbortSignal[] = [];
    const allWait = new Promise<void>((resolve) => {
      vi.mocked(handlers.screenshot).mockImplementation((_request, signal) => {
        if (waits.push(signal) === 8) resolve();
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
      });
    });
    const crowd: Socket[] = Array.from({ length: 8 }, () => connect(path));
    for (const socket of crowd) socket.write('{"command":"screenshot","quietMs":3600000,"timeoutMs":3600000}\n');
    await allWait;

    const ended = Promise.all(waits.map((signal) => once(signal, 'abort')));
    for (const socket of crowd) leave(socket.resume());
    await ended;

    expect(await statsOncePlaceIsFree()).toEqual({ frames: 7 });
  });

  /** The server learns of its clients' ends one by one. */
  async function statsOncePlaceIsFree(): Promise<unknown> {
    for (;;) {
      try {
        return await requestStats(path);
      } catch (error) {
        if ((error as ControlError).code !== 'busy') throw error;
      }
    }
  }

  test('disconnects a client that sends 128 KiB of requests while one is answered', async () => {
    const asked = new Promise<AbortSignal>((resolve) => {
      vi.mocked(handlers.screenshot).mockImplementation((_request, signal) => {
        resolve(signal);
        return new Promise(() => undefined);
      });
    });
    const greedy = connect(path).on('error', () => undefined);
    greedy.write('{"command":"screenshot"}\n');
    const gone = once(await asked, 'abort');
    greedy.write('{"command":"stats"}\n'.repeat(8000));

    await gone;
  });
});

describe('the default directory in /tmp', () => {
  const uid = 2 ** 31 - 7 - process.pid;
  const squatted = `/tmp/scanout-bridge-${uid}`;

  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(squatted, { recursive: true });
  });

  test('is refused by server and client if another user made it', async () => {
    vi.spyOn(process, 'getuid').mockReturnValue(uid);
    mkdirSync(squatted, { mode: 0o700 });
    const theirs = createServer((socket) => socket.end('{"ok":true,"stats":"faked"}\n')).listen(defaultControlPath({}));
    await once(theirs, 'listening');

    expect(() => ControlServer.open(defaultControlPath({}), handlers)).toThrow(
      expect.objectContaining({ code: 'unsafe-directory' }),
    );
    await expect(requestStats(defaultControlPath({}))).rejects.toMatchObject({ code: 'unsafe-directory' });
    theirs.close();
  });

  test('is refused if other users may write to it', () => {
    const own = process.getuid!();
    mkdirSync(squatted);
    chmodSync(squatted, 0o777);
    // The directory's name is that of another user, its owner is this one.
    vi.spyOn(process, 'getuid').mockReturnValueOnce(uid).mockReturnValue(own);

    expect(() => checkDirectory(squatted)).toThrow(expect.objectContaining({ code: 'unsafe-directory' }));
  });
});
