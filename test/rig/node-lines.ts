import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from './guest-image.ts';

const root = join(import.meta.dirname, '../..');
const INSTALL_TIMEOUT_MS = 5 * 60_000;

/** Release lines of Node that the project supports in addition to the oldest version, in package.json's `engines`. */
const NEWER_LINES = ['22', '24', '26'];

/** Supported release lines other than that of the running Node: `['20.19', '24', '26']` on any Node 22. */
export function otherNodeLines(): string[] {
  return [oldestLine(), ...NEWER_LINES].filter((line) => majorOf(line) !== majorOf(process.versions.node));
}

/** `'20.19'` on any later Node 20: the oldest that is supported of the running Node's line. Null on that and on others. */
export function oldestOfOwnLine(): string | null {
  const oldest = oldestLine();
  return majorOf(oldest) === majorOf(process.versions.node) && !isOfLine(process.version, oldest) ? oldest : null;
}

/**
 * Path of a Node of a release line, the newest at the time of the first call. npm installs the binary's own package: the
 * package `node` copies it from there in an install script, which not every npm runs. Throws if npm cannot install it.
 */
export function installNode(line: string): string {
  const folder = join(cacheDir, 'node', line);
  const name = `node-linux-${process.arch}`;
  const node = join(folder, 'node_modules', name, 'bin/node');
  if (!existsSync(node)) {
    mkdirSync(join(cacheDir, 'node'), { recursive: true });
    const unpacked = mkdtempSync(`${folder}-`);
    try {
      const args = [
        'install',
        '--prefix',
        unpacked,
        '--no-audit',
        '--no-fund',
        '--ignore-scripts',
        '--loglevel=error',
        `${name}@${line}`,
      ];
      const { status, error, stderr } = spawnSync('npm', args, {
        cwd: unpacked,
        encoding: 'utf8',
        timeout: INSTALL_TIMEOUT_MS,
      });
      if (status !== 0) throw new Error(`npm cannot install ${name}@${line}: ${error?.message ?? stderr.trim()}`);
      // In one step, so that an interrupted installation is never mistaken for a finished one.
      rmSync(folder, { recursive: true, force: true });
      renameSync(unpacked, folder);
    } finally {
      rmSync(unpacked, { recursive: true, force: true });
    }
  }
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  if (!isOfLine(version, line)) throw new Error(`${node} is ${version}, expected ${line}`);
  return node;
}

/** The line in `engines`, which has the form `>=20.19`. */
function oldestLine(): string {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly engines: { readonly node: string };
  };
  return engines.node.replace('>=', '');
}

function majorOf(version: string): string {
  return version.split('.')[0]!;
}

function isOfLine(version: string, line: string): boolean {
  return version.startsWith(`v${line}.`);
}
