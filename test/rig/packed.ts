import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '../..');

/**
 * Packs the package into `directory`; returns the tarball's path. Packs a copy of the tree: packing builds from nothing,
 * which would take the built command away from tests that run at the same time, in the kernel VM too. `isBuilt`: what has
 * been built goes into the package as it is, without a man page.
 */
export async function packProject(directory: string, { isBuilt = false } = {}): Promise<string> {
  const copy = mkdtempSync(join(tmpdir(), 'scanout-tree-'));
  try {
    const leftOut = new Set(['node_modules', '.git', 'test', ...(isBuilt ? [] : ['dist'])]);
    cpSync(ROOT, copy, { recursive: true, filter: (path) => !leftOut.has(relative(ROOT, path)) });
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    // Without the environment of the npm that runs this test.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_|^NODE_ENV$/i.test(name)));
    const scripts = isBuilt ? ['--ignore-scripts'] : [];
    await promisify(execFile)('npm', ['pack', '--silent', ...scripts, '--pack-destination', directory, copy], { env });
  } finally {
    rmSync(copy, { recursive: true });
  }
  return join(
    directory,
    readdirSync(directory).find((name) => name.endsWith('.tgz'))!,
  );
}
