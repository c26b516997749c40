/** The kernel's console: what a virtual terminal gets of the keyboards of the machine. */
import { constants, openSync, readSync } from 'node:fs';
import { expect } from 'vitest';
import { KDGKBMODE } from '../../protocols/linux-kd.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';

/** A virtual terminal that is read, as by a login prompt: without a reader the kernel drops what is typed. */
export class Prompt implements Disposable {
  readonly #fd: OwnedFd;

  /** `terminal` is a name such as `tty1`. */
  constructor(terminal: string) {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
    this.#fd = OwnedFd.adopt(openSync(`/dev/${terminal}`, flags));
  }

  /** The next line that was typed; empty if there is none. */
  readonly line = (): string => {
    const bytes = Buffer.alloc(256);
    try {
      return bytes.toString('latin1', 0, readSync(this.#fd.fd, bytes));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('EAGAIN');
      return '';
    }
  };

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** `K_OFF`, for example. */
export function keyboardMode(terminal: string): number {
  using fd = OwnedFd.adopt(openSync(`/dev/${terminal}`, constants.O_RDWR | constants.O_NOCTTY));
  const mode = new Int32Array(1);
  ioctl(fd, KDGKBMODE, 'KDGKBMODE', new Uint8Array(mode.buffer));
  return mode[0]!;
}
