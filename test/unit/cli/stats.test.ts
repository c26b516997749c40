import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Outcome, scanout } from './scanout.ts';

const HOSTILE = '\x1b]0;mine\x07\x1b[2J\x9b31mred\x7f';
const GUEST = { connected: true, commands: 1, errors: 0, flushes: 1, transfers: 0, resources: 1, storeBytes: 0 };

const CONTROL = { clients: 1, input: 0 };

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-stats-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Runs the command against a bridge that gives an answer of its own. */
async function answeredBy(reply: unknown, ...args: string[]): Promise<Outcome> {
  const control = join(directory, 'control.sock');
  const fake = createServer((socket) => socket.end(`${JSON.stringify(reply)}\n`)).listen(control);
  await once(fake, 'listening');
  try {
    return await scanout(...args, '--control', control);
  } finally {
    fake.close();
  }
}

test.each<[string, unknown]>([
  ['no statistics', { ok: true }],
  ['statistics of nothing', { ok: true, stats: null }],
  ['no scanouts', { ok: true, stats: { guest: GUEST } }],
  ['text as a number', { ok: true, stats: { guest: { ...GUEST, commands: HOSTILE }, scanouts: [] } }],
  ['a scanout of nothing', { ok: true, stats: { guest: GUEST, scanouts: [null] } }],
  ['no sandbox', { ok: true, stats: { guest: GUEST, scanouts: [] } }],
  [
    'a plane of nothing',
    {
      ok: true,
      stats: { guest: GUEST, scanouts: [{ scanout: 0, picture: null, screens: [{ output: 'x', frames: 1 }] }] },
    },
  ],
])('scanout stats: exits with 1 and without a stack if a bridge answers with %s', async (_what, reply) => {
  const { code, stdout, stderr } = await answeredBy(reply, 'stats');

  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^scanout: [^\n]*the answer is not statistics[^\n]*\n$/);
});

test('scanout stats: prints nothing of a bridge that a terminal would obey, as text or as JSON', async () => {
  const sandbox = { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null };
  const stats = {
    guest: GUEST,
    scanouts: [{ scanout: 0, picture: HOSTILE, screens: [] }],
    exports: null,
    vnc: null,
    clipboard: null,
    control: CONTROL,
    sandbox,
  };

  const text = await answeredBy({ ok: true, stats }, 'stats');
  const json = await answeredBy({ ok: true, stats }, 'stats', '--json');

  expect(text.stdout).toContain('scanout 0: ?]0;mine??[2J?31mred?\n');
  expect(json.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(JSON.parse(json.stdout)).toEqual(stats);
});

test('scanout stats: lists the consumers of an exported guest, and says what a shared clipboard lacks', async () => {
  const sandbox = { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null };
  const vnc = [{ address: '127.0.0.1:5900', viewers: 2, isDriven: true, updates: 30, bytes: 2 ** 20 }];
  const exports = { buffers: 3, guestBuffers: 1, consumers: [{ pid: 7, uid: 1000, frames: 60, held: 1 }] };

  const { stdout } = await answeredBy(
    {
      ok: true,
      stats: {
        guest: GUEST,
        scanouts: [],
        exports,
        vnc,
        clipboard: { connected: true, agent: false },
        control: { clients: 2, input: 9 },
        sandbox,
      },
    },
    'stats',
  );

  expect(stdout).toContain(
    'exports: 3 buffers, 1 of them by guest programs\n  process 7 of user 1000: 60 frames, 1 not released\n',
  );
  expect(stdout).toContain('vnc 127.0.0.1:5900: 2 viewers, one drives, 30 updates, 1.0 MiB encoded\n');
  expect(stdout).toContain('control: 2 clients, 9 input commands\n');
  expect(stdout).toContain('clipboard: no agent yet: install spice-vdagent in the guest\n');
});

test('scanout stats: tells how old frames are at each stage, as far as they came', async () => {
  const sandbox = { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null };
  const plane = { rung: 'shadow', copiedBytes: 1, shadowBytes: 0 };
  const age = (median: number) => ({ median, p99: median * 2 });
  const ages = { staged: age(0.1234), presented: age(0.5), onScreen: age(16.72), released: null };
  const screens = [{ output: 'x', frames: 7, input: 2, ages, primary: plane, cursor: plane }];
  const scanouts = [{ scanout: 0, picture: '8x8', screens }];
  const stats = { guest: GUEST, scanouts, exports: null, vnc: null, clipboard: null, control: CONTROL, sandbox };
  expect((await answeredBy({ ok: true, stats }, 'stats')).stdout).toContain(
    '  x: 7 frames, 2 input events; ms after the flush, median and 99 %: staged 0.12 (0.25), presented 0.50 (1.00), on screen 16.7 (33.4)\n',
  );
});

test.each([
  [true, 'shared, if an agent runs in the guest'],
  [false, 'not connected: QEMU does not share its own'],
])("scanout stats: says what it knows of QEMU's clipboard, connected: %s", async (connected, text) => {
  const sandbox = { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: null };
  const stats = {
    guest: GUEST,
    scanouts: [],
    exports: null,
    vnc: null,
    clipboard: { connected, agent: null },
    control: CONTROL,
    sandbox,
  };
  expect((await answeredBy({ ok: true, stats }, 'stats')).stdout).toContain(`clipboard: ${text}\n`);
});

test('scanout screenshot: prints nothing of an error that a terminal would obey', async () => {
  const { code, stderr } = await answeredBy(
    { ok: false, code: 'no-picture', message: HOSTILE },
    'screenshot',
    join(directory, 'never.png'),
  );

  expect({ code, stderr }).toEqual({ code: 1, stderr: 'scanout: ?]0;mine??[2J?31mred?\n' });
});
