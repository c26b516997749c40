import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';
import koffi from 'koffi';
import { cacheDir } from '../rig/guest-image.ts';

const WAYLAND_PROTOCOLS_DIR = '/usr/share/wayland-protocols';
/** Protocols that client.c needs in addition to the core protocol: windows and dma-bufs. */
const WAYLAND_PROTOCOLS = ['stable/xdg-shell/xdg-shell.xml', 'stable/linux-dmabuf/linux-dmabuf-v1.xml'];

/**
 * `copy_frames` of copy.c. `to` and `from` have addresses of pictures (`uint8_t *`), `starts` has
 * `cycle` + 1 entries. Arguments are not checked.
 */
export type CopyFrames = (
  to: BigUint64Array, targets: number, from: BigUint64Array, sources: number, stride: number,
  rects: Int32Array, starts: Uint32Array, cycle: number, first: number, frames: number,
) => void;

export function loadCopyFrames(): CopyFrames {
  const arguments_ = ['void *', 'uint32_t', 'void *', 'uint32_t', 'uint32_t', 'void *', 'void *', 'uint32_t', 'uint32_t', 'uint32_t'];
  return koffi.load(compiled('copy.c', '-shared', '-fPIC')).func('copy_frames', 'void', arguments_) as CopyFrames;
}

/** Builds kms/flip-loop.c; returns the path of the program. */
export function flipLoopProgram(): string {
  return compiled('kms/flip-loop.c', '-I/usr/include/libdrm');
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
  return compiled('wayland/client.c', `-I${include}`, ...glue, '-lwayland-client');
}

/** What to install if client.c cannot be built; null if it can. */
export function missingWayland(): string | null {
  const needed = ['/usr/bin/wayland-scanner', '/usr/include/wayland-client.h', ...WAYLAND_PROTOCOLS.map((path) => join(WAYLAND_PROTOCOLS_DIR, path))];
  const absent = needed.find((path) => !existsSync(path));
  return absent === undefined ? null : `no ${absent}: sh test/rig/install.sh`;
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

/** A C file of this folder, built with -O2 once per content of its source. */
function compiled(file: string, ...flags: string[]): string {
  const source = join(import.meta.dirname, file);
  const key = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const result = join(cacheDir, `bench-${basename(file, '.c')}-${key}`);
  if (!existsSync(result)) {
    mkdirSync(cacheDir, { recursive: true });
    const unfinished = `${result}.${process.pid}`;
    execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-o', unfinished, source, ...flags], { stdio: ['ignore', 'inherit', 'inherit'] });
    renameSync(unfinished, result);
  }
  return result;
}
