import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
/** `npm test` has just built it. It starts in a third of the time. */
const BUILT = fileURLToPath(new URL('../../../dist/src/cli/main.js', import.meta.url));
const isBuilt = process.env['COMMAND_IS_BUILT'] === 'true';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command as a child process. It inherits `fds` as descriptors 3, 4, … and imports module `preload` first. */
export function start(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; fds?: readonly number[]; cwd?: string; preload?: string } = {},
): ChildProcess {
  const { preload } = options;
  // What is preloaded is TypeScript, and changes what the sources load.
  const main =
    isBuilt && preload === undefined
      ? [BUILT]
      : ['--import', import.meta.resolve('tsx'), ...(preload === undefined ? [] : ['--import', preload]), SOURCE];
  return spawn(process.execPath, [...main, ...args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', ...(options.fds ?? [])],
  });
}

export async function ended(child: ChildProcess): Promise<Outcome> {
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'close')]);
  return { code: child.exitCode, stdout, stderr };
}

/** Runs the command until it exits. */
export async function scanout(...args: readonly string[]): Promise<Outcome> {
  return ended(start(args));
}
