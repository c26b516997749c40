/** Pipes to and from other programs, of which one end is theirs. Neither reading nor writing can be made to block. */
import { constants, openSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { SysError } from './errors.ts';
import { OwnedFd, setNonBlocking } from './fd.ts';
import { errno, pipe2 } from './libc.ts';
import { Poll } from './poll.ts';

const O_CLOEXEC = 0o2000000;
/** What is read or written in one turn of the event loop. */
const CHUNK = 64 * 1024;

/** The reading end is non-blocking, the writing end is not: it is for another program, which may not expect that. */
export function openPipe(): { readonly reading: OwnedFd; readonly writing: OwnedFd } {
  const pair = new Int32Array(2);
  if (pipe2(new Uint8Array(pair.buffer), O_CLOEXEC) < 0) throw SysError.fromErrno('pipe2', errno());
  const [reading, writing] = [OwnedFd.adopt(pair[0]!), OwnedFd.adopt(pair[1]!)];
  try {
    setNonBlocking(reading);
  } catch (error) {
    reading[Symbol.dispose]();
    writing[Symbol.dispose]();
    throw error;
  }
  return { reading, writing };
}

/**
 * The writing end of a pipe that a peer sent, opened again: the peer could clear O_NONBLOCK of the file it shares with
 * us. Consumes `fd`. SysError EINVAL if it is no pipe, EACCES if it is another user's, EMFILE.
 */
export function openForWriting(fd: OwnedFd): OwnedFd {
  using theirs = fd;
  const path = `/proc/self/fd/${theirs.fd}`;
  // Neither call asks the file system that a file of another kind may be on.
  if (!readlinkSync(path).startsWith('pipe:[')) throw new SysError('open', 'EINVAL', 'the descriptor is no pipe');
  try {
    return OwnedFd.adopt(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
  } catch (error) {
    throw new SysError('open', codeOf(error), 'the pipe of a peer');
  }
}

/** Why a transfer ended early: `large` is beyond the limit, `timeout` that nothing moved for that long, `aborted` the signal. */
export type PipeFault = 'large' | 'timeout' | 'aborted';

export interface PipeOptions {
  /** How long nothing may move. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Reads the non-blocking reading end of a pipe until its writers have closed it, some in each turn of the event loop.
 * Consumes `fd`. Resolves with a fault if it was given up. Rejects with SysError.
 */
export function readPipe(fd: OwnedFd, maxBytes: number, options: PipeOptions): Promise<Uint8Array | PipeFault> {
  let bytes = Buffer.allocUnsafeSlow(CHUNK);
  let total = 0;
  return transfer(fd, { readable: true }, options, () => {
    if (total === bytes.length) {
      const larger = Buffer.allocUnsafeSlow(2 * total);
      larger.set(bytes);
      bytes = larger;
    }
    const count = readSync(fd.fd, bytes, total, Math.min(CHUNK, bytes.length - total), null);
    total += count;
    if (total > maxBytes) return 'large';
    return count > 0 ? null : bytes.subarray(0, total);
  });
}

/**
 * Writes all of `bytes` to what `openForWriting` returned, some in each turn of the event loop, and closes it. Consumes
 * `fd`. Resolves with a fault if it was given up. Rejects with SysError EPIPE if the reader has gone.
 */
export function writePipe(fd: OwnedFd, bytes: Uint8Array, options: PipeOptions): Promise<'written' | PipeFault> {
  let written = 0;
  return transfer(fd, { writable: true }, options, () => {
    if (written < bytes.length) written += writeSync(fd.fd, bytes, written, Math.min(CHUNK, bytes.length - written));
    return written < bytes.length ? null : 'written';
  });
}

/** Calls `step` while `fd` is ready, until it returns something. Disposes `fd`. */
function transfer<T>(
  fd: OwnedFd,
  events: { readonly readable?: boolean; readonly writable?: boolean },
  { timeoutMs, signal }: PipeOptions,
  step: () => T | null,
): Promise<T | 'timeout' | 'aborted'> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => end(() => resolve('timeout')), timeoutMs);
    const abort = (): void => end(() => resolve('aborted'));
    let poll: Poll | null = null;
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      poll?.[Symbol.dispose]();
      poll = null;
      fd[Symbol.dispose]();
      settle();
    };
    const ready = (): void => {
      if (!poll) return;
      try {
        const result = step();
        timer.refresh();
        if (result !== null) end(() => resolve(result));
      } catch (error) {
        const code = codeOf(error);
        if (code !== 'EAGAIN') end(() => reject(new SysError('pipe', code)));
      }
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort);
    try {
      poll = Poll.watch(fd, events, ready);
    } catch (error) {
      end(() => {
        throw error;
      });
    }
  });
}

/** Of an error of node:fs. */
function codeOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  return code;
}
