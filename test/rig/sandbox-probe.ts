/**
 * `node --import sandbox-probe.ts main.js run …`: on SIGUSR2 the bridge tries what its sandbox forbids, and what it must
 * still allow, and prints the outcomes on stdout as a line of JSON: an errno name each, or `done`.
 */
import { execFile } from 'node:child_process';
import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { TIOCSTI } from '../../protocols/asm-ioctls.ts';
import { PR_SET_DUMPABLE } from '../../protocols/linux-prctl.ts';
import { AF_UNIX, SOCK_STREAM } from '../../protocols/linux-socket.ts';
import { SYSCALL } from '../../protocols/linux-syscall.ts';
import { errnoName } from '../../src/sys/errors.ts';
import { openForWriting, openPipe } from '../../src/sys/pipe.ts';
import { errno, execve, ioctlBytes, prctl, socket, syscall } from '../../src/sys/libc.ts';

const AF_INET = 2;

function outcome(result: number): string {
  return result < 0 ? errnoName(errno()) : 'done';
}

async function outcomeOf(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return 'done';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** `secret` is a file that no bridge needs, `fresh` the path of one that does not exist. */
async function probe(secret: string, fresh: string): Promise<Record<string, string>> {
  return {
    execve: outcome(execve('/nowhere', ['nowhere', null], [null])),
    'start a program': await outcomeOf(() => promisify(execFile)('/bin/true')),
    // To attach to a process that does not exist.
    ptrace: outcome(syscall(SYSCALL.ptrace, 16, 0x3fffffff, 0, 0)),
    io_uring_setup: outcome(syscall(SYSCALL.io_uring_setup, 8, 0, 0, 0)),
    clone3: outcome(syscall(SYSCALL.clone3, 0, 0, 0, 0)),
    'ioctl TIOCSTI': outcome(ioctlBytes(1, TIOCSTI, new Uint8Array([0]))),
    'become dumpable': outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)),
    'signal another process': await outcomeOf(() => process.kill(process.ppid, 0)),
    'Internet socket': outcome(socket(AF_INET, SOCK_STREAM, 0)),
    'connect by TCP': await outcomeOf(() => once(connect(9, '127.0.0.1'), 'connect')),
    'make a file': await outcomeOf(() => writeFileSync(fresh, '')),
    'read a file outside': await outcomeOf(() => readFileSync(secret)),
    'read a file outside, in another thread': await outcomeOf(() => readFile(secret)),
    'Unix socket': outcome(socket(AF_UNIX, SOCK_STREAM, 0)),
    'read a library': await outcomeOf(() => readFile('/etc/ld.so.cache')),
    'work in the thread pool': await outcomeOf(() => promisify(pbkdf2)('', '', 1, 1, 'sha1')),
    'write to the pipe of a peer': await outcomeOf(() => {
      const { reading, writing } = openPipe();
      using ours = openForWriting(writing);
      writeSync(ours.fd, 'x');
      reading[Symbol.dispose]();
    }),
    'start a thread': await outcomeOf(() => once(new Worker('', { eval: true }), 'online')),
  };
}

process.on('SIGUSR2', () => {
  const { PROBE_SECRET: secret = '', PROBE_FRESH: fresh = '' } = process.env;
  void probe(secret, fresh).then((outcomes) => console.log(`probe ${JSON.stringify(outcomes)}`));
});
