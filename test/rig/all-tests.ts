/**
 * `npm test`: the tests that run anywhere, those with real guests, those on a real kernel in a VM,
 * and one last line that counts them all.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { COUNTS_FILE, type Counts, countsLine } from './counts.ts';

const root = join(import.meta.dirname, '../..');
const total: Counts = { passed: 0, failed: 0, skipped: 0 };

run('unit-host', 'vitest', 'run', '--project', 'unit', '--project', 'host');
run('kernel', 'tsx', 'test/rig/kernel-tests.ts');
console.log(countsLine(total));
process.exitCode = total.failed > 0 ? 1 : 0;

/** A run that fails without a failed test (it could not start, its VM died) counts as one. */
function run(name: string, program: string, ...args: string[]): void {
  // The VM can write to this folder of ours only.
  const file = join(root, `test/output/${name}-counts.json`);
  mkdirSync(join(root, 'test/output'), { recursive: true });
  rmSync(file, { force: true });
  const { status } = spawnSync(join(root, 'node_modules/.bin', program), args, { cwd: root, stdio: 'inherit', env: { ...process.env, [COUNTS_FILE]: file } });
  const counts = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Counts) : { passed: 0, failed: 0, skipped: 0 };
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  for (const kind of ['passed', 'failed', 'skipped'] as const) total[kind] += counts[kind];
}
