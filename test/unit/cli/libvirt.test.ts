import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkLibvirt } from '../../../src/cli/libvirt.ts';
import { connectUnix, socketPair } from '../../../src/sys/socket.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import { ended, type Outcome, scanout, start } from './scanout.ts';

const MEMORY = { guestAddress: 0x10_0000, size: 8 * 2 ** 20 };

let directory: string;
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-libvirt-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function libvirt(...args: string[]): Promise<Outcome> {
  const env = {
    XDG_CONFIG_HOME: file('config'),
    XDG_DATA_HOME: file("user's data"),
    XDG_RUNTIME_DIR: file('run'),
    WAYLAND_DISPLAY: 'wayland-7',
  };
  return ended(start(['libvirt', ...args], { env }));
}

const DESCRIPTOR = 'config/qemu/vhost-user/20-scanout-bridge.json';
const PROGRAM = "user's data/scanout-bridge/vhost-user-gpu";

describe('scanout libvirt', () => {
  test('install writes a descriptor of a program that prints its capabilities, and says what a domain needs', async () => {
    const { code, stdout } = await libvirt('install', '--session', '--output', "wayland,title=it's");

    expect(code).toBe(0);
    expect(stdout).toContain(`wrote ${file(DESCRIPTOR)}\n`);
    expect(stdout).toContain("<driver name='vhostuser'/>");
    const descriptor = JSON.parse(readFileSync(file(DESCRIPTOR), 'utf8')) as { binary: string };
    expect(descriptor).toMatchObject({ type: 'gpu', binary: file(PROGRAM), description: expect.any(String) as string });
    expect(statSync(descriptor.binary).mode & 0o777).toBe(0o755);
    const script = readFileSync(descriptor.binary, 'utf8');
    expect(script).toContain(`export WAYLAND_DISPLAY=wayland-7\n`);
    expect(script).toContain(`'--output=wayland,title=it'\\''s' "$@"`);
    const printed = execFileSync(descriptor.binary, ['--print-capabilities'], { encoding: 'utf8' });
    expect(JSON.parse(printed)).toEqual({ type: 'gpu', features: [] });
  });

  test('uninstall removes what install wrote, once', async () => {
    await libvirt('install', '--session');
    expect((await libvirt('uninstall', '--session')).stdout).toBe(
      `removed ${file(DESCRIPTOR)}\nremoved ${file(PROGRAM)}\n`,
    );
    expect([existsSync(file(DESCRIPTOR)), existsSync(file("user's data/scanout-bridge"))]).toEqual([false, false]);
    expect(await libvirt('uninstall', '--session')).toMatchObject({ code: 0, stdout: 'nothing was installed\n' });
  });

  test.each([
    ['an output that is none', ['install', '--session', '--output', 'screen'], '--output: cannot use'],
    ["windows of the system's libvirt by default", ['install'], 'choose an --output'],
    ['an unknown action', ['remove'], 'Allowed choices are install, uninstall'],
  ])('refuses %s', async (_what, args, why) => {
    expect(await libvirt(...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(why) as string });
  });

  test('says what it cannot write', async () => {
    const outcome = await ended(
      start(['libvirt', 'install', '--session'], {
        env: { XDG_CONFIG_HOME: '/dev/null/none', XDG_DATA_HOME: '/dev/null/none' },
      }),
    );
    expect(outcome).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^scanout: cannot write \/dev\/null\/none\/.*\n$/) as string,
    });
  });
});

test('checkLibvirt: says whether libvirt is there and starts the program', async () => {
  const env = { PATH: file('bin'), XDG_CONFIG_HOME: file('config'), XDG_DATA_HOME: file("user's data") };
  mkdirSync(file('bin'));
  writeFileSync(file('bin/virtqemud'), '');
  expect(checkLibvirt(env, [file('sbin')])).toMatchObject({ ok: false, detail: 'not installed' });
  chmodSync(file('bin/virtqemud'), 0o755);
  expect(checkLibvirt(env)).toMatchObject({ ok: false, detail: 'starts no program of scanout' });
  await libvirt('install', '--session');
  expect(checkLibvirt(env)).toMatchObject({ ok: true, detail: `starts ${file(PROGRAM)}` });
  rmSync(file(PROGRAM));
  expect(checkLibvirt(env)).toMatchObject({ ok: false, detail: `${file(PROGRAM)} is not there` });
});

describe('scanout vhost-user-gpu', () => {
  const options = ['--output', 'headless:64x48', '--sandbox', 'off'];

  test('with --fd ends when the VMM disconnects', async () => {
    const [ours, theirs] = socketPair();
    const child = start(['vhost-user-gpu', '--fd=3', '--control', file('control'), ...options], { fds: [theirs.fd] });
    const outcome = ended(child);
    theirs[Symbol.dispose]();
    await once(child.stdout!, 'data');
    using guest = FrontEnd.create({ socket: ours, memory: [MEMORY] });
    await guest.connect();
    guest[Symbol.dispose]();

    expect(await outcome).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('exiting: the VMM has disconnected') as string,
    });
  });

  test('with --socket-path listens for one VMM, and leaves nothing behind', async () => {
    const child = start(['vhost-user-gpu', '--socket-path', file('gpu'), '--control', file('control'), ...options]);
    const outcome = ended(child);
    await once(child.stdout!, 'data');
    using guest = FrontEnd.create({ socket: connectUnix(file('gpu')), memory: [MEMORY] });
    await guest.connect();
    guest[Symbol.dispose]();

    expect((await outcome).code).toBe(0);
    expect(existsSync(file('gpu'))).toBe(false);
  });

  test.each([
    ['neither', []],
    ['both', ['--fd', '3', '--socket-path', '/tmp/x']],
    ['standard output', ['--fd', '1']],
  ])('refuses %s as the place where the VMM connects', async (_what, args) => {
    expect((await scanout('vhost-user-gpu', ...args)).code).toBe(2);
  });
});
