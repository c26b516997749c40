/** Real machines of QEMU over its D-Bus display, compared with QEMU's own screendump. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KEY } from '../../protocols/input-event-codes.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { ConsoleStats } from '../../src/guest/qemu-dbus/console.ts';
import { DbusMachine } from '../rig/dbus-machine.ts';
import { newerQemu } from '../rig/guest-image.ts';
import { skipBecause, skipWithoutProgram } from '../rig/skip.ts';
import { systemCallsWhile } from '../rig/system-calls.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';
import { eventually } from '../rig/eventually.ts';

const MEMTEST = '/boot/memtest86+x64.bin';
const GRUB = '/usr/lib/grub/i386-pc';
const OVMF = '/usr/share/OVMF/OVMF_CODE_4M.fd';
const missing = [MEMTEST, `${GRUB}/boot.img`, OVMF, newerQemu].filter((file) => !existsSync(file));
const isSkipped =
  skipWithoutProgram('qemu-system-x86_64') ||
  skipWithoutProgram('strace') ||
  (missing.length > 0 && skipBecause(`${missing.join(', ')} missing: run sh test/rig/install.sh as root`));

/** The pixels of the cursor of a text mode: two rows of a character. */
const CURSOR = 2 * 9;
const QEMUS = [
  ['QEMU', 'qemu-system-x86_64'],
  ['a newer QEMU', newerQemu],
] as const;
const BOOT_MENU = ['-boot', 'menu=on,splash-time=60000'];

/** How many pixels are not of the colour of the first. */
function drawn({ data }: Picture): number {
  const pixels = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
  return pixels.reduce((count, pixel) => count + (pixel === pixels[0] ? 0 : 1), 0);
}

function differing(shown: Picture, wanted: Picture): number {
  const [a, b] = [shown, wanted].map(({ data }) => new Uint32Array(data.buffer, data.byteOffset, data.length / 4));
  return a!.reduce((count, pixel, at) => count + (pixel === b![at] ? 0 : 1), 0);
}

/** Stops the machine and compares every pixel, once its last picture is here. */
async function expectEqual(machine: DbusMachine, scanout = 0, device?: string): Promise<Picture> {
  await machine.qmp.command('stop');
  const wanted = await machine.screendump(device);
  await eventually(() => {
    const shown = machine.capture(scanout);
    expect([shown?.width, shown?.height]).toEqual([wanted.width, wanted.height]);
    expect(Buffer.compare(shown!.data, wanted.data)).toBe(0);
  });
  await machine.qmp.command('cont');
  return wanted;
}

function press(machine: DbusMachine, key: number): void {
  machine.guest.input.key(key, true);
  machine.guest.input.key(key, false);
}

describe.skipIf(isSkipped)('QEMU over its D-Bus display', () => {
  let directory: string;
  let grub: string;

  expectNoLeaks();

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'qemu-dbus-'));
    grub = join(directory, 'grub.img');
    const core = join(directory, 'core.img');
    const made = spawnSync('grub-mkimage', ['-O', 'i386-pc', '-p', '/', '-o', core, 'biosdisk', 'echo', 'normal']);
    expect(made.status, String(made.stderr)).toBe(0);
    const image = Buffer.concat([readFileSync(`${GRUB}/boot.img`), readFileSync(core)]);
    // Room for a whole cylinder, which the firmware expects.
    writeFileSync(grub, Buffer.concat([image, Buffer.alloc(2 ** 20 - image.length)]));
  });

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test.each(
    ['VGA', 'cirrus-vga', 'virtio-vga', 'ramfb', 'vmware-svga'].flatMap((device) =>
      QEMUS.map(([version, qemu]) => [device, version, qemu] as const),
    ),
  )(
    'shows SeaBIOS on %s as %s does, pixel by pixel, and its boot menu after Escape',
    async (device, _version, qemu) => {
      await using machine = await DbusMachine.start(['-device', device, ...BOOT_MENU], { qemu });
      await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(100));
      const before = drawn(await expectEqual(machine));
      await eventually(() => {
        press(machine, KEY.ESC);
        expect(drawn(machine.capture()!)).toBeGreaterThan(before * 1.2);
      });
      await expectEqual(machine);
    },
  );

  test.each(QEMUS)('shows GRUB started by the BIOS of %s, and what is typed into it', async (_version, qemu) => {
    await using machine = await DbusMachine.start(
      ['-device', 'VGA', '-drive', `if=ide,format=raw,readonly=off,file=${grub}`],
      { qemu },
    );
    await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(500));
    const before = drawn(await expectEqual(machine));
    await eventually(() => {
      for (const key of [KEY.L, KEY.S, KEY.ENTER]) press(machine, key);
      expect(drawn(machine.capture()!)).toBeGreaterThan(before * 1.2);
    });
    await expectEqual(machine);
  });

  test('shows memtest86+, a system that knows nothing of virtio, without a pixel over the socket', async () => {
    await using machine = await DbusMachine.start(['-device', 'VGA', '-kernel', MEMTEST]);
    // On a busy machine it takes minutes before it draws.
    await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(20_000), 500_000);
    await expectEqual(machine);

    const stats = (): ConsoleStats => machine.guest.stats.consoles[0]!;
    const before = stats();
    const calls = await systemCallsWhile(
      process.pid,
      () => eventually(() => expect(stats().updates).toBeGreaterThan(before.updates + 30)),
      'recvmsg,recvfrom,read',
    );
    expect(stats()).toMatchObject({ way: 'mapped', socketBytes: 0 });
    const messages = calls.flatMap((call) => /^recvmsg.* = (\d+)$/.exec(call)?.[1] ?? []);
    const received = messages.reduce((sum, count) => sum + Number(count), 0);
    // A message has 200 bytes, and the smallest change is a character of 16 rows of 9 pixels.
    expect(received).toBeGreaterThan(30 * 50);
    expect(received / (stats().updates - before.updates)).toBeLessThan(400);
  });

  test('shows two consoles, each as QEMU does', async () => {
    await using machine = await DbusMachine.start(
      ['-device', 'VGA,id=first', '-device', 'secondary-vga,id=second', ...BOOT_MENU],
      { scanouts: 2 },
    );
    await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(100));
    await expectEqual(machine, 0, 'first');
    await expectEqual(machine, 1, 'second');
  });

  test('shows a machine that comes from another QEMU, from the moment it has come', async () => {
    const machine = ['-device', 'VGA', '-drive', `if=ide,format=raw,readonly=off,file=${grub}`];
    const socket = `unix:${join(directory, 'migration')}`;
    await using from = await DbusMachine.start(machine);
    await eventually(() => expect(drawn(from.capture()!)).toBeGreaterThan(500));
    const before = drawn(await expectEqual(from));
    await eventually(() => {
      press(from, KEY.L);
      expect(drawn(from.capture()!)).toBeGreaterThan(before);
    });
    await using to = await DbusMachine.start([...machine, '-incoming', socket]);
    await eventually(() => expect(to.guest.isConnected).toBe(true));
    await from.qmp.command('stop');
    const wanted = await from.screendump();
    await from.qmp.command('migrate', { uri: socket });
    await eventually(() => {
      const shown = to.capture();
      expect([shown?.width, shown?.height]).toEqual([wanted.width, wanted.height]);
      // Whether the blinking cursor of a text mode shows is no part of what QEMU sends.
      expect(differing(shown!, wanted)).toBeLessThanOrEqual(CURSOR);
    });
    await expectEqual(to);
    // Its keyboard is that of the machine now.
    await eventually(() => {
      press(to, KEY.L);
      expect(drawn(to.capture()!)).toBeGreaterThan(drawn(wanted));
    });
    await expectEqual(to);
  });

  test('shows a machine again after a reset', async () => {
    await using machine = await DbusMachine.start(['-device', 'VGA', ...BOOT_MENU]);
    await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(100));
    await machine.qmp.command('system_reset');
    await eventually(() => expect(drawn(machine.capture()!)).toBeGreaterThan(100));
    await expectEqual(machine);
  });
});
