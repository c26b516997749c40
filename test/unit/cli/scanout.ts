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

/** Starts the command as a child process. It inherits `fds` as descriptors 3, 4, … and imports module `preload` first. */
export function start(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; fds?: readonly number[]; cwd?: string; preload?: string } = {},
): ChildProcess {
  const imports = [import.meta.resolve('tsx'), ...(options.preload === undefined ? [] : [options.preload])];
  return spawn(process.execPath, [...imports.flatMap((module) => ['--import', module]), MAIN, ...args], {
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
