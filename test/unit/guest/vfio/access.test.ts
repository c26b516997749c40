import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { VfioGuest } from '../../../../src/guest/vfio/guest.ts';
import type { SysError } from '../../../../src/sys/errors.ts';
import { OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { openPidfd, takeFd } from '../../../../src/sys/pidfd.ts';
import { Poll } from '../../../../src/sys/poll.ts';
import { connectUnix, UnixConnection } from '../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { asNobody } from '../../../rig/as-nobody.ts';
import { eventually } from '../../../rig/eventually.ts';
import { skipBecause } from '../../../rig/skip.ts';

let directory: string;
let log: string[];
const file = (name: string): string => join(directory, name);
const logger = (_: string, message: string): void => void log.push(message);

expectNoLeaks();

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-vfio-'));
  log = [];
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function codeOf(open: () => unknown): string {
  try {
    open();
    return 'none';
  } catch (error) {
    return (error as SysError).code;
  }
}

function skipWithoutRoot(): boolean {
  return process.geteuid!() !== 0 && skipBecause('only root can act as another user');
}

describe('VfioGuest.open', () => {
  test('refuses a process that has no VFIO device, by its name', () => {
    expect(() => VfioGuest.open({ device: { pid: process.pid } })).toThrow(
      new RegExp(`process ${process.pid} \\(.+\\) has no VFIO device open: start the VMM with one`),
    );
  });

  test('refuses a process that does not exist, whether its number was given or read from a file', () => {
    const none = 2 ** 22 + 1;
    expect(codeOf(() => VfioGuest.open({ device: { pid: none } }))).toBe('no-process');
    writeFileSync(file('pid'), `${none}\n`);
    expect(codeOf(() => VfioGuest.open({ device: { pid: file('pid') } }))).toBe('no-process');
  });

  test.skipIf(skipWithoutRoot())('says what permits to take the device of a process of another user', () => {
    using _nobody = asNobody();

    expect(() => VfioGuest.open({ device: { pid: 1 } })).toThrow(
      /no permission to take the device of process 1 \(.+\): that needs its user and sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE/,
    );
  });

  test.each(['', 'x', '-1', '0', '1 2'])("refuses a pid file with '%s' in it", (text) => {
    writeFileSync(file('pid'), text);
    expect(() => VfioGuest.open({ device: { pid: file('pid') } })).toThrow('has no process number in it');
  });

  test('refuses a pid file that is not there', () => {
    expect(() => VfioGuest.open({ device: { pid: file('pid') } })).toThrow('is the VMM running');
  });

  test('refuses an inherited descriptor of something else, without a call on it', () => {
    const opened = (): OwnedFd => OwnedFd.adopt(openSync('/dev/null', 'r+'));
    expect(() => VfioGuest.open({ device: { fd: opened() } })).toThrow(
      'the descriptor is of /dev/null, not of a VFIO device',
    );
    expect(codeOf(() => VfioGuest.open({ device: { fd: createMemfd('not-a-device', 4096) } }))).toBe('no-device');
  });

  test('refuses a mediated device that does not exist, and says how to make it', () => {
    const mdev = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
    expect(() => VfioGuest.open({ device: { mdev } })).toThrow(`echo ${mdev} >/sys/class/mdev_bus/PARENT`);
  });

  test('refuses a socket that another guest listens on', () => {
    using guest = VfioGuest.open({ device: { socket: file('gpu') } });
    expect(codeOf(() => VfioGuest.open({ device: { socket: file('gpu') } }))).toBe('EADDRINUSE');
    expect(guest.isConnected).toBe(false);
  });
});

describe('VfioGuest with a socket', () => {
  /** Connects, sends `count` descriptors of `fd` with a byte, and resolves when the guest has closed the connection. */
  async function pass(count: number, fd: () => OwnedFd): Promise<void> {
    using connection = UnixConnection.adopt(connectUnix(file('gpu')));
    using sent = fd();
    connection.send(
      Uint8Array.of(0),
      Array.from({ length: count }, () => sent),
    );
    await closed(connection);
  }

  async function closed(connection: UnixConnection): Promise<void> {
    let isClosed = (): void => undefined;
    const closing = new Promise<void>((resolve) => (isClosed = resolve));
    using _poll = Poll.readable(connection, () => {
      if (connection.recv(new Uint8Array(1), 0, 1) === 0) isClosed();
    });
    await closing;
  }

  test('refuses a byte without a descriptor, with two, and a descriptor of something else', async () => {
    using guest = VfioGuest.open({ device: { socket: file('gpu') }, log: logger });
    const memfd = (): OwnedFd => createMemfd('not-a-device', 4096);
    await pass(0, memfd);
    await pass(2, memfd);
    await pass(1, memfd);
    expect(log).toEqual([
      'vfio: a peer sent 0 descriptors; send one, of the device, with one byte',
      'vfio: a peer sent 2 descriptors; send one, of the device, with one byte',
      expect.stringContaining('vfio: the descriptor is of /memfd:not-a-device'),
    ]);
    expect(guest.isConnected).toBe(false);
  });

  test('prefers the newer of two peers that have sent nothing', async () => {
    using guest = VfioGuest.open({ device: { socket: file('gpu') }, log: logger });
    using first = UnixConnection.adopt(connectUnix(file('gpu')));
    using second = UnixConnection.adopt(connectUnix(file('gpu')));
    await closed(first);
    expect(second.recv(new Uint8Array(1), 0, 1)).toBe(-1);
    expect(guest.isConnected).toBe(false);
  });

  test('removes the socket when it is disposed', () => {
    VfioGuest.open({ device: { socket: file('gpu') } })[Symbol.dispose]();
    expect(existsSync(file('gpu'))).toBe(false);
  });
});

describe('pidfd', () => {
  test('is readable once the process has ended, and takes its descriptors before', async () => {
    const child = spawn('sleep', ['1000'], { stdio: ['pipe', 'ignore', 'ignore'] });
    await once(child, 'spawn');
    using pidfd = openPidfd(child.pid!);
    {
      using taken = takeFd(pidfd, 1);
      expect(taken.fd).toBeGreaterThan(2);
    }
    expect(codeOf(() => takeFd(pidfd, 1000))).toBe('EBADF');
    const ended = vi.fn();
    using _poll = Poll.readable(pidfd, ended);
    expect(ended).not.toHaveBeenCalled();
    const closing = once(child, 'close');
    child.kill('SIGKILL');
    await closing;
    await eventually(() => expect(ended).toHaveBeenCalled());
  });

  test('of a process that has ended is refused', () => {
    expect(codeOf(() => openPidfd(2 ** 22 + 1))).toMatch(/^(ESRCH|EINVAL)$/);
  });
});
