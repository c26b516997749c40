import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { VHOST_USER } from '../../../protocols/vhost-user.ts';
import { VIRTIO_INPUT_CFG_ID_NAME, virtio_input_config } from '../../../protocols/virtio-input.ts';
import { crop } from '../../../display/picture/difference.ts';
import { decodePng } from '../../../display/picture/png.ts';
import { ControlClient, requestStats } from '../../../src/control/client.ts';
import type { ControlError } from '../../../src/control/protocol.ts';
import type { SessionStats } from '../../../src/control/stats.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { connectUnix, listenUnix, socketPair } from '../../../src/sys/socket.ts';
import { play } from '../guest/replay/play.ts';
import { HEIGHT, syntheticSession, WIDTH } from '../guest/replay/synthetic-guest.ts';
import { ended, scanout, start } from './scanout.ts';

const LOW = { guestAddress: 0x10_0000, size: 8 * 2 ** 20 };
const HIGH = { guestAddress: 5 * 2 ** 30, size: 8 * 2 ** 20 };

let directory: string;
let children: ChildProcess[];
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-session-'));
  children = [];
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

/** Starts a bridge; resolves when it listens. */
async function bridge(args: readonly string[], fds: readonly number[] = []): Promise<ChildProcess> {
  const child = start(args, { fds, env: { XDG_RUNTIME_DIR: directory } });
  children.push(child);
  await once(child.stdout!, 'data');
  return child;
}

async function playGuest(socket: OwnedFd, frames: number): Promise<FrontEnd> {
  const guest = FrontEnd.create({ socket, memory: [LOW, HIGH] });
  await guest.connect();
  await play(guest, syntheticSession(LOW.guestAddress, HIGH.guestAddress, frames));
  return guest;
}

test('scanout run: shows and records a guest, answers stats and screenshot, and the recording replays to the same picture', async () => {
  const running = await bridge([
    'run',
    '--guest',
    `vhost-user:${file('gpu.sock')}`,
    '--output',
    'headless:1280x800@1000',
    '--control',
    file('c.sock'),
    '--record',
    file('s.scanout'),
  ]);
  using guest = await playGuest(connectUnix(file('gpu.sock')), 12);

  const stats = (await requestStats(file('c.sock'))) as SessionStats;
  const onScreen = await new ControlClient(file('c.sock')).screenshot({ output: true });
  const text = await scanout('stats', '--control', file('c.sock'));
  const shot = await scanout('screenshot', '--control', file('c.sock'), file('shot.png'));
  const withoutCursor = await scanout('screenshot', '--control', file('c.sock'), '--no-cursor', file('bare.png'));
  const still = await scanout('screenshot', '--control', file('c.sock'), '--quiet-ms', '50', file('still.png'));
  const never = await scanout(
    'screenshot',
    '--control',
    file('c.sock'),
    '--wait-stable',
    '--quiet-ms',
    '9000',
    '--timeout-ms',
    '50',
    file('never.png'),
  );
  const elsewhere = await scanout('screenshot', '--control', file('c.sock'), '--scanout', '1', file('other.png'));
  guest[Symbol.dispose]();
  const ending = ended(running);
  running.kill('SIGTERM');
  const end = await ending;
  const replayed = await scanout('replay', file('s.scanout'), '--fast', '--png', file('replayed.png'));

  expect(stats.guest).toMatchObject({ connected: true, flushes: 12, errors: 1, resources: 3 });
  expect(stats.scanouts[0]).toMatchObject({ picture: `${WIDTH}x${HEIGHT}`, screens: [{ output: 'headless' }] });
  expect(text.stdout).toContain(`scanout 0: ${WIDTH}x${HEIGHT}`);
  expect([shot.code, withoutCursor.code, still.code, elsewhere.code, replayed.code]).toEqual([0, 0, 0, 1, 0]);
  expect(elsewhere.stderr).toContain('scanout 1');
  expect(readFileSync(file('still.png'))).toEqual(readFileSync(file('shot.png')));
  expect(never).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^scanout: headless did not stand still for 9000 ms within 50 ms\./) as string,
  });
  const picture = decodePng(readFileSync(file('shot.png')));
  expect(picture).toMatchObject({ width: WIDTH, height: HEIGHT });
  expect({ ...onScreen, data: new Uint8Array(onScreen.data) }).toEqual(picture);
  expect(readFileSync(file('bare.png'))).not.toEqual(readFileSync(file('shot.png')));
  expect(decodePng(readFileSync(file('replayed.png')))).toEqual(picture);
  expect(end.code).toBe(0);
  expect(end.stderr).toMatch(/front end connected[^]*front end disconnected/);
  expect(readdirSync(directory).sort()).toEqual(['bare.png', 'replayed.png', 's.scanout', 'shot.png', 'still.png']);
});

test('scanout run: a scanout without a headless output can be seen and waited for, whole or a region', async () => {
  const path = `vhost-user:${file('gpu.sock')}`;
  await bridge(
    ['run', '--guest', path, '--scanouts', '2', '--output', `export:${file('e.sock')}`].concat(
      ['--control', file('c.sock')],
      ['--record', file('s.scanout')],
    ),
  );
  using guest = await playGuest(connectUnix(file('gpu.sock')), 12);
  const shoot = (...args: string[]) => scanout('screenshot', '--control', file('c.sock'), ...args);

  const outcomes = [
    await shoot(file('shot.png')),
    await shoot('--no-cursor', file('bare.png')),
    await shoot('--quiet-ms', '50', file('still.png')),
    await shoot('--region', '20x10+30+8', file('part.png')),
    await shoot('--region', '20x10+30+8', '--quiet-ms', '50', file('still-part.png')),
  ];
  const outside = await shoot('--region', `20x10+${WIDTH - 19}+0`, file('never.png'));
  const off = await shoot('--scanout', '1', file('never.png'));
  const missing = await shoot('--scanout', '2', file('never.png'));
  const client = new ControlClient(file('c.sock'));
  const hello = await client.hello();
  const following = start(['stats', '--follow', '--json', '--control', file('c.sock')]);
  children.push(following);
  let followed = '';
  for await (const part of following.stdout!.setEncoding('utf8') as AsyncIterable<string>)
    if ((followed += part).split('\n').length > 2) break;
  await client.waitForStable({ quietMs: 50 });
  const watching = client.watch();
  const { value: seen } = await watching.next();
  await watching.return();
  const matched = await client.waitForMatch(decodePng(readFileSync(file('shot.png'))));
  const refused = await Promise.all(
    [
      client.waitForChange({ timeoutMs: 50 }),
      client.waitForStable({ scanout: 2 }),
      client.watch({ scanout: 2 }).next(),
      client.type('x'),
      client.screenshot({ output: true }),
    ].map((asked) => asked.catch((error: unknown) => (error as ControlError).code)),
  );
  const stats = (await requestStats(file('c.sock'))) as SessionStats;
  guest[Symbol.dispose]();
  const ending = ended(children[0]!);
  children[0]!.kill('SIGTERM');
  await ending;
  await scanout('replay', file('s.scanout'), '--fast', '--png', file('replayed.png'));

  expect(outcomes).toMatchObject(outcomes.map(() => ({ code: 0, stderr: '' })));
  const picture = decodePng(readFileSync(file('replayed.png')));
  expect(decodePng(readFileSync(file('shot.png')))).toEqual(picture);
  expect(decodePng(readFileSync(file('still.png')))).toEqual(picture);
  expect(decodePng(readFileSync(file('bare.png')))).not.toEqual(picture);
  const part = crop(picture, { x: 30, y: 8, width: 20, height: 10 });
  expect(decodePng(readFileSync(file('part.png')))).toEqual(part);
  expect(decodePng(readFileSync(file('still-part.png')))).toEqual(part);
  expect(outside.stderr).toBe(
    `scanout: 20x10+${WIDTH - 19}+0 is not within the picture, which has ${WIDTH}x${HEIGHT} pixels\n`,
  );
  expect(off.stderr).toBe('scanout: scanout 1 is off: the guest shows nothing yet\n');
  expect(missing.stderr).toBe('scanout: there is no scanout 2: the guest has 2, counted from 0\n');
  expect(
    followed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as SessionStats),
  ).toMatchObject(Array(2).fill({ guest: { connected: true, flushes: 12 } }));
  expect(hello).toEqual({ protocol: 1, scanouts: 2, keyboard: false, touch: false });
  expect(seen).toMatchObject({ frames: 0, width: WIDTH, height: HEIGHT });
  expect(matched).toMatchObject({ width: WIDTH, height: HEIGHT });
  expect(refused).toEqual(['timeout', 'no-scanout', 'no-scanout', 'input', 'no-output-picture']);
  // They left nothing behind and were no screens.
  expect(stats.scanouts.map(({ screens }) => screens.map(({ output }) => output))).toEqual([
    ['export-0'],
    ['export-1'],
  ]);
  expect(existsSync(file('never.png'))).toBe(false);
});

test('scanout record: completes the recording on Ctrl-C', async () => {
  const running = await bridge([
    'record',
    '--guest',
    `vhost-user:${file('gpu.sock')}`,
    '--control',
    file('c.sock'),
    file('s.scanout'),
  ]);
  using guest = await playGuest(connectUnix(file('gpu.sock')), 3);
  guest[Symbol.dispose]();
  const ending = ended(running);
  running.kill('SIGINT');

  expect((await ending).code).toBe(0);
  expect((await scanout('replay', '--fast', file('s.scanout'))).stdout).toContain('3 flushes, 1 refused');
});

test('scanout run: accepts an inherited listening socket', async () => {
  using listener = listenUnix(file('gpu.sock'));
  await bridge(['run', '--guest', 'vhost-user:fd=3', '--control', file('c.sock')], [listener.fd]);
  using guest = await playGuest(connectUnix(file('gpu.sock')), 1);

  expect(guest.running).toBe(true);
  expect(await requestStats(file('c.sock'))).toMatchObject({ guest: { connected: true, flushes: 1 } });
});

test('scanout run: accepts an inherited connected socket', async () => {
  const [ours, theirs] = socketPair();
  await bridge(['run', '--guest', 'vhost-user:fd=3', '--control', file('c.sock')], [theirs.fd]);
  theirs[Symbol.dispose]();
  using guest = await playGuest(ours, 1);

  expect(guest.running).toBe(true);
});

test('scanout run: gives up the displays of a VMM that hands out one after the other and answers none', async () => {
  const running = await bridge([
    'run',
    '--guest',
    `vhost-user:${file('gpu.sock')}`,
    '--output',
    'vmm',
    '--control',
    file('c.sock'),
  ]);
  using guest = FrontEnd.create({ socket: connectUnix(file('gpu.sock')), memory: [LOW] });
  await guest.connect();
  const [ours, theirs] = socketPair();
  using _ours = ours;
  using _theirs = theirs;
  const fds = (): number => readdirSync(`/proc/${running.pid}/fd`).length;
  const before = fds();
  for (let i = 0; i < 50; i++) await guest.channel.set(VHOST_USER.GPU_SET_SOCKET, undefined, [theirs]);
  await requestStats(file('c.sock'));
  expect(fds() - before).toBeLessThan(5);
});

test('scanout run: listens for input devices on their sockets', async () => {
  const running = start([
    'run',
    '--guest',
    `vhost-user:${file('gpu.sock')}`,
    '--input',
    `vhost-user:${file('i.sock')}`,
    '--input',
    `vhost-user:${file('t.sock')},kind=touch`,
    '--control',
    file('c.sock'),
  ]);
  children.push(running);
  const [said] = (await once(running.stdout!, 'data')) as [Buffer];
  using keyboard = FrontEnd.create({ socket: connectUnix(file('i.sock')), memory: [LOW], queueSizes: [4, 4] });
  using touch = FrontEnd.create({ socket: connectUnix(file('t.sock')), memory: [LOW], queueSizes: [4, 4] });
  const names: string[] = [];
  for (const device of [keyboard, touch]) {
    await device.connect();
    await device.writeConfig(0, Uint8Array.of(VIRTIO_INPUT_CFG_ID_NAME, 0));
    const { u, size } = virtio_input_config.decode(await device.readConfig(0, virtio_input_config.size));
    names.push(Buffer.from(u.subarray(0, size)).toString());
  }

  expect(names).toEqual(['scanout-bridge keyboard and pointer', 'scanout-bridge touchscreen']);
  expect(said.toString()).toContain(
    `qemu-args --socket ${file('gpu.sock')} --input ${file('i.sock')} --input ${file('t.sock')} --memory`,
  );
});

test('scanout run: names the option of an input socket that it cannot listen on', async () => {
  const end = await ended(
    start([
      'run',
      '--guest',
      `vhost-user:${file('gpu.sock')}`,
      '--input',
      `vhost-user:${file('none/i.sock')}`,
      '--control',
      file('c.sock'),
    ]),
  );

  expect(end).toMatchObject({ code: 1, stderr: expect.stringContaining('--input: cannot listen') as string });
  expect(existsSync(file('gpu.sock'))).toBe(false);
});

test('scanout run: runs without the default control socket if that is in use, and fails for an explicit one', async () => {
  await bridge(['run', '--guest', `vhost-user:${file('1.sock')}`]);
  expect(existsSync(file('scanout-bridge.sock'))).toBe(true);

  const second = await bridge(['run', '--guest', `vhost-user:${file('2.sock')}`]);
  const third = await ended(
    start(['run', '--guest', `vhost-user:${file('3.sock')}`, '--control', file('scanout-bridge.sock')]),
  );

  const ending = ended(second);
  second.kill('SIGTERM');
  expect(await ending).toMatchObject({ code: 0, stderr: expect.stringContaining('no control socket') as string });
  expect(third).toMatchObject({ code: 1, stderr: expect.stringContaining('another running bridge') as string });
  expect(existsSync(file('3.sock'))).toBe(false);
});

test('scanout run: gives its sockets back on SIGHUP', async () => {
  const running = await bridge(['run', '--guest', `vhost-user:${file('gpu.sock')}`, '--control', file('c.sock')]);
  const ending = ended(running);
  running.kill('SIGHUP');

  expect(await ending).toMatchObject({ code: 0, stderr: expect.stringContaining('exiting: SIGHUP') as string });
  expect(readdirSync(directory)).toEqual([]);
});

test('scanout run: opens no debugger on SIGUSR1', async () => {
  const running = await bridge(['run', '--guest', `vhost-user:${file('gpu.sock')}`, '--control', file('c.sock')]);
  running.kill('SIGUSR1');
  await requestStats(file('c.sock'));
  const ending = ended(running);
  running.kill('SIGTERM');

  expect(await ending).toMatchObject({ code: 0, stderr: expect.not.stringContaining('Debugger') as string });
});

test('scanout run: goes on when the reader of its log has gone', async () => {
  const running = await bridge(['run', '--guest', `vhost-user:${file('gpu.sock')}`, '--control', file('c.sock')]);
  const closed = once(running, 'close');
  running.stderr!.destroy();
  await once(running.stderr!, 'close');
  // Each connection of a front end is a line of the log.
  for (let i = 0; i < 3; i++) {
    using guest = await playGuest(connectUnix(file('gpu.sock')), 1);
    expect(guest.running).toBe(true);
    expect(await requestStats(file('c.sock'))).toMatchObject({ guest: { connected: true } });
  }
  running.kill('SIGTERM');

  expect(await closed).toEqual([0, null]);
});

test('scanout record: replaces a symlink and does not write through it', async () => {
  writeFileSync(file('precious'), 'precious', { mode: 0o644 });
  symlinkSync(file('precious'), file('s.scanout'));
  const running = await bridge([
    'record',
    '--guest',
    `vhost-user:${file('gpu.sock')}`,
    '--control',
    file('c.sock'),
    file('s.scanout'),
  ]);
  const ending = ended(running);
  running.kill('SIGTERM');

  expect((await ending).code).toBe(0);
  expect(readFileSync(file('precious'), 'utf8')).toBe('precious');
  expect(lstatSync(file('s.scanout')).mode & 0o170777).toBe(0o100600);
});
