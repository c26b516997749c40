/** What a process gives up, and how it starts again with that. */
import { readFileSync } from 'node:fs';
import { PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS } from '../../../protocols/linux-prctl.ts';
import { SysError } from '../errors.ts';
import { errno, execve, fcntl, prctl } from '../libc.ts';

const F_SETFD = 2;
const STDIO = [0, 1, 2];
/**
 * For a program that seldom makes objects: by default the space for new ones grows by megabytes at start, and holds next to
 * nothing later; and one thread of V8 does instead of four.
 */
const SMALL = ['--max-semi-space-size=1', '--v8-pool-size=1'];

/** From now on no program that this process starts gains privileges: setuid bits and file capabilities have no effect. */
export function setNoNewPrivileges(): void {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) throw SysError.fromErrno('prctl(PR_SET_NO_NEW_PRIVS)', errno());
}

/** Until the next execve: no core dumps, and other processes of the same user cannot trace this one or read its memory. */
export function setNotDumpable(): void {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) throw SysError.fromErrno('prctl(PR_SET_DUMPABLE)', errno());
}

/**
 * Runs this program again from its start: the same process, the same command line, and `variables` added to the
 * environment. Node's own share of memory is kept small, unless its options say otherwise. Standard streams and the
 * descriptors `keep` stay open. Returns only by SysError.
 */
export function startAgain(variables: Readonly<Record<string, string>>, keep: readonly number[]): never {
  // Node marks them as close-on-exec when it starts. One that is not open is the business of the new start.
  for (const fd of [...STDIO, ...keep]) fcntl(fd, F_SETFD, 0);
  const environment = Object.entries({ ...process.env, ...variables }).map(([name, value]) => `${name}=${value}`);
  const args = [process.execPath, ...SMALL, ...process.execArgv, ...process.argv.slice(1)];
  execve(process.execPath, [...args, null], [...environment, null]);
  throw SysError.fromErrno('execve', errno(), process.execPath);
}

/** What the kernel says about this thread. */
export function readConfinement(): { readonly noNewPrivileges: boolean; readonly filtersCalls: boolean } {
  const status = readFileSync('/proc/self/status', 'latin1');
  return { noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status), filtersCalls: /^Seccomp:\s*2$/m.test(status) };
}
