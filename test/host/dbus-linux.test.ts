/** Linux on the cards that QEMU has, over its D-Bus display, compared with QEMU's own screendump. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { launchGuest, openDisplay } from '../../src/testing/index.ts';
import { consoleImage, skipWithoutGuest } from '../rig/guest-image.ts';
import { expectScreendump } from '../rig/screendump.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';

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
      append: `console=tty0 quiet loglevel=3 consoleblank=0 vt.global_cursor_default=0 mitigations=off ${append}`,
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
});
