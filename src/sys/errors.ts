import { ERRNO } from '../../protocols/linux-errno.ts';

const names = new Map<number, string>();
for (const [name, number] of Object.entries(ERRNO)) {
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

/** Errors that say nothing about what was asked for: descriptors or memory were short, or something was busy. */
const passing = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOSPC', 'EAGAIN', 'EBUSY', 'EINTR']);

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
    this.errno = ERRNO[code] ?? 0;
  }

  /** The same call may succeed later. */
  get mayPass(): boolean {
    return passing.has(this.code);
  }

  /** `number` is what `errno` of libc.ts said right after the call. */
  static fromErrno(syscall: string, number: number, detail?: string): SysError {
    return new SysError(syscall, errnoName(number), detail);
  }
}

/** 'EBADF' for 9; 'E9999' for 9999, which has no name. */
export function errnoName(number: number): string {
  return names.get(number) ?? `E${number}`;
}

export const EINTR = 4;
export const EAGAIN = 11;
