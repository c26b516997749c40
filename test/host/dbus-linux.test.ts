/** Linux on the cards that QEMU has, over its D-Bus display, compared with QEMU's own screendump. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import { ControlClient } from '../../src/control/client.ts';
import { dbusFlags } from '../../src/qemu/flags.ts';
import { launchGuest, openDisplay } from '../../src/testing/index.ts';
import { eventually } from '../rig/eventually.ts';
import { consoleImage, skipWithoutGuest } from '../rig/guest-image.ts';
import { buildScanout, ScanoutRun } from '../rig/scanout-run.ts';
import { expectScreendump } from '../rig/screendump.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';

const QUIET = 'quiet loglevel=3 consoleblank=0 vt.global_cursor_default=0 mitigations=off';

describe.skipIf(skipWithoutGuest())('Linux over the D-Bus display of QEMU', () => {
  let directory: string;

  expectNoLeaks();

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dbus-linux-'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  test.each([
    ['the text mode of a VGA', 'VGA', 'nomodeset', '720x400'],
    ['bochs-drm', 'VGA', '', '1280x800'],
    ['bochs-drm on a 4K monitor', 'VGA,vgamem_mb=64,xres=3840,yres=2160', '', '3840x2160'],
    ['cirrus', 'cirrus-vga', '', '1024x768'],
    ['virtio-vga', 'virtio-vga', '', '1280x800'],
  ])('shows its console by %s in every pixel, and what is typed into it', async (_what, card, append, size) => {
    const { kernel, initrd } = consoleImage();
    await using guest = await launchGuest({
      ...{ display: 'dbus', accel: 'tcg', memoryMiB: 192, kernel, initrd },
      append: `console=tty0 ${QUIET} ${append}`,
      args: ['-device', card],
    });
    using display = openDisplay({ guest });
    await display.waitForText(/built-in shell/, { timeoutMs: 150_000 });
    // In the text mode tesseract reads, which makes mistakes, but not in words.
    await display.type('echo "pic"ture\n');
    await display.waitForText(/^picture/m, { timeoutMs: 60_000 });
    expect(`${guest.output.pictureSize!.width}x${guest.output.pictureSize!.height}`).toBe(size);
    await expectScreendump(guest, directory);
  });

  test('reads from its PS/2 keyboard every key that is typed by scanout run, at its own pace', async () => {
    buildScanout();
    const at = (name: string): string => join(directory, name);
    const { kernel, initrd } = consoleImage();
    const qemu = spawn(
      'setpriv',
      [
        ...[
          '--pdeathsig',
          'KILL',
          'qemu-system-x86_64',
          '-nodefaults',
          '-no-user-config',
          '-accel',
          'tcg',
          '-m',
          '192',
        ],
        ...['-device', 'VGA', ...dbusFlags(at('qmp')).flat(), '-serial', `file:${at('serial')}`],
        ...['-kernel', kernel, '-initrd', initrd, '-append', `console=tty0 ${QUIET}`],
      ],
      { stdio: 'ignore' },
    );
    const exited = once(qemu, 'close');
    try {
      await using _bridge = await ScanoutRun.start(
        ...['--guest', `qemu-dbus:qmp=${at('qmp')}`, '--control', at('control'), '--output', 'headless:1280x800'],
      );
      const client = new ControlClient(at('control'));
      const reader = await ScreenReader.open();
      await eventually(async () =>
        expect((await reader.read(await client.screenshot())).text).toContain('built-in shell'),
      );
      // What is typed is not drawn, so that nothing else keeps it back.
      await client.type('stty -echo; cat >/dev/ttyS0\n');
      const text = `${'Sphinx of black quartz, judge my vow: 0123456789!\n'.repeat(8)}.\n`;
      await client.type(text);
      await eventually(() => expect(readFileSync(at('serial'), 'latin1').replaceAll('\r', '')).toContain(text));
    } finally {
      qemu.kill('SIGKILL');
      await exited;
    }
  });
});
