import { execFileSync } from 'node:child_process';
import { openFds } from '../../rig/process-resources.ts';
import { type BorrowedFd, type OwnedFd, dupFd } from '../../../src/sys/fd.ts';
import { SysError } from '../../../src/sys/errors.ts';

const SPARE = 32;

function limitFds(soft: number | string): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]);
}

/** Until it is disposed, only `free` more descriptors can be opened. */
export function fewFds(any: BorrowedFd, free: number): Disposable {
  const [soft] = execFileSync(
    'prlimit',
    ['--pid', String(process.pid), '--nofile', '--raw', '--noheadings', '--output=SOFT'],
    { encoding: 'utf8' },
  )
    .trim()
    .split(' ');
  limitFds(Math.max(...openFds().keys()) + SPARE);
  const taken: OwnedFd[] = [];
  fill(any, taken);
  for (let i = 0; i < free; i++) taken.pop()?.[Symbol.dispose]();
  return {
    [Symbol.dispose]() {
      for (const fd of taken) fd[Symbol.dispose]();
      limitFds(soft!);
    },
  };
}

/** Runs `act` while only `free` more descriptors can be opened. */
export function withFreeFds(any: BorrowedFd, free: number, act: () => void): void {
  using _ = fewFds(any, free);
  act();
}

function fill(any: BorrowedFd, taken: OwnedFd[]): void {
  for (;;) {
    try {
      taken.push(dupFd(any));
    } catch (error) {
      if (error instanceof SysError && error.code === 'EMFILE') return;
      throw error;
    }
  }
}
