import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SystemCalls {
  readonly atomic: number;
  readonly otherIoctls: number;
  readonly others: number;
}

/** Looked up before and after, so that strace sees where to begin and end. */
const BEGIN = '/scanout-bench-begin';
const END = '/scanout-bench-end';

/** The system calls of all threads of this process while `run` runs, as strace sees them. */
export async function systemCalls(run: () => Promise<void>): Promise<SystemCalls> {
  const file = join(mkdtempSync(join(tmpdir(), 'strace-')), 'calls');
  const strace = spawn('strace', ['-f', '-p', String(process.pid), '-o', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(strace, 'close');
  // "strace: Process 1 attached with 11 threads"
  await Promise.race([once(strace.stderr, 'data'), ended]);
  existsSync(BEGIN);
  await run();
  existsSync(END);
  strace.kill('SIGINT');
  await ended;
  return count(readFileSync(file, 'utf8'));
}

function count(trace: string): SystemCalls {
  const lines = trace.split('\n');
  const at = (mark: string): number => {
    const index = lines.findIndex((line) => line.includes(mark));
    if (index < 0) throw new Error(`strace saw no ${mark}:\n${trace.slice(0, 1000)}`);
    return index;
  };
  // A call in two lines, because another thread's came between, counts where it began.
  const calls = lines.slice(at(BEGIN) + 1, at(END)).filter((line) => /^\d+ +\w+\(/.test(line));
  const ioctls = calls.filter((line) => /^\d+ +ioctl\(/.test(line));
  const atomic = ioctls.filter((line) => line.includes('DRM_IOCTL_MODE_ATOMIC')).length;
  return { atomic, otherIoctls: ioctls.length - atomic, others: calls.length - ioctls.length };
}
