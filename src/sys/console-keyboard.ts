/** The keyboard of a virtual terminal, for a program that reads the keyboards of the machine itself. */
import { spawn } from 'node:child_process';
import { constants, openSync, readFileSync } from 'node:fs';
import { K_OFF, K_UNICODE, KDGKBMODE, KDSKBMODE } from '../../protocols/linux-kd.ts';
import { DisposableStack } from './disposable-stack.ts';
import { OwnedFd } from './fd.ts';
import { ioctl, tryIoctl } from './ioctl.ts';
import { packageProgram } from './package-file.ts';

const ACTIVE = '/sys/class/tty/tty0/active';
/** The descriptor of the terminal in the guardian. */
const GUARDIAN_FD = 3;

/** The device of the virtual terminal in front: `/dev/tty1`. Null where there are none. */
export function terminalInFront(): string | null {
  try {
    return `/dev/${readFileSync(ACTIVE, 'latin1').trim()}`;
  } catch {
    return null;
  }
}

/**
 * Turns the keyboard of the virtual terminal in front off until disposed: what is typed reaches neither a login prompt
 * nor a shell on it, and the kernel does not switch terminals by itself. A process of its own turns it on again if this
 * one is killed. Throws what `openSync` throws, or SysError EPERM if the terminal is not this process's (root may use
 * any).
 */
export function turnConsoleKeyboardOff(path: string): Disposable {
  using stack = new DisposableStack();
  const terminal = stack.use(OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NOCTTY)));
  const before = new Int32Array(1);
  ioctl(terminal, KDGKBMODE, 'KDGKBMODE', new Uint8Array(before.buffer));
  // A program that was killed may have left it off.
  const mode = before[0] === K_OFF ? K_UNICODE : before[0]!;
  ioctl(terminal, KDSKBMODE, 'KDSKBMODE', K_OFF);
  stack.defer(() => tryIoctl(terminal, KDSKBMODE, mode));
  const program = packageProgram('src/sys/console-guardian.ts');
  const guardian = spawn(process.execPath, [...process.execArgv, program, String(GUARDIAN_FD), String(mode)], {
    stdio: ['pipe', 'ignore', 'ignore', terminal.fd],
  });
  guardian.on('error', () => undefined);
  guardian.stdin!.on('error', () => undefined);
  guardian.unref();
  (guardian.stdin as unknown as { unref(): void }).unref();
  // It ends without doing anything.
  stack.defer(() => guardian.stdin!.end('.'));
  return stack.move();
}
