import type { Picture } from '../../src/core/picture.ts';
import { guestKernel, initramfs } from './guest-image.ts';

/** Fills its screen, says how large it is, and powers off when its power button is pressed. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /dev /proc /sys
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
for module in $(cat /modules); do insmod /lib/$module; done
size=$(cat /sys/class/graphics/fb0/virtual_size)
yes abc | head -c $((\${size%,*} * \${size#*,} * 4)) >/dev/fb0
printf 'BGR.' >/dev/fb0
for event in /dev/input/event*; do
  (head -c 1 $event >/dev/null; echo pressed; sync; echo o >/proc/sysrq-trigger) &
done
echo "screen $size"
sleep 1000000
`;

/** A guest whose root is its initramfs. Its serial console says `screen WIDTH,HEIGHT` when the screen is filled, and `pressed`. */
export function fillingGuest(): { readonly kernel: string; readonly initrd: Buffer; readonly append: string } {
  const { kernel, modulesDir } = guestKernel();
  return {
    kernel,
    initrd: initramfs({ modulesDir, modules: ['virtio-gpu', 'evdev', 'button'], init: INIT }),
    append: 'console=ttyS0 quiet loglevel=0 vt.global_cursor_default=0 consoleblank=0 panic=-1 mitigations=off',
  };
}

/** The size that the guest has said; null before. */
export function saidSize(console: string): { readonly width: number; readonly height: number } | null {
  const [, width, height] = /screen (\d+),(\d+)\r?\n/.exec(console) ?? [];
  return width === undefined ? null : { width: Number(width), height: Number(height) };
}

/** What the guest shows: the bytes of a pixel are blue, green, red. */
export function filledScreen({ width, height }: { readonly width: number; readonly height: number }): Picture {
  const data = new Uint8Array(width * height * 4);
  for (let at = 0; at < data.length; at += 4) data.set([0x63, 0x62, 0x61, 255], at);
  data.set([0x52, 0x47, 0x42, 255]);
  return { width, height, data };
}
