import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type GuestImage, image, withLibraries } from './guest-image.ts';

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';
const PROGRAMS = [
  '/usr/bin/weston',
  '/usr/bin/weston-terminal',
  '/usr/libexec/weston-desktop-shell',
  `${LIBRARIES}/libweston-14/drm-backend.so`,
  `${LIBRARIES}/weston/desktop-shell.so`,
  '/usr/bin/udevadm',
];
const DATA = [
  '/etc/fonts/fonts.conf',
  '/usr/lib/udev/rules.d/50-udev-default.rules',
  '/usr/lib/udev/rules.d/60-drm.rules',
  '/usr/lib/udev/rules.d/60-evdev.rules',
  '/usr/lib/udev/rules.d/60-input-id.rules',
  '/usr/share/fonts/truetype/dejavu',
  '/usr/share/libinput',
  '/usr/share/weston',
  '/usr/share/X11/xkb',
];
const MODULES = ['bochs', 'evdev', 'xhci-pci', 'usbhid', 'hid-generic', 'ahci', 'sd_mod'];

/** What the desktop of `desktopImage` needs here. */
export const DESKTOP_FILES: readonly string[] = [...PROGRAMS, ...DATA];

/** A console asks for the user, whose session is weston on the standard VGA, with a terminal on it. */
const init = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /dev /proc /sys /run /tmp /root
$bb --install -s /bin
mount -t devtmpfs dev /dev; mkdir /dev/pts
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devpts pts /dev/pts
for module in $(cat /modules); do insmod /lib/$module || echo "insmod $module failed"; done
ln -s /usr/bin/udevadm /bin/systemd-udevd
systemd-udevd --daemon
/usr/bin/udevadm trigger; /usr/bin/udevadm settle
mkdir -m 700 /run/session
cat >/session <<end
#!/bin/sh
export XDG_RUNTIME_DIR=/run/session HOME=/root LIBSEAT_BACKEND=builtin
weston --backend=drm --renderer=pixman --log=/dev/ttyS0 --config=/session.ini
end
cat >/session.ini <<end
[shell]
panel-position=none
locking=false
animation=none
startup-animation=none
[autolaunch]
path=/usr/bin/weston-terminal
[core]
idle-time=0
[terminal]
font=DejaVu Sans Mono
[input-method]
path=
end
chmod +x /session
while :; do setsid getty -l /session 38400 tty1 linux; done
`;

/** Kernel and initramfs of a guest with a desktop, for `launchGuest({ display: 'dbus' })`. */
export function desktopImage(): GuestImage {
  const files = [...new Set([...PROGRAMS.flatMap(withLibraries), ...DATA.flatMap(filesIn)])];
  return image(init, MODULES, files);
}

function filesIn(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => filesIn(join(path, name)));
}
