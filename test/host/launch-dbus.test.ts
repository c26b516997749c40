/** Guests without a driver of virtio, launched on QEMU's D-Bus display, from their firmware on. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { launchGuest, type LaunchedGuest, type LaunchOptions, openDisplay } from '../../src/testing/index.ts';
import { expectScreendump } from '../rig/screendump.ts';
import { skipBecause, skipWithoutProgram } from '../rig/skip.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';
import { eventually } from '../rig/eventually.ts';

const isSkipped =
  skipWithoutProgram('qemu-system-x86_64') ||
  skipWithoutProgram('grub-mkimage') ||
  (!existsSync('/usr/share/OVMF/OVMF_CODE_4M.fd') && skipBecause('no OVMF: run sh test/rig/install.sh as root'));

describe.skipIf(isSkipped)("launchGuest with display: 'dbus'", () => {
  let directory: string;

  expectNoLeaks();

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'launch-dbus-'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  function launch(options: LaunchOptions): Promise<LaunchedGuest> {
    return launchGuest({ display: 'dbus', accel: 'tcg', memoryMiB: 256, ...options });
  }

  test('types into the shell of UEFI, whose screen is that of QEMU', async () => {
    await using guest = await launch({ firmware: 'uefi' });
    using display = openDisplay({ guest });
    const before = await display.waitForStable({ quietMs: 8000, timeoutMs: 150_000 });
    await display.type('\n\nver\n');
    await eventually(() => {
      const now = display.screenshot();
      expect(Buffer.compare(now.data, before.data)).not.toBe(0);
    });
    await expectScreendump(guest, directory);
  });

  test('shows GRUB started by UEFI, and what is typed into it', async () => {
    const program = join(directory, 'EFI/BOOT/BOOTX64.EFI');
    mkdirSync(dirname(program), { recursive: true });
    const made = spawnSync('grub-mkimage', ['-O', 'x86_64-efi', '-p', '/', '-o', program, 'echo', 'normal']);
    expect(made.status, String(made.stderr)).toBe(0);
    const drive = ['-drive', `if=none,id=esp,format=raw,read-only=on,file=fat:${directory}`];
    await using guest = await launch({
      firmware: 'uefi',
      args: [...drive, '-device', 'virtio-blk-pci,drive=esp,bootindex=0'],
    });
    using display = openDisplay({ guest });
    await display.waitForText(/GRUB/, { timeoutMs: 150_000 });
    await display.type('echo "pic"ture\n');
    await display.waitForText(/^picture/m, { timeoutMs: 60_000 });
    await expectScreendump(guest, directory);
  });

  test('shows the firmware of a PC again after a reset, and ejects a CD', async () => {
    const cdrom = join(directory, 'empty.iso');
    writeFileSync(cdrom, new Uint8Array(2 ** 20));
    await using guest = await launch({ machine: 'pc', cdrom, args: ['-boot', 'menu=on,splash-time=60000'] });
    await expectScreendump(guest, directory);
    await guest.reset();
    await expectScreendump(guest, directory);
    const drive = async (): Promise<unknown> => {
      const blocks = (await guest.qmp('query-block')) as { qdev?: string; inserted?: object }[];
      return blocks.find(({ qdev }) => qdev === 'cd-drive')?.inserted;
    };
    expect(await drive()).toBeDefined();
    await guest.eject();
    expect(await drive()).toBeUndefined();
    await guest.powerButton();
  });
});
