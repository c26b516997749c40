import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ScanoutError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';

export type LaunchErrorCode =
  /** A program is not installed. */
  | 'missing'
  /** QEMU ended before its guest showed anything. */
  | 'exited'
  /** The guest showed nothing in time. */
  | 'timeout';

/** A guest could not be launched. */
export class LaunchError extends ScanoutError<LaunchErrorCode> {}

/** Kept of what QEMU and the guest say, in characters. */
const MAX_LOG = 2 ** 16;
/** Of that, what a message has. */
const TOLD_LINES = 30;
const FIRST_AFTER_STDIO = 3;

/** QEMU as a child that dies with the thread that started it, however that ends: SIGKILL too. */
export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #program: string;
  #log = '';
  #end: string | null = null;
  /** Resolves when it is gone and reaped, and its output read. */
  readonly exited: Promise<void>;

  /** The sockets become descriptors 3, 4, ... of it, and are consumed. LaunchError `missing` if it or setpriv is not there. */
  constructor(program: string, args: readonly string[], sockets: readonly OwnedFd[]) {
    this.#program = program;
    try {
      const setpriv = findProgram('setpriv', 'it is in the package util-linux, and lets QEMU die with this process');
      const qemu = findProgram(program, 'install QEMU (Debian: qemu-system-x86) or give launchGuest another `qemu`');
      this.#child = spawn(setpriv, ['--pdeathsig', 'KILL', qemu, ...args], { stdio: ['ignore', 'pipe', 'pipe', ...sockets.map((socket) => socket.fd)] });
    } finally {
      for (const socket of sockets) socket[Symbol.dispose]();
    }
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) stream.setEncoding('utf8').on('data', (text: string) => (this.#log = (this.#log + text).slice(-MAX_LOG)));
    this.exited = new Promise((resolve) => {
      const ended = (how: string): void => {
        this.#end ??= how;
        resolve();
      };
      this.#child.on('error', (error) => ended(`could not be started: ${error.message}`));
      this.#child.on('close', (code, signal) => ended(signal === null ? `ended with exit code ${code ?? '?'}` : `was ended by ${signal}`));
    });
  }

  /** The descriptor that socket number `index` is in QEMU. */
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

  /** What QEMU said, on stdout and stderr: stdout has the guest's serial console. Its end, if that is long. */
  get log(): string {
    return this.#log;
  }

  /** How it ended, and its last words. */
  get exitReason(): string {
    const lines = this.#log.trimEnd().split(/\r?\n/).slice(-TOLD_LINES);
    return `${this.#program} ${this.#end ?? 'is running'}${lines[0] === '' ? '' : `; it said last:\n${lines.map((line) => `  ${line}`).join('\n')}`}`;
  }

  /** Ends it at once; resolves when it is gone. */
  async kill(): Promise<void> {
    if (!this.isGone) this.#child.kill('SIGKILL');
    await this.exited;
  }
}

/** As a shell finds it. LaunchError `missing`. */
function findProgram(name: string, advice: string): string {
  const paths = name.includes('/') ? [name] : (process.env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, name));
  const found = paths.find(isExecutable);
  if (found === undefined) throw new LaunchError('missing', `launchGuest: there is no program ${name}: ${advice}`);
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
