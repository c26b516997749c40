import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { skipBecause } from './skip.ts';

/** Folder with what `install.sh` unpacked, and with what tests build and keep between runs. */
export const cacheDir = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'scanout-bridge');

/** The QEMU that has the generic vhost-user front end (>= 11.1); `install.sh` unpacked it. */
export const newerQemu = join(cacheDir, 'qemu/qemu-system-x86_64');

export interface GuestImage {
  readonly kernel: string;
  readonly initrd: string;
  /** The kernel's release, which names its folder in /lib/modules. */
  readonly release: string;
}

/** Modules the guest needs; those that a kernel has built in are left out. */
const wantedModules = ['9pnet_virtio', '9p', 'virtio-gpu', 'evdev', 'virtio_input'];

/** Of a guest that people log in to, on its console. */
export const LOGIN_MODULES: readonly string[] = ['virtio-gpu', 'virtio_input'];

/** Memory of a guest in a guest. */
export const NESTED_MIB = 192;

/**
 * The guest's init. It mounts this machine's root read-only by 9p, caches what it has read, because nothing that a guest
 * needs changes while it runs, switches to it and runs `/bin/sh` as the command shell behind the virtio-serial port (see `guest.ts`). The shell reads a pipe instead
 * of the port itself, because it must not run in interactive mode.
 */
const init = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /dev /proc /sys /new
$bb mount -t devtmpfs dev /dev
for module in $($bb cat /modules); do $bb insmod /lib/$module || echo "insmod $module failed"; done
$bb mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose root /new || $bb poweroff -f
$bb mount --move /dev /new/dev
exec $bb switch_root /new /bin/sh -c '
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
  mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t debugfs debug /sys/kernel/debug; mount -t tmpfs run /run
  exec 3<>$(echo /dev/vport*p1)
  cat <&3 | sh >&3 2>&1 3>&-
  echo o >/proc/sysrq-trigger
  sleep 100'
`;

/** The init of a guest whose root is its initramfs, with the same command shell. */
const smallInit = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /dev /proc /sys /run
$bb --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t debugfs debug /sys/kernel/debug
for module in $(cat /modules); do insmod /lib/$module || echo "insmod $module failed"; done
exec sh -c '
  export PATH=/bin
  exec 3<>$(echo /dev/vport*p1)
  cat <&3 | sh >&3 2>&1 3>&-
  echo o >/proc/sysrq-trigger
  sleep 100'
`;

/** The init of `consoleImage`. */
const consoleInit = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /dev /proc /sys
$bb --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
for module in $(cat /modules); do insmod /lib/$module; done
export PATH=/bin PS1='# '
while :; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; done
`;

/**
 * For `describe.skipIf`: true, with a printed reason, on a machine that cannot boot guests or lacks
 * one of the files `alsoNeeded`. Under CI=true it throws instead.
 */
export function skipWithoutGuest(...alsoNeeded: readonly string[]): boolean {
  const needed = [
    ...alsoNeeded,
    join(cacheDir, 'linux/complete'),
    '/usr/bin/qemu-system-x86_64',
    '/usr/lib/qemu/vhost-user-gpu',
    '/bin/busybox',
    '/usr/bin/modetest',
    '/usr/include/libdrm/drm.h',
  ];
  const missing = needed.filter((path) => !existsSync(path));
  if (missing.length === 0) return false;
  return skipBecause(`no real guest without ${missing.join(', ')}: run sh test/rig/install.sh as root`);
}

/** Kernel and initramfs for a test guest. Throws, with the remedy, if `install.sh` has not run. */
export function guestImage(): GuestImage {
  return image(init, wantedModules, []);
}

/**
 * As `guestImage`, for a guest whose root is busybox and the given programs, with their libraries, under their own paths:
 * it boots without a file system of this machine, which would be read through two machines inside another guest.
 */
export function smallGuestImage(programs: readonly string[], modules: readonly string[] = ['virtio-gpu']): GuestImage {
  return image(smallInit, modules, [...new Set(programs.flatMap(withLibraries))]);
}

/** Of any card that QEMU has and Linux has a driver for: busybox, whose shell is on the console that the card shows. */
export function consoleImage(): GuestImage {
  return image(consoleInit, ['bochs', 'cirrus', 'virtio-gpu'], []);
}

/** A program or library, its dynamic linker and the libraries that are linked to it. */
export function withLibraries(program: string): string[] {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [program, ...[...listed.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!)];
}

/** Builds an image with files of this machine under their own paths, and keeps it in the cache folder. */
export function image(init: string, modules: readonly string[], files: readonly string[]): GuestImage {
  const { kernel, release, modulesDir } = guestKernel();
  const key = createHash('sha256').update(`${release}\n${modules.join()}\n${init}\n${files.join()}`);
  for (const file of ['/bin/busybox', ...files]) key.update(readFileSync(file));
  const initrd = join(cacheDir, `initrd-${key.digest('hex').slice(0, 16)}`);
  if (existsSync(initrd)) return { kernel, initrd, release };

  const archive = initramfs({ modulesDir, modules, init, files });
  mkdirSync(cacheDir, { recursive: true });
  const unfinished = `${initrd}.${process.pid}`;
  writeFileSync(unfinished, archive);
  renameSync(unfinished, initrd);
  return { kernel, initrd, release };
}

/** The kernel that `install.sh` unpacked. Throws, with the remedy, if there is none. */
export function guestKernel(): { kernel: string; release: string; modulesDir: string } {
  const root = join(cacheDir, 'linux');
  if (!existsSync(join(root, 'complete'))) throw new Error(`no guest kernel in ${root}: run sh test/rig/install.sh`);
  const release = readdirSync(join(root, 'lib/modules'))[0]!;
  return { kernel: join(root, 'boot', `vmlinuz-${release}`), release, modulesDir: join(root, 'lib/modules', release) };
}

/**
 * Builds an initramfs with `init`, /bin/busybox and `files` under their own paths. /lib has the modules, and /modules
 * their names in loading order.
 */
export function initramfs({
  modulesDir,
  modules,
  init,
  files = [],
}: {
  readonly modulesDir: string;
  readonly modules: readonly string[];
  readonly init: string;
  readonly files?: readonly string[];
}): Buffer {
  const kos = modulesInOrder(readFileSync(join(modulesDir, 'modules.dep'), 'utf8'), modules);
  const names = kos.map((file) => basename(file).replace(/\.xz$/, ''));
  const directories = new Set(['bin', 'lib', ...files.flatMap(directoriesOf)]);
  return cpio([
    ...[...directories].map(directory),
    { path: 'bin/busybox', mode: 0o100755, data: readFileSync('/bin/busybox') },
    { path: 'init', mode: 0o100755, data: Buffer.from(init) },
    { path: 'modules', mode: 0o100644, data: Buffer.from(names.join('\n')) },
    ...kos.map((file, i) => ({
      path: `lib/${names[i]!}`,
      mode: 0o100644,
      data: moduleBytes(join(modulesDir, file)),
    })),
    ...files.map((file) => ({ path: file.slice(1), mode: 0o100755, data: readFileSync(file) })),
  ]);
}

/** The directories that an absolute path lies in, outermost first, without the root. */
function directoriesOf(path: string): string[] {
  const names = path.split('/').slice(1, -1);
  return names.map((_, i) => names.slice(0, i + 1).join('/'));
}

/** Files of the wanted modules, each after all it depends on. `modules.dep` lists the nearest dependencies first. */
function modulesInOrder(modulesDep: string, wanted: readonly string[]): string[] {
  const dependencies = new Map<string, string[]>();
  for (const line of modulesDep.split('\n')) {
    const [file, ...needs] = line.split(/:? +|:$/).filter(Boolean);
    if (file !== undefined) dependencies.set(basename(file).replace(/\.ko.*$/, ''), [...needs.reverse(), file]);
  }
  return [...new Set(wanted.flatMap((name) => dependencies.get(name) ?? []))];
}

function moduleBytes(file: string): Buffer {
  return file.endsWith('.xz') ? execFileSync('xz', ['-dc', file], { maxBuffer: 1 << 28 }) : readFileSync(file);
}

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly data: Buffer;
}

const directory = (path: string): Entry => ({ path, mode: 0o040755, data: Buffer.alloc(0) });

/** Builds the "newc" archive that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst). */
function cpio(entries: readonly Entry[]): Buffer {
  const pad = (length: number) => Buffer.alloc(-length & 3);
  const parts = [...entries, { path: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) }].flatMap(
    ({ path, mode, data }, i) => {
      const fields = [i + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, path.length + 1, 0];
      const head = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}${path}\0`);
      return [head, pad(head.length), data, pad(data.length)];
    },
  );
  return Buffer.concat(parts);
}
