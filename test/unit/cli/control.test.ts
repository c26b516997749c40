import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ControlError, defaultControlPath, MAX_REQUEST, parseRequest, requestScreenshot, requestStats } from '../../../src/cli/control.ts';
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

/** Sends bytes and hangs up; what came back until the server hung up. */
async function exchange(bytes: string | Uint8Array): Promise<string> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  socket.end(bytes);
  return text(socket);
}

describe('the socket', () => {
  test('belongs to its owner alone, and so does the directory that was made for it', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'made')).mode & 0o777).toBe(0o700);
  });

  test('is closed to others even where the process makes files open to all', () => {
    const umask = process.umask(0);
    try {
      const open = join(directory, 'open.sock');
      using _other = ControlServer.open(open, handlers);  
      expect(statSync(open).mode & 0o777).toBe(0o600);
    } finally {
      process.umask(umask);
    }
  });

  test('is gone after dispose, with its clients', async () => {
    const client = connect(path);
    await once(client, 'connect');
    client.write('{"command":"stats"}\n');
    await once(client, 'data');

    server[Symbol.dispose]();

    await once(client, 'close');
    expect(existsSync(path)).toBe(false);
  });

  test('of a bridge that runs is not taken over', async () => {
    expect(() => ControlServer.open(path, handlers)).toThrow(expect.objectContaining({ code: 'in-use' }));

    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('left behind by a bridge that died is replaced', async () => {
    const stale = join(directory, 'stale.sock');
    listenUnix(stale)[Symbol.dispose]();

    using _second = ControlServer.open(stale, handlers);  

    expect(await requestStats(stale)).toEqual({ frames: 7 });
  });

  test('never replaces a file that is no socket', () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'precious');

    expect(() => ControlServer.open(file, handlers)).toThrow(ControlError);
    expect(statSync(file).size).toBe(8);
  });

  test.each([
    [{ XDG_RUNTIME_DIR: '/run/user/7' }, '/run/user/7/scanout-bridge.sock'],
    [{}, `/tmp/scanout-bridge-${process.getuid!()}/control.sock`],
    [{ XDG_RUNTIME_DIR: '' }, `/tmp/scanout-bridge-${process.getuid!()}/control.sock`],
  ])('is looked for by default, with %j, at %s', (env, expected) => {
    expect(defaultControlPath(env)).toBe(expected);
  });
});

describe('a client', () => {
  test('gets the stats', async () => {
    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('gets a picture, of the scanout and with the cursor it asked for', async () => {
    expect(await requestScreenshot(path, { scanout: 2, cursor: false })).toEqual({ width: 3, height: 2, data: Buffer.from(picture.data) });
    expect(handlers.screenshot).toHaveBeenCalledWith({ command: 'screenshot', scanout: 2, cursor: false }, expect.any(AbortSignal));
  });

  test('gets a picture larger than any socket buffer whole', async () => {
    const large = { width: 2000, height: 1000, data: new Uint8Array(8e6).map((_, i) => i >> 8) };
    vi.mocked(handlers.screenshot).mockResolvedValue(large);

    expect(Buffer.compare((await requestScreenshot(path, { scanout: 0, cursor: true })).data, large.data)).toBe(0);
  });

  test('gets the picture of a screen that stands still', async () => {
    await requestScreenshot(path, { scanout: 0, cursor: true, still: { quietMs: 500, timeoutMs: 2000 } });

    expect(handlers.screenshot).toHaveBeenCalledWith({ command: 'screenshot', scanout: 0, cursor: true, still: { quietMs: 500, timeoutMs: 2000 } }, expect.any(AbortSignal));
  });

  test('that waits is let go when the bridge ends, and the wait with it', async () => {
    const asked = new Promise<AbortSignal>((resolve) => {
      vi.mocked(handlers.screenshot).mockImplementation((_request, signal) => {
        resolve(signal);
        return new Promise(() => undefined);
      });
    });
    const failed = expect(requestScreenshot(path, { scanout: 0, cursor: true })).rejects.toMatchObject({ code: 'protocol' });
    const signal = await asked;
    const aborted = once(signal, 'abort');
    server[Symbol.dispose]();

    await failed;
    await aborted;
  });

  test('is told what the bridge cannot do, with its code', async () => {
    vi.mocked(handlers.screenshot).mockRejectedValue(new ControlError('no-picture', 'scanout 0 is off'));

    await expect(requestScreenshot(path, { scanout: 0, cursor: true })).rejects.toMatchObject({ code: 'no-picture', message: 'scanout 0 is off' });
  });

  test('is told that no bridge is there, and what to do', async () => {
    await expect(requestStats(join(directory, 'nobody.sock'))).rejects.toMatchObject({ code: 'unreachable', message: expect.stringContaining('scanout run') as string });
  });

  test('may ask several things on one connection, in one piece or byte by byte', async () => {
    const requests = '{"command":"stats"}\n{"command":"screenshot"}\n{"command":"stats"}\n';
    const whole = await exchange(requests);
    const socket = connect(path);
    socket.setNoDelay(true);
    for (const byte of requests) await new Promise((resolve) => socket.write(byte, resolve));
    socket.end();

    expect(await text(socket)).toBe(whole);
    expect(whole.match(/"ok":true/g)).toHaveLength(3);
  });

  test('whose answers are cut off anywhere gets an error, not a picture', async () => {
    const reply = Buffer.concat([Buffer.from('{"ok":true,"width":3,"height":2,"bytes":24}\n'), picture.data]);
    for (let cut = 0; cut < reply.length; cut++) {
      const fake = join(directory, `cut-${cut}.sock`);
      const impostor: Server = createServer((socket) => socket.end(reply.subarray(0, cut))).listen(fake);
      await once(impostor, 'listening');
      await expect(requestScreenshot(fake, { scanout: 0, cursor: true })).rejects.toBeInstanceOf(ControlError);
      impostor.close();
    }
  });

  test.each(['nonsense\n', 'null\n', '{"ok":true,"width":3,"height":2,"bytes":-1}\n', '{"ok":true,"width":9,"height":9,"bytes":4}\nabcd', '{"ok":true,"bytes":1e12}\n', `${' '.repeat(2 ** 20)} `])('that meets something else than a bridge says so', async (reply) => {
    const fake = join(directory, 'fake.sock');
    const impostor = createServer((socket) => socket.end(reply)).listen(fake);
    await once(impostor, 'listening');

    await expect(requestScreenshot(fake, { scanout: 0, cursor: true })).rejects.toMatchObject({ code: 'protocol' });
    impostor.close();
  });
});

describe('a client that speaks nonsense', () => {
  test.each([
    ['no JSON', 'hello\n'],
    ['an empty line', '\n'],
    ['JSON that is no object', '7\n'],
    ['no command', '{}\n'],
    ['an unknown command', '{"command":"format"}\n'],
    ['a scanout that is no number', '{"command":"screenshot","scanout":"0"}\n'],
    ['a negative scanout', '{"command":"screenshot","scanout":-1}\n'],
    ['a cursor that is no truth', '{"command":"screenshot","cursor":1}\n'],
    ['half a wait', '{"command":"screenshot","quietMs":1}\n'],
    ['a wait of days', '{"command":"screenshot","quietMs":1,"timeoutMs":86400000}\n'],
    ['a line without end', 'x'.repeat(MAX_REQUEST + 1)],
    ['a line that ends too late', `${'x'.repeat(MAX_REQUEST + 1)}\n`],
    ['bytes that are no text', Uint8Array.of(0xff, 0xfe, 0, 10)],
  ])('(%s) is told so and let go, and others are served', async (_what, bytes) => {
    const other = connect(path);
    await once(other, 'connect');

    expect(JSON.parse(await exchange(bytes))).toMatchObject({ ok: false, code: 'malformed' });

    other.end('{"command":"stats"}\n');
    expect(JSON.parse(await text(other))).toMatchObject({ ok: true });
  });

  test('(anything at all) never makes the parser throw anything else', () => {
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

  test('(hanging up in the middle) leaves nothing behind', async () => {
    const socket = connect(path);
    await once(socket, 'connect');
    socket.write('{"command":"screen');
    socket.destroy();
    await once(socket, 'close');

    expect(await requestStats(path)).toEqual({ frames: 7 });
  });

  test('(asking and never reading) makes the bridge take one picture, not hundreds', async () => {
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

  test('(coming by the dozen) is turned away', async () => {
    const crowd: Socket[] = Array.from({ length: 12 }, () => connect(path).on('error', () => undefined));
    await Promise.all(crowd.slice(0, 8).map((socket) => once(socket, 'connect')));
    const turnedAway = await Promise.all(crowd.slice(8).map((socket) => once(socket, 'close')));

    expect(turnedAway).toHaveLength(4);
    for (const socket of crowd) socket.destroy();
  });
});

test('the default directory in /tmp is not used when it is not ours alone', () => {
  vi.spyOn(process, 'getuid').mockReturnValue(999_999);
  const squatted = '/tmp/scanout-bridge-999999';
  mkdirSync(squatted, { mode: 0o777 });
  try {
    expect(() => ControlServer.open(defaultControlPath({}), handlers)).toThrow(expect.objectContaining({ code: 'unsafe-directory' }));
  } finally {
    vi.restoreAllMocks();
    rmSync(squatted, { recursive: true });
  }
});
