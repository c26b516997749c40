import { errno as lastErrno, errnoNumbers } from './libc.ts';

const names = new Map<number, string>();
for (const [name, number] of Object.entries(errnoNumbers)) {
  // The first name of a number wins: EAGAIN comes before its alias EWOULDBLOCK.
  if (!names.has(number)) names.set(number, name);
}

/**
 * Base of every error thrown on purpose. One subclass per boundary. `code` is stable and meant for
 * `switch`; the message says what was tried, on what, and what to do about it.
 */
export abstract class ScanoutError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/**
 * A system call that failed. `code` is the errno name ('EMFILE') and `errno` its number. One code
 * is not the kernel's and has errno 0: `ECTRUNC`, file descriptors were lost in transit.
 */
export class SysError extends ScanoutError {
  readonly syscall: string;
  readonly errno: number;

  constructor(syscall: string, code: string, detail?: string) {
    super(code, `${syscall}: ${code}${detail === undefined ? '' : ` (${detail})`}`);
    this.syscall = syscall;
    this.errno = errnoNumbers[code] ?? 0;
  }

  /** The error of the libc call just made. Pass `number` if its errno was saved earlier. */
  static fromErrno(syscall: string, number = lastErrno(), detail?: string): SysError {
    return new SysError(syscall, errnoName(number), detail);
  }
}

/** 'EBADF' for 9; 'E9999' for 9999, which has no name. */
export function errnoName(number: number): string {
  return names.get(number) ?? `E${number}`;
}

export const EINTR = 4;
export const EAGAIN = 11;
