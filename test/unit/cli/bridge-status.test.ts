import { expect, test } from 'vitest';
import type { PlaneStats } from '../../../src/bridge/plane-buffers.ts';
import { bridgeStatus } from '../../../src/cli/bridge-status.ts';
import type { BridgeStats } from '../../../src/control/stats.ts';

const PLANE: PlaneStats = {
  ...{ rung: 'shadow', hits: 0, imports: 0, evictions: 0 },
  ...{ copiedBytes: 0, shadowBytes: 0, pinnedBytes: 0 },
};
const NO_AGES = { staged: null, presented: null, onScreen: null, released: null };
const GUEST = { connected: true, commands: 1, errors: 0, flushes: 1, transfers: 0, resources: 1, storeBytes: 0 };

/** Of a guest with one window. */
function stats(frames: number, input: number, changes: Partial<BridgeStats> = {}): BridgeStats {
  const window = { output: 'window', frames, input, ages: NO_AGES, primary: PLANE, cursor: PLANE };
  return {
    guest: GUEST,
    scanouts: [{ scanout: 0, picture: '640x480', flushes: frames, screens: [window] }],
    exports: null,
    vnc: null,
    clipboard: null,
    control: { clients: 1, input: 0 },
    sandbox: { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null },
    ...changes,
  };
}

test('bridgeStatus: counts frames at first, and has rates and the one who drives from then on', () => {
  const first = stats(10, 4);
  expect(bridgeStatus(first, null, 0, 0)).toEqual([
    'scanout 0: 640x480',
    '  window: shadow, 10 frames',
    'input: window 4',
    'looking on: 1 control connection',
  ]);
  const copied = { ...PLANE, copiedBytes: 2 ** 21 };
  const screen = { ...first.scanouts[0]!.screens[0]!, frames: 40, input: 7, primary: copied };
  const second = stats(0, 0, { scanouts: [{ scanout: 0, picture: '640x480', flushes: 40, screens: [screen] }] });
  expect(bridgeStatus(second, first, 2, 0).slice(1, 3)).toEqual([
    '  window: shadow, 15.0 frames/s, 1.0 MiB/s copied',
    'input: window 7 (+3, drives)',
  ]);
});

test('bridgeStatus: says how old frames are', () => {
  const base = stats(1, 0);
  const age = { median: 0.5, p99: 12 };
  const screen = { ...base.scanouts[0]!.screens[0]!, ages: { ...NO_AGES, staged: age, onScreen: age } };
  const shown = stats(1, 0, { scanouts: [{ scanout: 0, picture: '8x8', flushes: 1, screens: [screen] }] });
  expect(bridgeStatus(shown, null, 0, 0)[2]).toBe(
    '    ms since the flush, median (99 %): staged 0.50 (12.0), on screen 0.50 (12.0)',
  );
});

test('bridgeStatus: lists all who look on, and commands of control clients as input', () => {
  const vnc = [
    { address: '/run/vnc.sock', viewers: 2, isDriven: true, updates: 1, bytes: 1 },
    { address: '127.0.0.1:5900', viewers: 0, isDriven: false, updates: 0, bytes: 0 },
  ];
  const consumers = [{ pid: 7, uid: 1000, frames: 1, held: 0 }];
  const exports = { buffers: 1, guestBuffers: 0, consumers } as unknown as BridgeStats['exports'];
  const lines = bridgeStatus(stats(1, 0, { vnc, exports, control: { clients: 3, input: 5 } }), stats(1, 0), 1, 0);
  expect(lines.slice(-2)).toEqual([
    'input: control 5 (+5, drives)',
    'looking on: 2 viewers at /run/vnc.sock, one may drive; process 7 of user 1000; 3 control connections',
  ]);
});

test('bridgeStatus: tells a guest whose screen is off from one that is not there', () => {
  const off = { scanouts: [{ scanout: 0, picture: null, flushes: 0, screens: [] }] };
  const gone = { ...off, guest: { ...GUEST, connected: false } as unknown as BridgeStats['guest'] };
  expect(bridgeStatus(stats(0, 0, off), null, 0, 0)).toEqual([
    'scanout 0: off',
    'input: none',
    'looking on: 1 control connection',
  ]);
  expect(bridgeStatus(stats(0, 0, gone), null, 0, 0)[0]).toBe('scanout 0: no guest is connected');
  expect(bridgeStatus(stats(0, 0, gone), null, 0, 3)[0]).toBe('scanout 3: no guest is connected');
});
