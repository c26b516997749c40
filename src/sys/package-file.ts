import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** True in a checkout whose TypeScript is run as it is. */
export const isSource = import.meta.url.endsWith('.ts');

/** The path of a file of this package, whether this module runs from src or from dist: the package's root has the package.json. */
export function packageFile(path: string): string {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, 'package.json'))) root = dirname(root);
  return join(root, path);
}

/**
 * The path of a program of this package, given by its source: `src/sys/console-guardian.ts`, which in dist is JavaScript.
 * esbuild.config.js lists the programs.
 */
export function packageProgram(source: string): string {
  return packageFile(isSource ? source : `dist/${source.replace(/\.ts$/, '.js')}`);
}

export function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}
