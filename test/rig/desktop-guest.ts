import { type LaunchedGuest, type LaunchOptions, openDisplay } from '../../src/testing/index.ts';
import { desktopImage } from './desktop-image.ts';

/** A desktop on QEMU's standard VGA, from the snapshot that `logIn` prepares. It has one disk. */
export function desktopGuest(disk: string): LaunchOptions {
  const { kernel, initrd } = desktopImage();
  const append = 'console=ttyS0 console=tty0 quiet loglevel=3 mitigations=off';
  return {
    ...{ display: 'dbus', accel: 'tcg', memoryMiB: 384, kernel, initrd, append, disk, timeoutMs: 300_000 },
    snapshot: 'logged in',
  };
}

/** Opens a session, and writes to the disk. */
export async function logIn(guest: LaunchedGuest): Promise<void> {
  using display = openDisplay({ guest });
  await display.waitForText(/login:/, { timeoutMs: 300_000 });
  await display.type('root\n');
  await display.waitForText(/built-in shell/, { timeoutMs: 300_000 });
  await display.type('echo kept >/dev/sda; sync; echo written\n');
  await display.waitForText(/^written/m, { timeoutMs: 300_000 });
}
