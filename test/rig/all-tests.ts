/**
 * `npm test`: runs the unit tests, the host tests with real guests and the kernel tests in a VM; then the unit tests
 * and one host test on every other supported release line of Node. The last line of output counts all results.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { COUNTS_FILE, type Counts, countsLine } from './counts.ts';
import { installNode, otherNodeLines } from './node-lines.ts';

const root = join(import.meta.dirname, '../..');
const VITEST = 'node_modules/vitest/vitest.mjs';
const TSX = 'node_modules/tsx/dist/cli.mjs';

/** It drives a guest through the public API, and so covers poll callbacks, timers, child processes and sockets. */
const ONE_GUEST = 'test/host/launch-guest.test.ts';

const total: Counts = { passed: 0, failed: 0, skipped: 0 };

run('unit-host', process.execPath, VITEST, 'run', '--project', 'unit', '--project', 'host');
run('kernel', process.execPath, TSX, 'test/rig/kernel-tests.ts');
for (const line of otherNodeLines()) runOnLine(line);
console.log(countsLine(total));
process.exitCode = total.failed > 0 ? 1 : 0;

/** Without that Node, whose first installation needs a network, this counts as skipped; under CI=true as failed. */
function runOnLine(line: string): void {
  let node: string;
  try {
    node = installNode(line);
  } catch (error) {
    const isCi = process.env['CI'] === 'true';
    console.error(`${isCi ? 'failed' : 'skipped'}: no tests on Node ${line}: ${(error as Error).message}`);
    total[isCi ? 'failed' : 'skipped']++;
    return;
  }
  console.log(`\nOn Node ${line}, ${node}:`);
  run(`node-${line}`, node, VITEST, 'run', '--project', 'unit', '--project', 'host', 'test/unit', ONE_GUEST);
}

/**
 * Runs a script with the Node at path `node`, which its children find as `node` too, and adds its counts to the total.
 * A run that fails without a failed test (it did not start, or its VM died) counts as one failure.
 */
function run(name: string, node: string, script: string, ...args: string[]): void {
  // The only folder of the project that the kernel VM can write to.
  const file = join(root, `test/output/${name}-counts.json`);
  mkdirSync(join(root, 'test/output'), { recursive: true });
  rmSync(file, { force: true });
  const env: NodeJS.ProcessEnv = { ...process.env, [COUNTS_FILE]: file };
  if (node !== process.execPath) env['PATH'] = [dirname(node), env['PATH']].join(delimiter);
  const { status } = spawnSync(node, [script, ...args], { cwd: root, stdio: 'inherit', env });
  const counts = existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as Counts)
    : { passed: 0, failed: 0, skipped: 0 };
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  for (const kind of ['passed', 'failed', 'skipped'] as const) total[kind] += counts[kind];
}
