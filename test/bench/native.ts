import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import koffi from 'koffi';
import { compiled } from '../rig/compile.ts';
import { cacheDir } from '../rig/guest-image.ts';

const WAYLAND_PROTOCOLS_DIR = '/usr/share/wayland-protocols';
/** Protocols that client.c needs in addition to the core protocol: windows and dma-bufs. */
const WAYLAND_PROTOCOLS = ['stable/xdg-shell/xdg-shell.xml', 'stable/linux-dmabuf/linux-dmabuf-v1.xml'];

/**
 * `copy_frames` of copy.c. `to` and `from` have addresses of pictures (`uint8_t *`), `starts` has
 * `cycle` + 1 entries. Arguments are not checked.
 */
export type CopyFrames = (
  to: BigUint64Array,
  targets: number,
  from: BigUint64Array,
  sources: number,
  stride: number,
  rects: Int32Array,
  starts: Uint32Array,
  cycle: number,
  first: number,
  frames: number,
) => void;

export function loadCopyFrames(): CopyFrames {
  const arguments_ = [
    'void *',
    'uint32_t',
    'void *',
    'uint32_t',
    'uint32_t',
    'void *',
    'void *',
    'uint32_t',
    'uint32_t',
    'uint32_t',
  ];
  return koffi.load(benchProgram('copy.c', '-shared', '-fPIC')).func('copy_frames', 'void', arguments_) as CopyFrames;
}

/** Builds kms/flip-loop.c; returns the path of the program. */
export function flipLoopProgram(): string {
  return benchProgram('kms/flip-loop.c', '-I/usr/include/libdrm');
}

/** Builds wayland/client.c; returns the path of the program. */
export function waylandClientProgram(): string {
  const include = join(cacheDir, 'bench-wayland');
  mkdirSync(include, { recursive: true });
  const glue = WAYLAND_PROTOCOLS.flatMap((path) => {
    const name = join(include, basename(path, '.xml'));
    execFileSync('wayland-scanner', ['client-header', join(WAYLAND_PROTOCOLS_DIR, path), `${name}.h`]);
    execFileSync('wayland-scanner', ['private-code', join(WAYLAND_PROTOCOLS_DIR, path), `${name}.c`]);
    return `${name}.c`;
  });
  return benchProgram('wayland/client.c', `-I${include}`, ...glue, '-lwayland-client');
}

/** What to install if client.c cannot be built; null if it can. */
export function missingWayland(): string | null {
  const needed = [
    '/usr/bin/wayland-scanner',
    '/usr/include/wayland-client.h',
    ...WAYLAND_PROTOCOLS.map((path) => join(WAYLAND_PROTOCOLS_DIR, path)),
  ];
  const absent = needed.find((path) => !existsSync(path));
  return absent === undefined ? null : `no ${absent}: sh test/rig/install.sh`;
}

/** Builds click/client.c; returns the path of the program. */
export function clickClientProgram(): string {
  return benchProgram('click/client.c', '-lvncclient');
}

/** What to install if click/client.c cannot be built; null if it can. */
export function missingVncClient(): string | null {
  const header = '/usr/include/rfb/rfbclient.h';
  return existsSync(header) ? null : `no ${header}: sh test/rig/install.sh`;
}

const LIBSYSTEMD = 'libsystemd.so.0';

/** Builds qemu-dbus/client.c; returns the path of the program. */
export function dbusClientProgram(): string {
  return benchProgram('qemu-dbus/client.c', `-l:${LIBSYSTEMD}`);
}

/** What to install if qemu-dbus/client.c cannot be built; null if it can. */
export function missingSystemd(): string | null {
  return existsSync(`/usr/lib/x86_64-linux-gnu/${LIBSYSTEMD}`) ? null : `no ${LIBSYSTEMD}: sh test/rig/install.sh`;
}

/** What to install if there is no C compiler; null if there is. */
export function missingCompiler(): string | null {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return null;
  } catch {
    return 'no C compiler: sh test/rig/install.sh';
  }
}

/** Builds a C file of this folder; returns the path of the result. */
function benchProgram(file: string, ...flags: string[]): string {
  return compiled(join(import.meta.dirname, file), `bench-${basename(file, '.c')}`, ...flags);
}
