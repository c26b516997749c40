/** The tools of `scanout mcp`, called by the client of the MCP SDK; test/host/control.test.ts starts the command. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, InMemoryTransport } from '@modelcontextprotocol/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { decodePng, encodePng, writePng } from '../../../display/picture/png.ts';
import type { ScreenFrame, WatchedScreen } from '../../../display/picture/screen-copy.ts';
import { createMcpServer } from '../../../src/cli/mcp-server.ts';
import { ControlError } from '../../../src/control/protocol.ts';
import { type ControlHandlers, ControlServer } from '../../../src/control/server.ts';
import { FrameTrace } from '../../../src/control/frame-trace.ts';
import { FrameWatch } from '../../../src/control/frame-watch.ts';
import { Damage } from '../../../src/core/damage.ts';
import { eventually } from '../../rig/eventually.ts';
import { stillScreen } from '../../rig/still-screen.ts';

const picture = { width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 255, 4, 5, 6, 255) };

let directory: string;
let handlers: ControlHandlers;
let bridge: ControlServer;
let client: Client;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-mcp-'));
  const path = join(directory, 'control.sock');
  handlers = {
    hello: () => ({ protocol: 1, scanouts: 1, keyboard: true, touch: true }),
    stats: () => ({ frames: 7 }),
    screenshot: vi.fn(() => Promise.resolve(picture)),
    screenshotPng: vi.fn(() => Promise.resolve({ width: 2, height: 1, bytes: encodePng(picture) })),
    wait: vi.fn(() => Promise.resolve()),
    watch: () => Promise.resolve(new FrameWatch(stillScreen, picture, () => undefined)),
    trace: () => new FrameTrace(() => () => undefined),
    operate: vi.fn(() => Promise.resolve()),
  };
  bridge = ControlServer.open(path, handlers);
  client = new Client({ name: 'test', version: '1' });
  const [ours, theirs] = InMemoryTransport.createLinkedPair();
  await Promise.all([createMcpServer(path, '1').connect(theirs), client.connect(ours)]);
});
afterEach(async () => {
  await client.close();
  bridge[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

const call = (name: string, args: Record<string, unknown> = {}) => client.callTool({ name, arguments: args });

test('scanout mcp: nothing but the command itself, once it is started, loads the SDK', () => {
  const folder = join(import.meta.dirname, '../../../src');
  const importing = (text: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
      (file) => file.endsWith('.ts') && readFileSync(join(folder, file), 'utf8').includes(text),
    );

  expect(importing("from '@modelcontextprotocol")).toEqual(['cli/mcp-server.ts']);
  expect(importing("from './mcp-server")).toEqual([]);
});

test('scanout mcp: has a tool for each way to look, to operate and to wait', async () => {
  const { tools } = await client.listTools();

  expect(tools.map(({ name }) => name)).toEqual([
    ...['screenshot', 'find', 'text', 'type', 'press', 'move', 'click', 'drag', 'scroll', 'touch'],
    ...['wait_stable', 'wait_change', 'wait_match', 'watch', 'stats'],
  ]);
  expect(tools.find(({ name }) => name === 'click')!.inputSchema).toMatchObject({ required: ['x', 'y'] });
});

test('scanout mcp: screenshot answers with a PNG of the region', async () => {
  const region = { x: 0, y: 0, width: 2, height: 1 };
  const { content } = await call('screenshot', { region, cursor: false });

  expect(content).toMatchObject([{ type: 'image', mimeType: 'image/png' }, { text: '2x1 pixels' }]);
  const { data } = content[0] as { data: string };
  expect(decodePng(Buffer.from(data, 'base64')).data).toEqual(picture.data);
  expect(vi.mocked(handlers.screenshotPng).mock.calls[0]![0]).toMatchObject({ region, cursor: false, scanout: 0 });
});

test('scanout mcp: find answers with a place to click, or with what is most similar', async () => {
  const needle = join(directory, 'needle.png');
  await writePng(needle, { width: 1, height: 1, data: picture.data.slice(4) });
  const { content } = await call('find', { needle });
  const missed = await call('find', { needle, near: { x: 0, y: 0 }, margin: 0 });

  const { text } = content[0] as { text: string };
  expect(JSON.parse(text)).toMatchObject({ x: 1, y: 0, similarity: 1, click: { x: 1, y: 0 } });
  expect(missed).toMatchObject({
    isError: true,
    content: [{ text: expect.stringContaining('needle is not there; the most similar is at 1x1+0+0') as string }],
  });
});

test('scanout mcp: text answers with what the screen says and who read it', async () => {
  vi.mocked(handlers.screenshot).mockResolvedValueOnce({ width: 8, height: 16, data: new Uint8Array(512).fill(255) });

  expect((await call('text')).content).toEqual([
    { type: 'text', text: '' },
    { type: 'text', text: 'read by the font (blank)' },
  ]);
  expect(await call('text', { region: { x: 1, y: 0, width: 2, height: 1 } })).toMatchObject({ isError: true });
});

test('scanout mcp: what operates the guest reaches the bridge', async () => {
  const [from, to] = [
    { x: 1, y: 2 },
    { x: 3, y: 4 },
  ];
  await call('type', { text: 'root\n' });
  await call('press', { keys: 'ctrl+c' });
  await call('move', from);
  await call('click', { ...from, button: 'right', double: true });
  await call('drag', { from, to });
  await call('scroll', { down: 3, at: from });
  const { content, isError } = await call('touch', { from, to, scanout: 1 });

  expect([content, isError]).toEqual([[{ type: 'text', text: 'done' }], undefined]);
  expect(vi.mocked(handlers.operate).mock.calls.map(([request]) => request)).toEqual([
    { command: 'type', text: 'root\n' },
    { command: 'press', keys: 'ctrl+c' },
    { command: 'move', scanout: 0, ...from },
    { command: 'click', scanout: 0, ...from, button: 'right', double: true },
    { command: 'drag', scanout: 0, from, to, button: 'left' },
    { command: 'scroll', scanout: 0, down: 3, right: 0, at: from },
    { command: 'touch', scanout: 1, from, to },
  ]);
});

test('scanout mcp: waits are passed on, and a golden picture is read from its file', async () => {
  const golden = join(directory, 'golden.png');
  await writePng(golden, picture);
  await call('wait_stable', { quietMs: 7, timeoutMs: 70 });
  await call('wait_change', { region: { x: 0, y: 0, width: 1, height: 1 } });
  const matched = await call('wait_match', { golden, at: { x: 0, y: 0 } });

  expect(vi.mocked(handlers.wait).mock.calls.map(([request]) => request)).toMatchObject([
    { for: 'stable', quietMs: 7, timeoutMs: 70 },
    { for: 'change', region: { x: 0, y: 0, width: 1, height: 1 } },
  ]);
  expect(matched.isError).toBeUndefined();
  expect((await call('stats')).content).toEqual([{ type: 'text', text: '{"frames":7}' }]);
});

test('scanout mcp: watch answers with what came on the screen, for as long or as often as it is asked to', async () => {
  let show: (frame: ScreenFrame) => void = () => undefined;
  const screen: WatchedScreen = {
    ...stillScreen,
    onFrame: (listener) => {
      show = listener;
      return () => undefined;
    },
  };
  handlers.watch = vi.fn(() => Promise.resolve(new FrameWatch(screen, picture, () => undefined)));
  const seen = async (args: object): Promise<unknown> => {
    const { content } = await call('watch', { ...args });
    return JSON.parse((content[0] as { text: string }).text);
  };
  const first = { frames: 0, width: 2, height: 1, damage: [{ x: 0, y: 0, width: 2, height: 1 }], cursor: [] };
  expect(await seen({ durationMs: 50, scanout: 1 })).toMatchObject([first]);
  expect(vi.mocked(handlers.watch).mock.calls[0]![0]).toBe(1);

  const next = vi.spyOn(FrameWatch.prototype, 'next');
  const watching = seen({ durationMs: 3_600_000, events: 2 });
  // The first was sent.
  await eventually(() => expect(next).toHaveBeenCalledTimes(2));
  const damage = new Damage();
  damage.addRect({ x: 1, y: 0, width: 1, height: 1 });
  show({ timeMs: 7, width: 2, height: 1, isDark: false, damage, cursorDamage: new Damage() });
  expect(await watching).toMatchObject([
    first,
    { timeMs: 7, frames: 1, damage: [{ x: 1, y: 0, width: 1, height: 1 }], cursor: [] },
  ]);
});

test('scanout mcp: a tool that fails says why, and so do arguments that are wrong', async () => {
  vi.mocked(handlers.operate).mockRejectedValueOnce(new ControlError('key', "no key is called 'ecs'"));

  expect(await call('press', { keys: 'ecs' })).toMatchObject({
    isError: true,
    content: [{ text: expect.stringContaining("no key is called 'ecs'") as string }],
  });
  expect(await call('wait_match', { golden: '/nowhere.png' })).toMatchObject({ isError: true });
  expect(await call('click', { x: 1, y: 'far' })).toMatchObject({ isError: true });
  expect(await call('watch', { durationMs: -1 })).toMatchObject({ isError: true });
  bridge[Symbol.dispose]();
  expect(await call('stats')).toMatchObject({
    isError: true,
    content: [{ text: expect.stringContaining('scanout run') as string }],
  });
});

test('scanout mcp: a request that the client cancels ends the work of the bridge on it', async () => {
  const stopped = new Promise<void>((resolve) => {
    vi.mocked(handlers.wait).mockImplementation((_request, signal) => {
      end.abort();
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          resolve();
          reject(signal.reason as Error);
        }),
      );
    });
  });
  const end = new AbortController();
  const waiting = client.callTool({ name: 'wait_stable', arguments: {} }, { signal: end.signal });

  await expect(waiting).rejects.toThrow();
  await stopped;
});
