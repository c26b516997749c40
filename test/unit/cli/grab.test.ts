import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodePng } from '../../../display/picture/png.ts';
import { requestStats } from '../../../src/control/client.ts';
import type { BridgeStats } from '../../../src/control/stats.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import { play } from '../guest/replay/play.ts';
import { HEIGHT, syntheticSession, WIDTH } from '../guest/replay/synthetic-guest.ts';
import { scanout, start } from './scanout.ts';

const LOW = { guestAddress: 0x10_0000, size: 8 * 2 ** 20 };
const HIGH = { guestAddress: 5 * 2 ** 30, size: 8 * 2 ** 20 };

let directory: string;
let children: ChildProcess[];
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-grab-'));
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

/** A bridge that exports a guest which has drawn; resolves when it has. */
async function exported(choices = ''): Promise<FrontEnd> {
  const child = start([
    ...['run', '--guest', `vhost-user:${file('gpu')}`, '--control', file('control')],
    ...['--output', 'headless:1280x800@1000', '--output', `export:${file('export')}${choices}`],
  ]);
  children.push(child);
  await once(child.stdout!, 'data');
  const guest = FrontEnd.create({ socket: connectUnix(file('gpu')), memory: [LOW, HIGH] });
  await guest.connect();
  await play(guest, syntheticSession(LOW.guestAddress, HIGH.guestAddress, 3));
  return guest;
}

describe('scanout grab', () => {
  test('writes raw pictures that are the screenshots of the same guest, and is seen in stats', async () => {
    using guest = await exported();
    await scanout('screenshot', '--control', file('control'), file('shot.png'));
    const shot = decodePng(readFileSync(file('shot.png')));
    const grabbing = start(['grab', file('export'), '--raw', '--seconds', '0.3', '--fps', '10']);
    children.push(grabbing);
    const closed = once(grabbing, 'close');
    const film = await buffer(grabbing.stdout!);
    await closed;

    expect(grabbing.exitCode).toBe(0);
    expect([shot.width, shot.height, film.length]).toEqual([WIDTH, HEIGHT, 3 * shot.data.length]);
    for (let frame = 0; frame < 3; frame++)
      expect(film.subarray(frame * shot.data.length, (frame + 1) * shot.data.length).equals(shot.data)).toBe(true);
    const stats = (await requestStats(file('control'))) as BridgeStats;
    expect(stats.exports).toMatchObject({ guestBuffers: 0, consumers: [] });
    expect(stats.scanouts[0]!.screens.map(({ output }) => output)).toEqual(['headless', 'export']);
    expect(guest).toBeDefined();
  });

  test('writes a YUV4MPEG2 stream, and ends when its reader does', async () => {
    using guest = await exported();
    const grabbing = start(['grab', file('export')]);
    children.push(grabbing);
    const closed = once(grabbing, 'close');
    const [first] = (await once(grabbing.stdout!, 'data')) as [Buffer];
    grabbing.stdout!.destroy();
    await closed;

    expect(first.toString('latin1')).toMatch(
      new RegExp(`^YUV4MPEG2 W${WIDTH} H${HEIGHT} F30:1 Ip A1:1 C444p12 XYSCSS=444P12 XCOLORRANGE=LIMITED\n`),
    );
    expect(grabbing.exitCode).toBe(0);
    expect(guest).toBeDefined();
  });

  test('fails with a line that says what to do', async () => {
    using guest = await exported();
    const nothing = await scanout('grab', file('nothing'));
    const wrongScanout = await scanout('grab', file('export'), '--scanout', '1');
    const wrongSocket = await scanout('grab', file('control'));

    expect([nothing.code, nothing.stderr]).toEqual([
      1,
      `scanout: ${file('nothing')}: no bridge exports there; start one with scanout run --output export:${file('nothing')}\n`,
    ]);
    expect([wrongScanout.code, wrongScanout.stderr]).toEqual([
      2,
      'scanout: --scanout 1: the guest has 1, counted from 0\n',
    ]);
    expect(wrongSocket.code).toBe(1);
    expect(wrongSocket.stderr).toMatch(/^scanout: [^\n]+\n$/);
    expect(guest).toBeDefined();
  });
});

describe('scanout run --output export', () => {
  test('gives the socket its mode and group', async () => {
    using guest = await exported(`,mode=660,group=${process.getgid!()}`);
    const { mode, gid } = statSync(file('export'));
    expect([mode & 0o777, gid]).toEqual([0o660, process.getgid!()]);
    expect(guest).toBeDefined();
  });

  test.each([
    [
      'a group that does not exist',
      () => `export:${file('export')},group=no-such-group`,
      2,
      'there is no such group on this machine',
    ],
    [
      'a path that is taken',
      () => `export:${file('taken')}`,
      1,
      'another process listens on it, or it is not a socket',
    ],
    ['a directory that does not exist', () => `export:${file('no/export')}`, 1, 'its directory does not exist'],
    ['a size that is no screen', () => `export:${file('export')},size=0x0`, 2, 'is no screen'],
  ])('refuses %s', async (_, output, code, why) => {
    writeFileSync(file('taken'), '');
    const outcome = await scanout('run', '--guest', `vhost-user:${file('gpu')}`, '--output', output());
    expect(outcome.code).toBe(code);
    expect(outcome.stderr).toContain(why);
    expect(outcome.stderr).toMatch(/^scanout: [^\n]+\n$/m);
  });
});
