/** Virtual terminals: which is in front, and the keyboard of one for a program that reads the machine's itself. */
import { spawn } from 'node:child_process';
import { constants, openSync, readFileSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { K_OFF, K_UNICODE, KDGKBMODE, KDSKBMODE } from '../../protocols/linux-kd.ts';
import { VT_ACTIVATE } from '../../protocols/linux-vt.ts';
import { DisposableStack } from './disposable-stack.ts';
import { OwnedFd } from './fd.ts';
import { ioctl, tryIoctl } from './ioctl.ts';
import { packageProgram } from './package-file.ts';
import { Poll } from './poll.ts';

/** The kernel notifies those who poll this file. */
const ACTIVE = '/sys/class/tty/tty0/active';
/** The descriptor of the terminal in the guardian. */
const GUARDIAN_FD = 3;

/** The virtual terminal that is in front when it is opened. */
export class VirtualTerminal implements Disposable {
  /** `tty1` */
  readonly name: string;
  readonly #stack: DisposableStack;
  readonly #device: OwnedFd;
  readonly #active: OwnedFd;
  readonly #bytes = Buffer.alloc(16);
  #poll: Poll | null = null;
  #isKeyboardOff = false;

  private constructor(path: string, stack: DisposableStack) {
    this.name = basename(path);
    this.#device = stack.use(OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NOCTTY)));
    this.#active = stack.use(OwnedFd.adopt(openSync(ACTIVE, constants.O_RDONLY)));
    this.#stack = stack.move();
    this.#stack.defer(() => this.#poll?.[Symbol.dispose]());
  }

  /** Null where there are none. Throws what `openSync` throws. */
  static open(): VirtualTerminal | null {
    const path = terminalInFront();
    if (path === null) return null;
    using stack = new DisposableStack();
    return new VirtualTerminal(path, stack);
  }

  get isInFront(): boolean {
    return this.#bytes.toString('latin1', 0, readSync(this.#active.fd, this.#bytes, 0, 16, 0)).trim() === this.name;
  }

  /**
   * Turns the keyboard of this terminal off until disposed: what is typed reaches neither a login prompt nor a shell on
   * it, and the kernel does not switch terminals by itself. A process of its own turns it on again if this one is killed.
   * Throws SysError EPERM if the terminal is not this process's (root may use any).
   */
  turnKeyboardOff(): void {
    const before = new Int32Array(1);
    ioctl(this.#device, KDGKBMODE, 'KDGKBMODE', new Uint8Array(before.buffer));
    // A program that was killed may have left it off.
    const mode = before[0] === K_OFF ? K_UNICODE : before[0]!;
    ioctl(this.#device, KDSKBMODE, 'KDSKBMODE', K_OFF);
    this.#isKeyboardOff = true;
    this.#stack.defer(() => tryIoctl(this.#device, KDSKBMODE, mode));
    const program = packageProgram('src/sys/console-guardian.ts');
    const guardian = spawn(process.execPath, [...process.execArgv, program, String(GUARDIAN_FD), String(mode)], {
      stdio: ['pipe', 'ignore', 'ignore', this.#device.fd],
    });
    guardian.on('error', () => undefined);
    guardian.stdin!.on('error', () => undefined);
    guardian.unref();
    (guardian.stdin as unknown as { unref(): void }).unref();
    // It ends without doing anything.
    this.#stack.defer(() => guardian.stdin!.end('.'));
  }

  /** Shows another terminal, counted from 1. It is in front soon after. SysError EPERM as for `turnKeyboardOff`. */
  show(terminal: number): void {
    ioctl(this.#device, VT_ACTIVATE, 'VT_ACTIVATE', terminal);
  }

  /** Calls back when another terminal has come to the front. Call it once. Does not keep the process alive. */
  watch(onChanged: () => void): void {
    const changes = { disconnect: true };
    // The kernel notifies of what has changed since the file was last read.
    void this.isInFront;
    this.#poll = Poll.watch(this.#active, changes, () => {
      void this.isInFront;
      // Such a file reports a change as an error, which ends the poll.
      this.#poll!.update(changes);
      // The kernel resets a terminal that a killed program had left in another mode when it leaves the front.
      if (this.#isKeyboardOff) tryIoctl(this.#device, KDSKBMODE, K_OFF);
      onChanged();
    }).unref();
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** The device of the virtual terminal in front: `/dev/tty1`. Null where there are none. */
export function terminalInFront(): string | null {
  try {
    return `/dev/${readFileSync(ACTIVE, 'latin1').trim()}`;
  } catch {
    return null;
  }
}
