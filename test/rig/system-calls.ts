import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Paths that do not exist. Looking them up marks the beginning and end of the measured part in strace's output. */
const BEGIN = '/scanout-bench-begin';
const END = '/scanout-bench-end';

/**
 * Traces all threads of this process while `run` runs. Resolves with one line per system call: `ioctl(7, ...) = 0`.
 * `settle` runs before, traced too: strace stops the process for seconds in a VM while it attaches, and peers notice.
 */
export async function ownSystemCalls(run: () => Promise<void>, settle?: () => Promise<void>): Promise<string[]> {
  const calls = await systemCallsWhile(process.pid, async () => {
    await settle?.();
    existsSync(BEGIN);
    await run();
    existsSync(END);
  });
  return betweenMarks(calls);
}

const ATTEMPTS = 5;

/** The sendmsg among system calls. */
export function sendmsgs(calls: readonly string[]): string[] {
  return calls.filter((call) => call.startsWith('sendmsg('));
}

/**
 * The system calls of `frames` frames of a window, measured again if they had another number of sendmsg: a frame that a
 * busy compositor shows late counts as hidden, its buffer is taken back, and that is one message more.
 */
export async function callsOfFrames(
  frames: number,
  run: () => Promise<void>,
  settle?: () => Promise<void>,
): Promise<string[]> {
  for (let attempt = 1; ; attempt++) {
    const calls = await ownSystemCalls(run, settle);
    if (sendmsgs(calls).length === frames || attempt === ATTEMPTS) return calls;
  }
}

/**
 * As `ownSystemCalls`, of any process, which must be running before, during and after `run`. `only` is a list of calls for
 * strace; without other threads' calls between, none is split.
 */
export async function systemCallsWhile(pid: number, run: () => Promise<unknown>, only = 'all'): Promise<string[]> {
  using trace = new Trace();
  const args = ['-f', '-p', String(pid), '-e', `trace=${only}`, '-o', trace.file];
  const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(strace, 'close');
  // "strace: Process 1 attached with 11 threads"
  await Promise.race([once(strace.stderr, 'data'), ended]);
  await run();
  strace.kill('SIGINT');
  await ended;
  return trace.read();
}

/** The calls between the two marks. Throws if the process has not looked up both. */
export function betweenMarks(calls: readonly string[]): string[] {
  const at = (mark: string): number => {
    const index = calls.findIndex((call) => call.includes(mark));
    if (index < 0) throw new Error(`strace's output does not contain ${mark}:\n${calls.slice(0, 10).join('\n')}`);
    return index;
  };
  return calls.slice(at(BEGIN) + 1, at(END));
}

/** A temporary file for strace's output, removed at dispose. */
class Trace implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'strace-'));
  readonly file = join(this.#directory, 'calls');

  /** A call that strace split into two lines, because another thread's came between, counts once, where it began. */
  read(): string[] {
    return readFileSync(this.file, 'utf8')
      .split('\n')
      .flatMap((line) => /^\d+ +(\w+\(.*)/.exec(line)?.[1] ?? []);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}
