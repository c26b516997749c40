import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command as a child process. It inherits `fds` as descriptors 3, 4, … */
export function start(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; fds?: readonly number[]; cwd?: string } = {},
): ChildProcess {
  return spawn(process.execPath, ['--import', import.meta.resolve('tsx'), MAIN, ...args], {
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
