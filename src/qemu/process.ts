import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { printable } from '../core/log.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';

export type LaunchErrorCode =
  /** A program is not installed. */
  | 'missing'
  /** QEMU exited before its guest showed anything. */
  | 'exited'
  /** The guest showed nothing in time. */
  | 'timeout'
  /** There is no such snapshot of this guest. */
  | 'no-snapshot';

/** A guest could not be launched. */
export class LaunchError extends ScanoutError<LaunchErrorCode> {}

/** Characters of output that are kept. */
const MAX_LOG = 2 ** 16;
/** Lines of output that an error message quotes. */
const QUOTED_LINES = 30;
const FIRST_AFTER_STDIO = 3;

/** QEMU as a child process that dies with the thread that started it, even if that is killed by SIGKILL. */
export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #program: string;
  #log = '';
  #end: string | null = null;
  #killedBecause: string | null = null;
  /** Resolves when QEMU has exited, is reaped, and all its output has been read. */
  readonly exited: Promise<void>;

  /** The sockets become QEMU's descriptors 3, 4, … and are consumed. Throws LaunchError `missing` without QEMU or setpriv. */
  constructor(program: string, args: readonly string[], sockets: readonly OwnedFd[]) {
    this.#program = program;
    try {
      const setpriv = requireProgram('launchGuest', 'setpriv', SETPRIV_ADVICE);
      const qemu = findQemu(program);
      this.#child = spawn(setpriv, ['--pdeathsig', 'KILL', qemu, ...args], {
        stdio: ['ignore', 'pipe', 'pipe', ...sockets.map((socket) => socket.fd)],
      });
    } finally {
      for (const socket of sockets) socket[Symbol.dispose]();
    }
    const append = (text: string): void => {
      this.#log = (this.#log + text).slice(-MAX_LOG);
    };
    // Node makes no streams if it is out of descriptors.
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.setEncoding('utf8').on('data', append);
    this.exited = new Promise((resolve) => {
      const ended = (how: string): void => {
        this.#end ??= how;
        resolve();
      };
      this.#child.on('error', (error) => ended(`could not be started: ${error.message}`));
      this.#child.on('close', (code, signal) =>
        ended(this.#killedBecause ?? (signal === null ? `exited with code ${code ?? '?'}` : `was killed by ${signal}`)),
      );
    });
  }

  /** The number in QEMU of the descriptor for socket `index`. */
  static descriptorOf(index: number): number {
    return FIRST_AFTER_STDIO + index;
  }

  /** Undefined if it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get isGone(): boolean {
    return this.#end !== null;
  }

  /** The end of QEMU's output: the guest's serial console (stdout) and QEMU's messages (stderr). */
  get log(): string {
    return this.#log;
  }

  /** How QEMU exited, and its last output, which a terminal may show. */
  get exitReason(): string {
    const lines = this.#log.trimEnd().split(/\r?\n/).slice(-QUOTED_LINES);
    return `${this.#program} ${this.#end ?? 'is running'}${lines[0] === '' ? '' : `; last output:\n${lines.map((line) => `  ${printable(line)}`).join('\n')}`}`;
  }

  /** Kills QEMU; resolves when it is gone. `exitReason` is then `because`, if given, and not the signal. */
  async kill(because: string | null = null): Promise<void> {
    this.#killedBecause ??= because;
    if (!this.isGone) this.#child.kill('SIGKILL');
    await this.exited;
  }
}

/** The path of QEMU. Throws LaunchError `missing`. */
export function findQemu(program: string): string {
  const advice = 'install QEMU (Debian: qemu-system-x86) or set the `qemu` option of launchGuest';
  return requireProgram('launchGuest', program, advice);
}

/** Why setpriv(1) is needed, and which package has it. */
export const SETPRIV_ADVICE = 'install util-linux; it lets QEMU die with this process';

/** Finds a program as a shell does. Throws LaunchError `missing`, which says for what it is needed. */
export function requireProgram(what: string, name: string, advice: string): string {
  const paths = name.includes('/')
    ? [name]
    : (process.env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, name));
  const found = paths.find(isExecutable);
  if (found === undefined) throw new LaunchError('missing', `${what}: program ${name} not found: ${advice}`);
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
