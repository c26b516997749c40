import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { decodePng } from '../../../display/picture/png.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import { Replay } from '../../../src/guest/replay/replay.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { openDisplay } from '../../../src/testing/open-display.ts';
import { expectSamePicture } from '../../rig/picture.ts';
import { play } from '../guest/replay/play.ts';
import { HEIGHT, syntheticSession, WIDTH } from '../guest/replay/synthetic-guest.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import { FakeGuest } from '../display/wayland/window-rig.ts';

const FIXTURES = join(import.meta.dirname, '../../../fixtures');
const RECORDING = join(FIXTURES, 'console-boot.scanout');
const PATIENCE_MS = 60_000;

expectNoLeaks();

function directory(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'scanout-display-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test(
  'openDisplay: a recording stands still with its last picture, on a screen of the recorded size',
  async () => {
    using display = openDisplay({ guest: RECORDING });
    const picture = await display.waitForStable({ quietMs: 3000, timeoutMs: PATIENCE_MS });

    expectSamePicture(picture, decodePng(readFileSync(join(FIXTURES, 'console.png'))), 'display-console');
    expect(display.rung).toMatch(/shadow|udmabuf/);
  },
  PATIENCE_MS,
);

test(
  'openDisplay: waitForMatch resolves when a recording shows the picture of a file',
  async () => {
    using display = openDisplay({ guest: RECORDING });

    expect(await display.waitForMatch(join(FIXTURES, 'console.png'), { timeoutMs: PATIENCE_MS })).toMatchObject({
      width: 1280,
      height: 800,
    });
  },
  PATIENCE_MS,
);

test('openDisplay: waits reject when the recording is damaged', async () => {
  using dir = directory();
  const file = join(dir.path, 'cut.scanout');
  copyFileSync(RECORDING, file);
  truncateSync(file, 20_000);
  using display = openDisplay({ guest: file });

  await expect(display.waitForMatch(join(FIXTURES, 'console.png'))).rejects.toMatchObject({
    code: 'closed',
    message: expect.stringContaining('recording') as string,
  });
});

test('openDisplay: shows a VMM that connects to a vhost-user socket', async () => {
  using dir = directory();
  using display = openDisplay({
    guest: `vhost-user:${join(dir.path, 'gpu.sock')}`,
    size: { width: WIDTH, height: HEIGHT },
  });
  using guest = FrontEnd.create({
    socket: connectUnix(join(dir.path, 'gpu.sock')),
    memory: [
      { guestAddress: 0x10_0000, size: 8 * 2 ** 20 },
      { guestAddress: 5 * 2 ** 30, size: 8 * 2 ** 20 },
    ],
  });
  const still = display.waitForStable({ quietMs: 50 });
  await guest.connect();
  await play(guest, syntheticSession(0x10_0000, 5 * 2 ** 30, 3));

  expect(await still).toMatchObject({ width: WIDTH, height: HEIGHT });
  await expect(display.type('x')).rejects.toMatchObject({ code: 'input' });
  await expect(display.click(1, 1)).rejects.toMatchObject({ code: 'input' });
});

test('openDisplay: refuses a guest that another bridge shows, which keeps it', () => {
  const guest = new FakeGuest();
  using bridge = new Bridge(guest);
  const { sink } = guest;

  expect(() => openDisplay({ guest })).toThrow(
    expect.objectContaining({ code: 'usage', message: expect.stringContaining('already has a bridge') as string }),
  );

  expect(guest.sink).toBe(sink);
  bridge[Symbol.dispose]();
  openDisplay({ guest })[Symbol.dispose]();
});

test(
  'openDisplay: disposing the display leaves the given source open for another display',
  async () => {
    using guest = Replay.open({ file: RECORDING, speed: 'fast' });
    const first = openDisplay({ guest });
    first[Symbol.dispose]();
    using second = openDisplay({ guest });
    const picture = await second.waitForStable({ quietMs: 3000, timeoutMs: PATIENCE_MS });

    expectSamePicture(picture, decodePng(readFileSync(join(FIXTURES, 'console.png'))), 'display-second');
  },
  PATIENCE_MS,
);

test.each([
  ['a file that is not a recording', { guest: 'disk.qcow2' }, 'is not a guest'],
  ['a monitor that the guest does not have', { guest: new FakeGuest(), scanout: 2 }, 'scanout 2 of a guest with 2'],
  ['a monitor without a size', { guest: new FakeGuest(), size: { width: 0, height: 1 } }, 'is not a screen size'],
])('openDisplay: refuses %s', (_what, options, message) => {
  expect(() => openDisplay(options)).toThrow(
    expect.objectContaining({ code: 'usage', message: expect.stringContaining(message) as string }),
  );
});
