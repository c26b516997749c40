/** Real Debian guests that `launchGuest` starts, used as a test does. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launchGuest, type LaunchedGuest, openDisplay, type TestDisplay } from '../../src/testing/index.ts';
import { guestImage, skipWithoutGuest } from '../rig/guest-image.ts';
import { GuestShell } from '../rig/guest-shell.ts';
import { resources, resourcesBefore } from '../rig/our-gpu.ts';

const SIZE = { width: 1024, height: 768 };
/** The rig's guests mount the root of this machine by 9p and run a shell on a virtio port. */
const ROOT = [
  '-fsdev',
  'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap',
  '-device',
  'virtio-9p-pci,fsdev=root,mount_tag=root',
];
const QUIET = 'console=ttyS0 quiet loglevel=0 vt.global_cursor_default=0 consoleblank=0 panic=-1 mitigations=off';
const ASCII = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join('');

const axis = (position: number, size: number): number => Math.ceil((position * 0x8000) / size);

describe.skipIf(skipWithoutGuest('/usr/bin/evtest'))('launchGuest', () => {
  let before: ReturnType<typeof resources>;
  let directory: string;
  let guest: LaunchedGuest;
  let display: TestDisplay;
  let port: Socket;
  let shell: GuestShell;

  beforeAll(async () => {
    before = await resourcesBefore();
    directory = mkdtempSync(join(tmpdir(), 'scanout-launched-'));
    const path = join(directory, 'port');
    const server = createServer();
    const connected = new Promise<Socket>((resolve) => server.on('connection', resolve).listen(path));
    const { kernel, initrd } = guestImage();
    const args = [
      ...ROOT,
      '-device',
      'virtio-serial-pci',
      '-chardev',
      `socket,id=port,path=${path}`,
      '-device',
      'virtserialport,chardev=port',
    ];
    guest = await launchGuest({ kernel, initrd, append: QUIET, memoryMiB: 512, size: SIZE, accel: 'tcg', args });
    display = openDisplay({ guest });
    port = await connected;
    server.close();
    shell = new GuestShell(port);
    // The kernel drops what is typed on a console that no process has open.
    await shell.run('exec 4</dev/tty1');
  });
  afterAll(async () => {
    await guest.kill();
    port.destroy();
    rmSync(directory, { recursive: true, force: true });
  });

  /** What the guest reads from its console up to a line. */
  const linesUntil = (last: string): Promise<string> =>
    shell.run(`while IFS= read -r line <&4; do printf '%s\\n' "$line"; [ "$line" = '${last}' ] && break; done`);

  test('gives the guest a monitor of the requested size', () => {
    expect(display.screenshot()).toMatchObject(SIZE);
    expect(display.rung).toBe(existsSync('/dev/udmabuf') ? 'udmabuf' : 'shadow');
    expect(() => openDisplay({ guest, size: { width: 640, height: 480 } })).toThrow(
      expect.objectContaining({ code: 'usage' }),
    );
  });

  test('typing shows the same picture as writing to the console', async () => {
    await shell.run("printf '\\033[2J\\033[Hecho hello\\n' >/dev/tty1");
    const written = await display.waitForStable();
    await shell.run("printf '\\033[2J\\033[H' >/dev/tty1");
    await display.type('echo hello\n');

    await display.waitForMatch(written);
    expect(await linesUntil('echo hello')).toBe('echo hello\n');
  });

  test('typing delivers every ASCII character and a long text', async () => {
    const long = 'Sphinx of black quartz, judge my vow: 0123456789!\n'.repeat(8);
    const read = linesUntil('.');
    await display.type(`${ASCII}\n${long}.\n`);

    expect(await read).toBe(`${ASCII}\n${long}.\n`);
  });

  test('click and press reach the guest with the right position and keys', async () => {
    await shell.run(
      "mkfifo /run/events; stdbuf -oL evtest /dev/input/$(basename $(dirname $(dirname $(grep -lx 'scanout-bridge keyboard and pointer' /sys/class/input/event*/device/name)))) >/run/events 2>&1 & exec 5</run/events; while read -r line <&5; do case $line in *interrupt*) break;; esac; done",
    );
    await display.click(512, 192);
    await display.press('shift+F12');
    const events = await shell.run(
      'while read -r line <&5; do echo "$line"; case $line in *KEY_LEFTSHIFT*\'value 0\') break;; esac; done',
    );

    expect(
      [...events.matchAll(/code \d+ \((\w+)\), value (-?\d+)/g)].map(([, name, value]) => `${name!} ${value!}`),
    ).toEqual([
      `ABS_X ${axis(512, SIZE.width)}`,
      `ABS_Y ${axis(192, SIZE.height)}`,
      'BTN_LEFT 1',
      'BTN_LEFT 0',
      'KEY_LEFTSHIFT 1',
      'KEY_F12 1',
      'KEY_F12 0',
      'KEY_LEFTSHIFT 0',
    ]);
  });

  test('qmp resolves with the result of a command', async () => {
    expect(await guest.qmp('query-status')).toMatchObject({ status: 'running' });
    await expect(guest.qmp('no-such-command')).rejects.toThrow('no-such-command');
  });

  test('a wait rejects with the exit status when the guest powers off', async () => {
    const wait = expect(display.waitForMatch({ width: 1, height: 1, data: new Uint8Array(4) })).rejects.toMatchObject({
      code: 'closed',
      message: expect.stringMatching(/the guest is gone: qemu-system-x86_64 exited with code 0/) as string,
    });
    shell.send('echo o >/proc/sysrq-trigger');

    await wait;
    await expect(guest.qmp('query-status')).rejects.toMatchObject({ code: 'exited' });
  });

  test('kill leaves no descriptors, mappings or files', async () => {
    display[Symbol.dispose]();
    await guest.kill();
    port.destroy();

    expect(resources()).toEqual(before);
    expect(readdirSync(directory)).toEqual([]);
  });

  test('rejects with the end of the console when the guest cannot boot', async () => {
    const { kernel } = guestImage();
    const launch = launchGuest({
      kernel,
      append: 'console=ttyS0 panic=-1',
      memoryMiB: 256,
      accel: 'tcg',
      args: ['-no-reboot'],
    });

    await expect(launch).rejects.toMatchObject({
      code: 'exited',
      message: expect.stringMatching(/exited with code 0; last output:[^]*Kernel panic/) as string,
    });
    expect(resources()).toEqual(before);
  });
});
