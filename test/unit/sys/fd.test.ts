import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { EAGAIN, SysError } from '../../../src/sys/errors.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { OwnedFd, dupFd, tryRead } from '../../../src/sys/fd.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { expectNoLeaks } from './no-leaks.ts';
import { withFreeFds } from './few-fds.ts';
import { eventually } from '../../rig/eventually.ts';

const CLOEXEC = 0o2000000;
const EINVAL = 22;

function flagsOf(fd: number): number {
  return parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8);
}

function openNull(): OwnedFd {
  return OwnedFd.adopt(openSync('/dev/null', 'r'));
}

expectNoLeaks();

test('OwnedFd: closes the descriptor once on dispose', () => {
  const fd = openNull();
  const number = fd.fd;
  fd[Symbol.dispose]();
  expect(() => fstatSync(number)).toThrow('EBADF');
  const reused = openSync('/dev/null', 'r');
  expect(reused).toBe(number);
  fd[Symbol.dispose]();
  expect(fstatSync(reused).isCharacterDevice()).toBe(true);
  closeSync(reused);
});

test('OwnedFd: throws on use after dispose', () => {
  const fd = openNull();
  fd[Symbol.dispose]();
  expect(fd.closed).toBe(true);
  expect(() => fd.fd).toThrow('used after');
  expect(() => fd.dup()).toThrow('used after');
  expect(() => fd.take()).toThrow('used after');
});

test('OwnedFd: dup makes a second descriptor of the same file, close-on-exec', () => {
  const fd = openNull();
  const copy = fd.dup();
  fd[Symbol.dispose]();
  expect(fstatSync(copy.fd).isCharacterDevice()).toBe(true);
  expect(flagsOf(copy.fd) & CLOEXEC).toBe(CLOEXEC);
  copy[Symbol.dispose]();
});

test('OwnedFd: take returns the number and leaves it open', () => {
  const fd = openNull();
  const number = fd.take();
  fd[Symbol.dispose]();
  expect(fd.closed).toBe(true);
  closeSync(number);
});

test('OwnedFd: inherit makes a descriptor close-on-exec and throws EBADF if it is not open', () => {
  using original = openNull();
  const number = original.dup().take();
  using inherited = OwnedFd.inherit(number);
  expect(flagsOf(inherited.fd) & CLOEXEC).toBe(CLOEXEC);
  expect(() => OwnedFd.inherit(9999)).toThrow(expect.objectContaining({ code: 'EBADF', errno: 9 }) as Error);
});

test('OwnedFd: dispose throws EBADF if something else closed the descriptor', () => {
  const fd = openNull();
  closeSync(fd.fd);
  expect(() => fd[Symbol.dispose]()).toThrow('close: EBADF');
});

test('OwnedFd: adopt refuses numbers that cannot be descriptors', () => {
  expect(() => OwnedFd.adopt(-1)).toThrow(RangeError);
  expect(() => OwnedFd.adopt(1.5)).toThrow(RangeError);
});

test('dupFd: throws a SysError EMFILE when no descriptor is free', () => {
  using fd = openNull();
  withFreeFds(fd, 0, () => {
    let error: unknown;
    try {
      dupFd(fd);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SysError);
    expect(error).toMatchObject({
      code: 'EMFILE',
      errno: 24,
      syscall: 'fcntl(F_DUPFD_CLOEXEC)',
      message: 'fcntl(F_DUPFD_CLOEXEC): EMFILE',
    });
  });
});

test('OwnedFd: a leaked descriptor causes a warning and stays open', async () => {
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const number = openSync('/dev/null', 'r');
  (() => OwnedFd.adopt(number))();
  await eventually(() => {
    gc();
    expect(warning).toHaveBeenCalledWith(expect.stringContaining(`descriptor ${number} `), 'ScanoutLeakWarning');
  });
  warning.mockRestore();
  closeSync(number);
});

test('tryRead: reads into native memory and returns the length', () => {
  using eventfd = EventFd.create(7);
  using buffer = NativeBuffer.allocate(16);
  expect(tryRead(eventfd, buffer.address, buffer.length)).toBe(8);
  expect(buffer.view.getBigUint64(0, true)).toBe(7n);
});

test.each([
  ['an empty eventfd', 16, -EAGAIN],
  ['a buffer that is too short', 4, -EINVAL],
])('tryRead: returns -errno for %s', (_, length, result) => {
  using eventfd = EventFd.create();
  using buffer = NativeBuffer.allocate(16);
  expect(tryRead(eventfd, buffer.address, length)).toBe(result);
});
