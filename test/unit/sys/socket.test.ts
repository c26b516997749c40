import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { acceptUnix, connectUnix, listenUnix, socketPair } from '../../../src/sys/socket.ts';
import { withFreeFds } from './few-fds.ts';
import { expectNoLeaks } from './no-leaks.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-socket-'));
});
afterEach(() => rmSync(directory, { recursive: true }));
expectNoLeaks();

const NONBLOCK_CLOEXEC = 0o2004000;
function flagsOf(fd: { fd: number }): number {
  return parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'utf8'))![1]!, 8);
}

test('listen, connect, accept: all non-blocking and close-on-exec', () => {
  const path = join(directory, 's');
  using listener = listenUnix(path);
  expect(acceptUnix(listener)).toBeNull();
  using client = connectUnix(path);
  using server = acceptUnix(listener)!;
  const [a, b] = socketPair();
  for (const fd of [listener, client, server, a, b]) expect(flagsOf(fd) & NONBLOCK_CLOEXEC).toBe(NONBLOCK_CLOEXEC);
  a[Symbol.dispose]();
  b[Symbol.dispose]();
});

test('the socket file is for its owner only unless told otherwise, whatever the umask', () => {
  const old = process.umask(0o077);
  using ours = listenUnix(join(directory, 'private'));
  using theirs = listenUnix(join(directory, 'shared'), { mode: 0o660 });
  process.umask(old);
  expect(statSync(join(directory, 'private')).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, 'shared')).mode & 0o777).toBe(0o660);
  expect(ours.closed || theirs.closed).toBe(false);
});

test('a stale socket file is replaced', () => {
  const path = join(directory, 's');
  listenUnix(path)[Symbol.dispose]();
  expect(existsSync(path)).toBe(true);
  using listener = listenUnix(path);
  using client = connectUnix(path);
  using server = acceptUnix(listener);
  expect(server).not.toBeNull();
  expect(client.closed).toBe(false);
});

test('a live socket is left alone', () => {
  const path = join(directory, 's');
  using listener = listenUnix(path);
  expect(() => listenUnix(path)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }) as Error);
  // The probe shows up as a connection closed at once.
  acceptUnix(listener)?.[Symbol.dispose]();
  using client = connectUnix(path);
  expect(client.closed).toBe(false);
});

test('a file that is no socket is not deleted', () => {
  const path = join(directory, 'notes.txt');
  writeFileSync(path, 'mine');
  expect(() => listenUnix(path)).toThrow('bind: EADDRINUSE');
  expect(readFileSync(path, 'utf8')).toBe('mine');
});

test('107 bytes of path fit, 108 are refused with the count', () => {
  const fits = join(directory, 'x'.repeat(107 - directory.length - 1));
  const listener = listenUnix(fits);
  listener[Symbol.dispose]();
  unlinkSync(fits);
  expect(() => listenUnix(`${fits}x`)).toThrow(/bind: ENAMETOOLONG .*108 bytes/);
  expect(() => connectUnix(`${fits}x`)).toThrow('connect: ENAMETOOLONG');
  expect(() => connectUnix('')).toThrow('connect: EINVAL');
  expect(() => connectUnix('a\0b')).toThrow('connect: EINVAL');
});

test('nobody there: ENOENT and ECONNREFUSED, with the path', () => {
  const path = join(directory, 's');
  expect(() => connectUnix(path)).toThrow(`connect: ENOENT (${path})`);
  listenUnix(path)[Symbol.dispose]();
  expect(() => connectUnix(path)).toThrow('connect: ECONNREFUSED');
  expect(() => listenUnix(join(directory, 'missing', 's'))).toThrow('bind: ENOENT');
});

test('out of descriptors: accept fails, the connection waits, and is there afterwards', () => {
  const path = join(directory, 's');
  using listener = listenUnix(path);
  using client = connectUnix(path);
  withFreeFds(client, 0, () => {
    expect(() => acceptUnix(listener)).toThrow('accept4: EMFILE');
  });
  using server = acceptUnix(listener);
  expect(server).not.toBeNull();
});
