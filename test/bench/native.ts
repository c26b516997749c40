import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { cacheDir } from '../rig/guest-image.ts';

/**
 * Pictures are `uint8_t *` in arrays of addresses; see copy.c. Everything is trusted.
 * `starts` has `cycle` + 1 entries.
 */
export type CopyFrames = (
  to: BigUint64Array, targets: number, from: BigUint64Array, sources: number, stride: number,
  rects: Int32Array, starts: Uint32Array, cycle: number, first: number, frames: number,
) => void;

/** copy.c, built with -O2 once per content of its source. */
export function loadCopyFrames(): CopyFrames {
  const source = join(import.meta.dirname, 'copy.c');
  const key = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const library = join(cacheDir, `bench-copy-${key}.so`);
  if (!existsSync(library)) {
    mkdirSync(cacheDir, { recursive: true });
    const unfinished = `${library}.${process.pid}`;
    execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-o', unfinished, source], { stdio: ['ignore', 'inherit', 'inherit'] });
    renameSync(unfinished, library);
  }
  const arguments_ = ['void *', 'uint32_t', 'void *', 'uint32_t', 'uint32_t', 'void *', 'void *', 'uint32_t', 'uint32_t', 'uint32_t'];
  return koffi.load(library).func('copy_frames', 'void', arguments_) as CopyFrames;
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
