import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ControlError,
  defaultControlPath,
  MAX_REQUEST,
  parseRequest,
  requestScreenshot,
  requestStats,
} from '../../../src/cli/control.ts';
import { type ControlHandlers, ControlServer } from '../../../src/cli/control-server.ts';
import { listenUnix } from '../../../src/sys/socket.ts';

const picture = { width: 3, height: 2, data: Uint8Array.from({ length: 24 }, (_, i) => i) };

let directory: string;
let path: string;
let handlers: ControlHandlers;
let server: ControlServer;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-control-'));
  path = join(directory, 'made', 'control.sock');
  handlers = { stats: () => ({ frames: 7 }), screenshot: vi.fn(() => Promise.resolve(picture)) };
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
      data: Buffer.from(picture.data),
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
  ])('requestScreenshot rejects when the peer is not a bridge', async (reply) => {
    const fake = join(directory, 'fake.sock');
    const impostor = createServer((socket) => socket.end(reply)).listen(fake);
    await once(impostor, 'listening');

    await expect(requestScreenshot(fake, { scanout: 0, cursor: true })).rejects.toMatchObject({ code: 'protocol' });
    impostor.close();
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
    ['a quietMs without a timeoutMs', '{"command":"screenshot","quietMs":1}\n'],
    ['a wait that is too long', '{"command":"screenshot","quietMs":1,"timeoutMs":86400000}\n'],
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

  test('rejects more than 8 clients', async () => {
    const crowd: Socket[] = Array.from({ length: 12 }, () => connect(path).on('error', () => undefined));
    await Promise.all(crowd.slice(0, 8).map((socket) => once(socket, 'connect')));
    const turnedAway = await Promise.all(crowd.slice(8).map((socket) => once(socket, 'close')));

    expect(turnedAway).toHaveLength(4);
    for (const socket of crowd) socket.destroy();
  });
});

test('ControlServer: refuses the default directory in /tmp if others can access it', () => {
  vi.spyOn(process, 'getuid').mockReturnValue(999_999);
  const squatted = '/tmp/scanout-bridge-999999';
  mkdirSync(squatted, { mode: 0o777 });
  try {
    expect(() => ControlServer.open(defaultControlPath({}), handlers)).toThrow(
      expect.objectContaining({ code: 'unsafe-directory' }),
    );
  } finally {
    vi.restoreAllMocks();
    rmSync(squatted, { recursive: true });
  }
});
