import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  WaylandDisplay,
  WaylandError,
  WlCompositor,
  WlOutput,
  WlSeat,
  WlShm,
} from '../../../../../display/wayland/client/index.ts';
import { openSocket } from '../../../../../display/wayland/client/display.ts';
import { socketPair } from '../../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { encodeMessage } from './codec.ts';
import { FakeServer } from '../fake-server.ts';

expectNoLeaks();

describe('openSocket', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'wayland-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test.each([
    ['a name below XDG_RUNTIME_DIR that is passed in', 'chosen', 'chosen', {}],
    ['WAYLAND_DISPLAY', 'chosen', undefined, { WAYLAND_DISPLAY: 'chosen' }],
    ['wayland-0 if WAYLAND_DISPLAY is not set', 'wayland-0', undefined, {}],
    ['wayland-0 if WAYLAND_DISPLAY is empty', 'wayland-0', undefined, { WAYLAND_DISPLAY: '' }],
  ])('connects to %s', async (_, file, name, env) => {
    using server = new FakeServer();
    server.listen(join(directory, file));
    using display = await WaylandDisplay.connect({ socket: openSocket(name, { XDG_RUNTIME_DIR: directory, ...env }) });
    expect(display.closeReason).toBeNull();
  });

  test('connects to a full path without XDG_RUNTIME_DIR', async () => {
    using server = new FakeServer();
    server.listen(join(directory, 'sock'));
    using display = await WaylandDisplay.connect({ socket: join(directory, 'sock') });
    openSocket(undefined, { WAYLAND_DISPLAY: join(directory, 'sock') })[Symbol.dispose]();
    expect(display.closeReason).toBeNull();
  });

  test('prefers WAYLAND_SOCKET and removes it from the environment', async () => {
    using server = new FakeServer();
    const env = { WAYLAND_SOCKET: String(server.connect().take()), WAYLAND_DISPLAY: 'absent' };
    using display = await WaylandDisplay.connect({ socket: openSocket(undefined, env) });
    expect(display.closeReason).toBeNull();
    expect(env).toEqual({ WAYLAND_DISPLAY: 'absent' });
  });

  test('throws an error that says what was tried if there is no compositor', () => {
    expect(() => openSocket('absent', { XDG_RUNTIME_DIR: directory })).toThrow(
      `cannot connect to a Wayland compositor at ${directory}/absent: SysError: connect: ENOENT`,
    );
    expect(() => openSocket('absent', {})).toThrow(
      'cannot look for the Wayland socket absent: XDG_RUNTIME_DIR is not set; set it, or give the full path',
    );
    expect(() => openSocket(undefined, { XDG_RUNTIME_DIR: 'run' })).toThrow(
      'cannot look for the Wayland socket wayland-0: XDG_RUNTIME_DIR is not an absolute path (run)',
    );
    expect(() => openSocket(undefined, { WAYLAND_SOCKET: '999' })).toThrow(
      'WAYLAND_SOCKET=999 is not an open file descriptor',
    );
    expect(() => openSocket(undefined, { WAYLAND_SOCKET: 'x' })).toThrow(WaylandError);
    expect(() => openSocket(`/${'x'.repeat(200)}`, {})).toThrow('ENAMETOOLONG');
  });
});

describe('WaylandDisplay.connect', () => {
  test('rejects with `gone` if the compositor hangs up at once', async () => {
    const [near, far] = socketPair();
    far[Symbol.dispose]();
    await expect(WaylandDisplay.connect({ socket: near })).rejects.toMatchObject({ code: 'gone' });
  });

  test('rejects with the protocol error that follows the answer in the same packet', async () => {
    using server = new FakeServer();
    server.on('wl_display.sync', ({ client }) => client.refuse(client.display, 1, 'told to'));
    await expect(WaylandDisplay.connect({ socket: server.connect() })).rejects.toMatchObject({ code: 'refused' });
  });

  test('rejects with the reason of its signal if the compositor never answers', async () => {
    const [near, far] = socketPair();
    const abort = new AbortController();
    const connecting = WaylandDisplay.connect({ socket: near, signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    far[Symbol.dispose]();
  });

  test('consumes the socket if its signal has aborted before', async () => {
    const [near, far] = socketPair();
    await expect(
      WaylandDisplay.connect({ socket: near, signal: AbortSignal.abort(new Error('late')) }),
    ).rejects.toThrow('late');
    expect(near.closed).toBe(true);
    far[Symbol.dispose]();
  });
});

describe('WaylandDisplay globals', () => {
  let server: FakeServer;
  beforeEach(() => {
    server = new FakeServer();
    server.addGlobal('wl_compositor', 5);
    server.addGlobal('wl_output', 4);
    server.addGlobal('wl_output', 3);
    server.addGlobal('zwlr_unknown_v1', 12);
  });
  afterEach(() => server[Symbol.dispose]());

  test('are all known when connect resolves', async () => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    expect([...display.globals.values()]).toEqual([
      { name: 1, interface: 'wl_compositor', version: 5 },
      { name: 2, interface: 'wl_output', version: 4 },
      { name: 3, interface: 'wl_output', version: 3 },
      { name: 4, interface: 'zwlr_unknown_v1', version: 12 },
    ]);
  });

  test('are bound with the highest version that compositor, client and caller support', async () => {
    server.addGlobal('wl_shm', 99);
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    const bound = [display.bind(WlCompositor, 6), display.bind(WlCompositor, 4), display.bind(WlShm, 99)];
    await display.roundtrip();
    expect(bound.map((object) => object?.version)).toEqual([5, 4, 2]);
    expect(
      [...server.client.objects.values()].slice(-3).map((object) => [object.interface.name, object.version]),
    ).toEqual([
      ['wl_compositor', 5],
      ['wl_compositor', 4],
      ['wl_shm', 2],
    ]);
  });

  test('that the compositor does not offer are bound as null', async () => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    expect(display.bind(WlSeat, 9)).toBeNull();
  });

  test('are bound by name, and as another interface throw RangeError', async () => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    expect(display.bind(WlOutput, 4, display.globals.get(3))?.version).toBe(3);
    expect(() => display.bind(WlSeat, 9, display.globals.get(3))).toThrow(RangeError);
  });

  test('are added and removed while connected, and tell the listeners that still listen', async () => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    const heard: unknown[] = [];
    display.onGlobalAdded(({ interface: name }) => heard.push(`+${name}`));
    const stop = display.onGlobalRemoved(({ interface: name }) => heard.push(`-${name}`));
    const output = display.globals.get(2);
    const seat = server.addGlobal('wl_seat', 9);
    server.removeGlobal(2);
    await display.roundtrip();
    stop();
    server.removeGlobal(seat);
    await display.roundtrip();
    expect(heard).toEqual(['+wl_seat', '-wl_output']);
    expect(display.globals.has(2)).toBe(false);
    expect(display.bind(WlOutput, 4, output)).toBeNull();
  });

  test.each([
    [
      'with a name that is in use',
      (registry: (...args: [string, ...(string | number)[]]) => void) => registry('global', 1, 'wl_shm', 1),
    ],
    [
      'with version 0',
      (registry: (...args: [string, ...(string | number)[]]) => void) => registry('global', 9, 'wl_shm', 0),
    ],
    [
      'removed but never added',
      (registry: (...args: [string, ...(string | number)[]]) => void) => registry('global_remove', 9),
    ],
  ])('%s end the connection', async (_, send) => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    const registry = server.client.objects.get(2)!;
    send((event, ...values) => registry.send(event, ...values));
    await expect(display.roundtrip()).rejects.toMatchObject({ code: 'malformed', interface: 'wl_registry' });
  });

  test('end the connection when there are more than 4096', async () => {
    using display = await WaylandDisplay.connect({ socket: server.connect() });
    for (let i = 0; i < 5000; i++) server.addGlobal('wl_output', 1);
    await expect(display.roundtrip()).rejects.toThrow('more than 4096 globals');
  });
});

describe('the end of a Wayland connection', () => {
  let server: FakeServer;
  let display: WaylandDisplay;
  beforeEach(async () => {
    server = new FakeServer();
    server.addGlobal('wl_compositor', 6);
    display = await WaylandDisplay.connect({ socket: server.connect() });
  });
  afterEach(() => {
    display[Symbol.dispose]();
    server[Symbol.dispose]();
  });

  test('by dispose is reported once, after everything is released', () => {
    const closed = vi.fn();
    const compositor = display.bind(WlCompositor, 6)!;
    display.onClosed(closed);
    display[Symbol.dispose]();
    display[Symbol.dispose]();
    expect(closed).toHaveBeenCalledTimes(1);
    expect(display.closeReason).toMatchObject({ code: 'closed' });
    expect(compositor.isDestroyed).toBe(true);
    compositor[Symbol.dispose]();
    expect(() => compositor.createSurface()).toThrow(
      'wl_compositor#3.create_surface was called after the connection ended: the display was disposed',
    );
    display.flush();
  });

  test('by a compositor that hangs up rejects roundtrips and calls onClosed listeners', async () => {
    const closed = vi.fn();
    display.onClosed(closed);
    const waiting = display.roundtrip();
    server.client[Symbol.dispose]();
    await expect(waiting).rejects.toMatchObject({ code: 'gone' });
    expect(closed).toHaveBeenCalledTimes(1);
    await expect(display.roundtrip()).rejects.toBe(display.closeReason);
  });

  test('by a compositor that hangs up makes requests throw only after it was reported', async () => {
    const compositor = display.bind(WlCompositor, 6)!;
    await display.roundtrip();
    const closed = new Promise((resolve) => display.onClosed(resolve));
    server.client[Symbol.dispose]();
    const surface = compositor.createSurface();
    display.flush();
    surface.commit();
    display.flush();
    expect(await closed).toMatchObject({ code: 'gone' });
    expect(() => surface.commit()).toThrow(expect.objectContaining({ code: 'closed' }) as Error);
  });

  test('by wl_display.error names object, error and last request', async () => {
    const surface = display.bind(WlCompositor, 6)!.createSurface();
    surface.setBufferScale(-1);
    const { object, client } = await server.next('wl_surface.set_buffer_scale');
    client.refuse(object, 0, 'no negative scale');
    await expect(display.roundtrip()).rejects.toMatchObject({
      code: 'refused',
      message: `the compositor ended the connection over wl_surface#${surface.id}: error invalid_scale: no negative scale (the last request to it was set_buffer_scale)`,
      interface: 'wl_surface',
      objectId: surface.id,
      errorCode: 0,
      errorName: 'invalid_scale',
      request: 'set_buffer_scale',
    });
  });

  test('by wl_display.error is reported with that error if writing a request fails first', async () => {
    const surface = display.bind(WlCompositor, 6)!.createSurface();
    await display.roundtrip();
    const { client } = server;
    client.refuse(client.objects.get(surface.id)!, 77, 'unheard of');
    surface.commit();
    display.flush();
    await expect(new Promise((resolve) => display.onClosed(resolve))).resolves.toMatchObject({
      code: 'refused',
      errorCode: 77,
      errorName: null,
    });
  });

  test('by wl_display.error is reported without the control characters of its text', async () => {
    const { client } = server;
    const closed = new Promise((resolve) => display.onClosed(resolve));
    client.refuse(client.display, 2, '\x1b]0;owned\x07\x9b2Jno memory\n');
    await expect(closed).resolves.toMatchObject({
      message: expect.stringMatching(/: \\x1b]0;owned\\x07\\x9b2Jno memory\\x0a( |$)/) as string,
    });
  });

  test('by wl_display.error behind many events is reported with that error if requests were left unread', async () => {
    const { client } = server;
    client.pause();
    const surface = display.bind(WlCompositor, 6)!.createSurface();
    display.flush();
    const registry = client.objects.get(2)!;
    const { args } = registry.interface.events[0]!;
    client.raw(
      Buffer.concat(
        Array.from({ length: 3000 }, (_, i) => encodeMessage(registry.id, 0, args, [1000 + i, 'wl_output', 1])),
      ),
    );
    client.refuse(client.display, 2, 'no more memory');
    const reason = await new Promise((resolve) => display.onClosed(resolve));
    expect(reason).toMatchObject({ code: 'refused', errorName: 'no_memory' });
    expect(surface.isDestroyed).toBe(true);
  });

  test('by wl_display.error about an unknown object names its id', async () => {
    const { client } = server;
    client.display.send('error', 4711, 1, 'who?');
    await expect(display.roundtrip()).rejects.toMatchObject({
      code: 'refused',
      objectId: 4711,
      interface: null,
      message: expect.stringContaining('#4711: error 1: who?') as string,
    });
  });

  test('by dispose in a listener leaves the events behind it undispatched', async () => {
    const shm = new Promise<void>((resolve) => {
      display.onGlobalAdded(() => {
        display[Symbol.dispose]();
        resolve();
      });
    });
    server.addGlobal('wl_shm', 1);
    server.addGlobal('wl_seat', 1);
    await shm;
    expect(display.globals.size).toBe(2);
  });
});
