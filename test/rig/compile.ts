import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from './guest-image.ts';

/**
 * Builds the C file `source` with -O2 into the cache folder; returns the path of the result, which
 * guests find there too. Builds again only if the content of the file changes. `flags` come last.
 */
export function compiled(source: string, name: string, ...flags: string[]): string {
  const key = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const result = join(cacheDir, `${name}-${key}`);
  if (!existsSync(result)) {
    mkdirSync(cacheDir, { recursive: true });
    const unfinished = `${result}.${process.pid}`;
    execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-o', unfinished, source, ...flags], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    renameSync(unfinished, result);
  }
  return result;
}
