import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guestKernel, initramfs } from './guest-image.ts';

/** Programs that `makeBootableDisk` needs in addition to a guest's kernel; for `skipWithoutGuest`. */
export const DISK_TOOLS = ['/usr/bin/syslinux', '/usr/bin/mcopy', '/usr/bin/qemu-img'];

/** Large enough for a kernel and an initramfs. */
const DISK_BYTES = 32 * 2 ** 20;

/** Shows a login prompt on the console and starts a shell for any name. Modules that change the screen are loaded last. */
const init = `#!/bin/busybox sh
/bin/busybox mkdir -p /dev /etc
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod /lib/$module; done
hostname guest
printf '#!/bin/sh\\nexec sh\\n' >/bin/shell
chmod +x /bin/shell
exec getty -l /bin/shell 0 tty1 linux
`;

const SYSLINUX_CONFIG = `default linux
label linux
kernel linux
initrd initrd
append quiet vt.global_cursor_default=0
`;

/** Makes a qcow2 disk image that boots to a login prompt like an installed system: firmware, boot loader, kernel. */
export function makeBootableDisk(path: string): void {
  const dir = mkdtempSync(join(tmpdir(), 'scanout-disk-'));
  try {
    const { kernel, modulesDir } = guestKernel();
    const [raw, initrd, config] = [join(dir, 'raw'), join(dir, 'initrd'), join(dir, 'syslinux.cfg')];
    writeFileSync(initrd, initramfs({ modulesDir, modules: ['virtio_input', 'evdev', 'virtio-gpu'], init }));
    writeFileSync(config, SYSLINUX_CONFIG);
    execFileSync('mformat', ['-C', '-T', String(DISK_BYTES / 512), '-h', '64', '-s', '32', '-i', raw, '::']);
    execFileSync('mcopy', ['-i', raw, kernel, '::linux']);
    execFileSync('mcopy', ['-i', raw, initrd, config, '::']);
    execFileSync('syslinux', ['--install', raw]);
    execFileSync('qemu-img', ['convert', '-O', 'qcow2', raw, path]);
  } finally {
    rmSync(dir, { recursive: true });
  }
}
