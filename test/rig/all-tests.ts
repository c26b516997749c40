/**
 * `npm test`: runs side by side the kernel tests in a VM, which keeps one processor busy, the host tests with real guests,
 * which leave the other one idle for much of the time, and the unit tests. Whichever has ended goes on with the unit tests
 * and one host test on the other supported release lines of Node. On a Node 20 the unit tests run on the oldest of them that
 * is supported, and the others on that Node. Ends with what failed, and a last line that counts all results.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { COUNTS_FILE, type Counts, countsLine, type RunResult } from './counts.ts';
import { installNode, oldestOfOwnLine, otherNodeLines } from './node-lines.ts';

const root = join(import.meta.dirname, '../..');
const VITEST = 'node_modules/vitest/vitest.mjs';
const TSX = 'node_modules/tsx/dist/cli.mjs';

/** CI is to hear of a run that hangs, and of the results of the others, before it gives up itself. */
const LIMIT_MS = 70 * 60_000;

/** It drives a guest through the public API, and so covers poll callbacks, timers, child processes and sockets. */
const ONE_GUEST = 'test/host/launch-guest.test.ts';

/**
 * Tests that start the command dozens of times, and take most of the time; `session.test.ts` stays, which uses all that
 * they do of Node. And those of the documents.
 */
const OWN_LINE_ONLY = [
  ...['commands', 'compare', 'examples', 'grab', 'guest-memory', 'libvirt', 'qemu-dbus', 'stats', 'vm'].map(
    (name) => `cli/${name}`,
  ),
  'docs',
].flatMap((name) => ['--exclude', `test/unit/${name}.test.ts`]);

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];

/** Of the tests on another line, so that no run is the only one for long at the end. */
const SHARDS = 2;
const shards = otherNodeLines().flatMap((line) => Array.from({ length: SHARDS }, (_, i) => ({ line, shard: i + 1 })));

await Promise.all([
  run('kernel', process.execPath, TSX, 'test/rig/kernel-tests.ts').then(runOnOtherLines),
  run('host', process.execPath, VITEST, 'run', '--project', 'host').then(runOnOtherLines),
  run('unit', nodeForUnits(), VITEST, 'run', '--project', 'unit').then(runOnOtherLines),
]);
for (const failure of failures) console.log(`failed: ${failure}`);
console.log(countsLine(total));
process.exitCode = total.failed > 0 ? 1 : 0;

/** Takes one shard after another, as long as there are any left. */
async function runOnOtherLines(): Promise<void> {
  for (let next = shards.shift(); next !== undefined; next = shards.shift()) await runOnLine(next.line, next.shard);
}

function nodeForUnits(): string {
  const oldest = oldestOfOwnLine();
  return (oldest === null ? null : nodeOf(oldest)) ?? process.execPath;
}

/** Null without that Node, whose first installation needs a network: this counts as skipped; under CI=true as failed. */
function nodeOf(line: string): string | null {
  try {
    return installNode(line);
  } catch (error) {
    const isCi = process.env['CI'] === 'true';
    console.error(`${isCi ? 'failed' : 'skipped'}: no tests on Node ${line}: ${(error as Error).message}`);
    total[isCi ? 'failed' : 'skipped']++;
    return null;
  }
}

async function runOnLine(line: string, shard: number): Promise<void> {
  const node = nodeOf(line);
  if (node === null) return;
  console.log(`\nOn Node ${line}, ${node}, part ${shard} of ${SHARDS}:`);
  // Few of the fuzzers' messages, but enough for all that each must have reached: what they find does not depend on Node.
  process.env['FUZZ_COMMANDS'] ??= '8000';
  process.env['CONSOLES'] ??= '2';
  const chosen = ['--project', 'unit', '--project', 'host', 'test/unit', ONE_GUEST, ...OWN_LINE_ONLY];
  await run(`node-${line}-${shard}`, node, VITEST, 'run', `--shard=${shard}/${SHARDS}`, ...chosen);
}

/**
 * Runs a script with the Node at path `node`, which its children find as `node` too, and adds its counts to the total.
 * A run that fails without a failed test (it did not start, or its VM died) counts as one failure.
 */
async function run(name: string, node: string, script: string, ...args: string[]): Promise<void> {
  // The only folder of the project that the kernel VM can write to.
  const file = join(root, `test/output/${name}-counts.json`);
  mkdirSync(join(root, 'test/output'), { recursive: true });
  rmSync(file, { force: true });
  const env: NodeJS.ProcessEnv = { ...process.env, [COUNTS_FILE]: file, COMMAND_IS_BUILT: 'true' };
  if (node !== process.execPath) env['PATH'] = [dirname(node), env['PATH']].join(delimiter);
  const child = spawn(node, [script, ...args], {
    cwd: root,
    stdio: 'inherit',
    env,
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  const result = existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as RunResult)
    : { passed: 0, failed: 0, skipped: 0, failures: [] };
  for (const kind of ['passed', 'failed', 'skipped'] as const) total[kind] += result[kind];
  for (const failure of result.failures) failures.push(`${name}: ${failure}`);
  if (status !== 0 && result.failed === 0) {
    total.failed++;
    failures.push(`${name}: ${signal === null ? `exited with status ${status}` : `ended by ${signal}`}, see above`);
  }
}
