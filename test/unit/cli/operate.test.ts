/** What is typed on the command line to drive a running bridge, as it arrives there: docs/control.md has the requests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ScreenFrame, WatchedScreen } from '../../../display/picture/screen-copy.ts';
import { createProgram } from '../../../src/cli/program.ts';
import { FrameTrace } from '../../../src/control/frame-trace.ts';
import { FrameWatch } from '../../../src/control/frame-watch.ts';
import { PROTOCOL } from '../../../src/control/protocol.ts';
import type { BridgeStats } from '../../../src/control/stats.ts';
import { type ControlHandlers, ControlServer } from '../../../src/control/server.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Rect } from '../../../src/core/geometry.ts';
import { eventually } from '../../rig/eventually.ts';
import { stillScreen } from '../../rig/still-screen.ts';

const picture = { width: 3, height: 2, data: new Uint8Array(24) };

let directory: string;
let control: string;
let handlers: ControlHandlers;
let bridge: ControlServer;
let listener: ((frame: ScreenFrame) => void) | null;
/** What the command has printed. */
let printed: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-operate-'));
  control = join(directory, 'control.sock');
  listener = null;
  const screen: WatchedScreen = {
    ...stillScreen,
    onFrame: (given) => {
      listener = given;
      return () => (listener = null);
    },
  };
  handlers = {
    hello: () => ({ protocol: PROTOCOL, scanouts: 2, keyboard: true, touch: true }),
    stats: () => ({ frames: 7 }),
    screenshot: () => Promise.resolve(picture),
    screenshotPng: vi.fn(),
    wait: vi.fn(() => Promise.resolve()),
    watch: vi.fn(() => Promise.resolve(new FrameWatch(screen, picture, () => undefined))),
    trace: vi.fn(() => new FrameTrace(() => () => undefined)),
    operate: vi.fn(() => Promise.resolve()),
  };
  bridge = ControlServer.open(control, handlers);
  printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});
afterEach(() => {
  vi.restoreAllMocks();
  bridge[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

/** Runs a command in this process. */
async function scanout(...args: readonly string[]): Promise<void> {
  const program = await createProgram(args.slice(0, 1));
  await program.parseAsync([...args, '--control', control], { from: 'user' });
}

const [from, to] = [
  { x: 10, y: 20 },
  { x: 30.5, y: 40 },
];

test.each<[string, readonly object[]]>([
  ['type ls', [{ command: 'type', text: 'ls' }]],
  ['press enter', [{ command: 'press', keys: 'enter' }]],
  [
    'press ctrl+c up',
    [
      { command: 'press', keys: 'ctrl+c' },
      { command: 'press', keys: 'up' },
    ],
  ],
  ['click 10 20', [{ command: 'click', scanout: 0, ...from, button: 'left', double: false }]],
  [
    'click 10 20 --button right --double --scanout 1',
    [{ command: 'click', scanout: 1, ...from, button: 'right', double: true }],
  ],
  ['move 10 20', [{ command: 'move', scanout: 0, ...from }]],
  ['move 30.5 40 --scanout 1', [{ command: 'move', scanout: 1, ...to }]],
  ['drag 10 20 30.5 40', [{ command: 'drag', scanout: 0, from, to, button: 'left' }]],
  ['drag 10 20 30.5 40 --button middle', [{ command: 'drag', scanout: 0, from, to, button: 'middle' }]],
  ['scroll down', [{ command: 'scroll', scanout: 0, down: 1, right: 0 }]],
  ['scroll up 3', [{ command: 'scroll', scanout: 0, down: -3, right: 0 }]],
  ['scroll right 2 --at 10,20', [{ command: 'scroll', scanout: 0, down: 0, right: 2, at: from }]],
  ['scroll left 4 --scanout 1', [{ command: 'scroll', scanout: 1, down: 0, right: -4 }]],
  ['touch 10 20', [{ command: 'touch', scanout: 0, from, to: from }]],
  ['touch 10 20 30.5 40 --scanout 1', [{ command: 'touch', scanout: 1, from, to }]],
])('scanout %s: arrives as it is documented', async (line, requests) => {
  await scanout(...line.split(' '));

  expect(vi.mocked(handlers.operate).mock.calls.map(([request]) => request)).toEqual(requests);
});

test('scanout type -: types what is on standard input, with its line breaks', async () => {
  const input: Readable = Readable.from(['root\n', 'ls\n']);
  vi.spyOn(process, 'stdin', 'get').mockReturnValue(input as Partial<typeof process.stdin> as typeof process.stdin);
  await scanout('type', '-');

  expect(vi.mocked(handlers.operate).mock.calls[0]![0]).toEqual({ command: 'type', text: 'root\nls\n' });
});

test.each([
  'click 10',
  'click -1 20',
  'click 10 20 --button third',
  'drag 10 20 30',
  'scroll sideways',
  'scroll down 101',
  'scroll down 0',
  'scroll down --at 10',
  'touch 10 20 30',
  'wait match',
  'wait stable golden.png',
  'wait stable --region 4x3',
  'wait change --timeout-ms soon',
])('scanout %s: is refused before the bridge is asked', async (line) => {
  await expect(scanout(...line.split(' '))).rejects.toThrow();

  expect(handlers.operate).not.toHaveBeenCalled();
  expect(handlers.wait).not.toHaveBeenCalled();
});

const region = { x: 1, y: 0, width: 2, height: 2 };

test.each<[string, object]>([
  ['wait change', { for: 'change', scanout: 0, cursor: true, timeoutMs: 30_000 }],
  [
    'wait change --region 2x2+1+0 --scanout 1 --no-cursor --timeout-ms 70',
    { for: 'change', scanout: 1, cursor: false, timeoutMs: 70, region },
  ],
  ['wait stable', { for: 'stable', scanout: 0, cursor: true, quietMs: 500, timeoutMs: 30_000 }],
  [
    'wait stable --region 2x2+1+0 --quiet-ms 9',
    { for: 'stable', scanout: 0, cursor: true, quietMs: 9, timeoutMs: 30_000, region },
  ],
])('scanout %s: arrives as it is documented', async (line, request) => {
  await scanout(...line.split(' '));

  expect(vi.mocked(handlers.wait).mock.calls.map(([asked]) => asked)).toEqual([
    { command: 'wait', quietMs: 0, ...request },
  ]);
});

function frame(timeMs: number, changed: Rect, cursor: Rect): void {
  const [damage, cursorDamage] = [new Damage(), new Damage()];
  damage.addRect(changed);
  cursorDamage.addRect(cursor);
  listener!({ timeMs, width: 3, height: 2, isDark: false, damage, cursorDamage });
}

test.each<[string, readonly unknown[]]>([
  [
    '--lines',
    [
      expect.stringMatching(/^\d+\.\d{3} \+0 3x2: 3x2\+0\+0$/),
      '1.500 +1 3x2: 1x2+2+0, cursor 2x2-1+0',
      '2.000 +1 3x2: 3x1+0+1, cursor 1x1+0+0',
    ],
  ],
  [
    '--json',
    [
      expect.stringMatching(
        /^\{"timeMs":[\d.]+,"frames":0,"width":3,"height":2,"damage":\[\{"x":0,"y":0,"width":3,"height":2\}\],"cursor":\[\]\}$/,
      ),
      '{"timeMs":1500,"frames":1,"width":3,"height":2,"damage":[{"x":2,"y":0,"width":1,"height":2}],"cursor":[{"x":-1,"y":0,"width":2,"height":2}]}',
      '{"timeMs":2000,"frames":1,"width":3,"height":2,"damage":[{"x":0,"y":1,"width":3,"height":1}],"cursor":[{"x":0,"y":0,"width":1,"height":1}]}',
    ],
  ],
])('scanout watch %s: prints a line for each frame, until the bridge ends', async (option, lines) => {
  const watching = scanout('watch', option, '--scanout', '1');
  const linesPrinted = (count: number): Promise<void> =>
    eventually(() => expect(printed.split('\n')).toHaveLength(count + 1));
  await linesPrinted(1);
  frame(1500, { x: 2, y: 0, width: 1, height: 2 }, { x: -1, y: 0, width: 2, height: 2 });
  await linesPrinted(2);
  frame(2000, { x: 0, y: 1, width: 3, height: 1 }, { x: 0, y: 0, width: 1, height: 1 });
  await linesPrinted(3);
  bridge[Symbol.dispose]();
  await watching;

  expect(printed.trimEnd().split('\n')).toEqual(lines);
  expect(vi.mocked(handlers.watch).mock.calls[0]![0]).toBe(1);
});

test('scanout watch --page: has the bridge measure every frame while it is open', async () => {
  const stats: BridgeStats = {
    guest: { connected: true, commands: 1, errors: 0, flushes: 1, transfers: 0, resources: 1, storeBytes: 0 },
    scanouts: [{ scanout: 0, picture: '3x2', flushes: 1, screens: [] }],
    exports: null,
    vnc: [{ address: join(directory, 'vnc.sock'), viewers: 0, isDriven: false, updates: 0, bytes: 0 }],
    clipboard: null,
    control: { clients: 1, input: 0 },
    sandbox: { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null },
  };
  handlers.stats = () => stats;
  let ended = false;
  handlers.trace = vi.fn(
    () =>
      new FrameTrace(() => () => {
        ended = true;
      }),
  );
  const watching = scanout('watch', '--page');
  await eventually(() => expect(handlers.trace).toHaveBeenCalledWith(0));
  expect(ended).toBe(false);
  process.emit('SIGTERM');
  await watching;

  await eventually(() => expect(ended).toBe(true));
});
