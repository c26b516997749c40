import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { Poll } from '../../../src/sys/poll.ts';
import {
  SocketFile,
  UnixConnection,
  acceptUnix,
  connectUnix,
  listenUnix,
  socketPair,
} from '../../../src/sys/socket.ts';
import { eventually } from '../../rig/eventually.ts';
import { fileSize } from '../../rig/process-resources.ts';
import { withFreeFds } from './few-fds.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

const NONBLOCK_CLOEXEC = 0o2004000;
function flagsOf(fd: { fd: number }): number {
  return parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'utf8'))![1]!, 8);
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Everything that has arrived. */
function drain(connection: UnixConnection): Buffer {
  const chunk = new Uint8Array(65536);
  const parts: Buffer[] = [];
  for (let n = connection.recv(chunk, 0, chunk.length); n > 0; n = connection.recv(chunk, 0, chunk.length))
    parts.push(Buffer.from(chunk.slice(0, n)));
  return Buffer.concat(parts);
}

/** Reads until `length` bytes have arrived. */
async function collect(connection: UnixConnection, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let total = 0;
  await new Promise<void>((resolve) => {
    const poll = Poll.readable(connection, () => {
      const part = drain(connection);
      parts.push(part);
      total += part.length;
      if (total < length) return;
      poll[Symbol.dispose]();
      resolve();
    });
  });
  return Buffer.concat(parts);
}

function memfds(count: number): OwnedFd[] {
  return Array.from({ length: count }, (_, i) => createMemfd(`fd${i}`, i + 1));
}

function disposeAll(fds: readonly OwnedFd[]): void {
  for (const fd of fds) fd[Symbol.dispose]();
}

describe('Unix sockets', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'scanout-socket-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test('every descriptor is non-blocking and close-on-exec', () => {
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

  test('listenUnix makes the file accessible to its owner only, or with the mode given, whatever the umask', () => {
    const old = process.umask(0o077);
    using ours = listenUnix(join(directory, 'private'));
    using theirs = listenUnix(join(directory, 'shared'), { mode: 0o660 });
    process.umask(old);
    expect(statSync(join(directory, 'private')).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'shared')).mode & 0o777).toBe(0o660);
    expect(ours.closed || theirs.closed).toBe(false);
  });

  test('listenUnix replaces a socket file that no process listens on', () => {
    const path = join(directory, 's');
    listenUnix(path)[Symbol.dispose]();
    expect(existsSync(path)).toBe(true);
    using listener = listenUnix(path);
    using client = connectUnix(path);
    using server = acceptUnix(listener);
    expect(server).not.toBeNull();
    expect(client.closed).toBe(false);
  });

  test('listenUnix throws EADDRINUSE if a process listens there', () => {
    const path = join(directory, 's');
    using listener = listenUnix(path);
    expect(() => listenUnix(path)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }) as Error);
    // The probe shows up as a connection closed at once.
    acceptUnix(listener)?.[Symbol.dispose]();
    using client = connectUnix(path);
    expect(client.closed).toBe(false);
  });

  test('listenUnix throws EADDRINUSE and keeps a file that is not a socket', () => {
    const path = join(directory, 'notes.txt');
    writeFileSync(path, 'mine');
    expect(() => listenUnix(path)).toThrow('bind: EADDRINUSE');
    expect(readFileSync(path, 'utf8')).toBe('mine');
  });

  test('SocketFile: removes the file of its listener', () => {
    const path = join(directory, 's');
    using listener = listenUnix(path);
    const file = SocketFile.at(path);
    expect(existsSync(path)).toBe(true);
    file[Symbol.dispose]();
    expect(existsSync(path)).toBe(false);
    file[Symbol.dispose]();
    expect(listener.closed).toBe(false);
  });

  test('SocketFile: keeps the socket that another listener has put in its place', () => {
    const path = join(directory, 's');
    using first = listenUnix(path);
    const file = SocketFile.at(path);
    unlinkSync(path);
    using second = listenUnix(path);
    file[Symbol.dispose]();
    using client = connectUnix(path);
    using served = acceptUnix(second);
    expect(served).not.toBeNull();
    expect(first.closed || client.closed).toBe(false);
  });

  test('a path may have 107 bytes; longer, empty and zero-containing paths are refused', () => {
    const fits = join(directory, 'x'.repeat(107 - directory.length - 1));
    const listener = listenUnix(fits);
    listener[Symbol.dispose]();
    unlinkSync(fits);
    expect(() => listenUnix(`${fits}x`)).toThrow(/bind: ENAMETOOLONG .*108 bytes/);
    expect(() => connectUnix(`${fits}x`)).toThrow('connect: ENAMETOOLONG');
    expect(() => connectUnix('')).toThrow('connect: EINVAL');
    expect(() => connectUnix('a\0b')).toThrow('connect: EINVAL');
  });

  test('connectUnix names the path in ENOENT and ECONNREFUSED', () => {
    const path = join(directory, 's');
    expect(() => connectUnix(path)).toThrow(`connect: ENOENT (${path})`);
    listenUnix(path)[Symbol.dispose]();
    expect(() => connectUnix(path)).toThrow('connect: ECONNREFUSED');
    expect(() => listenUnix(join(directory, 'missing', 's'))).toThrow('bind: ENOENT');
  });

  test('acceptUnix throws EMFILE without a free descriptor, and the connection waits', () => {
    const path = join(directory, 's');
    using listener = listenUnix(path);
    using client = connectUnix(path);
    withFreeFds(client, 0, () => {
      expect(() => acceptUnix(listener)).toThrow('accept4: EMFILE');
    });
    using server = acceptUnix(listener);
    expect(server).not.toBeNull();
  });
});

describe('UnixConnection', () => {
  let near: UnixConnection;
  let far: UnixConnection;
  beforeEach(() => {
    const [a, b] = socketPair();
    near = UnixConnection.adopt(a);
    far = UnixConnection.adopt(b);
  });
  afterEach(() => {
    near[Symbol.dispose]();
    far[Symbol.dispose]();
  });

  test('recv returns -1 if nothing arrived, 0 at the end, and writes at the offset', () => {
    const into = new Uint8Array(8);
    expect(far.recv(into, 0, 8)).toBe(-1);
    near.send(bytesOf('abc'));
    expect(far.recv(into, 2, 6)).toBe(3);
    expect([...into]).toEqual([0, 0, ...bytesOf('abc'), 0, 0, 0]);
    near[Symbol.dispose]();
    expect(far.recv(into, 0, 8)).toBe(0);
  });

  test('a message with descriptors arrives complete wherever it is cut', () => {
    const message = bytesOf('a message');
    for (let cut = 1; cut < message.length; cut++) {
      const sent = memfds(2);
      near.send(message, sent);
      const into = new Uint8Array(message.length);
      expect(far.recv(into, 0, cut)).toBe(cut);
      expect(far.fds.map(fileSize)).toEqual([1, 2]);
      expect(far.recv(into, cut, into.length - cut)).toBe(message.length - cut);
      expect(into).toEqual(message);
      expect(far.fds.length).toBe(2);
      disposeAll(sent);
      disposeAll(far.fds.splice(0));
    }
  });

  test("received descriptors are close-on-exec, in order, and independent of the sender's", () => {
    const sent = memfds(3);
    near.send(bytesOf('x'), sent);
    disposeAll(sent);
    far.recv(new Uint8Array(1), 0, 1);
    expect(far.fds.map(fileSize)).toEqual([1, 2, 3]);
    for (const { fd } of far.fds) expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/flags:\s+02\d{6}/);
  });

  test('each recv takes the descriptors of one message', () => {
    const [first, second] = memfds(2);
    near.send(bytesOf('one'), [first!]);
    near.send(bytesOf('two'), [second!]);
    const into = new Uint8Array(64);
    expect(far.recv(into, 0, 64)).toBe(3);
    expect(far.fds.map(fileSize)).toEqual([1]);
    expect(far.recv(into, 0, 64)).toBe(3);
    expect(far.fds.map(fileSize)).toEqual([1, 2]);
    disposeAll([first!, second!]);
  });

  test('send accepts 253 descriptors and refuses 254', () => {
    const [fd] = memfds(1);
    near.send(bytesOf('x'), new Array<OwnedFd>(253).fill(fd!));
    far.recv(new Uint8Array(1), 0, 1);
    expect(far.fds.length).toBe(253);
    expect(() => near.send(bytesOf('x'), new Array<OwnedFd>(254).fill(fd!))).toThrow('sendmsg: EINVAL');
    expect(far.recv(new Uint8Array(1), 0, 1)).toBe(-1);
    disposeAll([fd!]);
  });

  test.each([0, 1, 3])('recv throws ECTRUNC and leaks nothing when %i descriptors are free for four', (free) => {
    const sent = memfds(4);
    near.send(bytesOf('x'), sent);
    withFreeFds(near, free, () => {
      expect(() => far.recv(new Uint8Array(1), 0, 1)).toThrow(
        expect.objectContaining({ code: 'ECTRUNC', errno: 0 }) as Error,
      );
    });
    expect(far.fds).toEqual([]);
    disposeAll(sent);
  });

  test('dispose closes unclaimed descriptors', () => {
    const sent = memfds(2);
    near.send(bytesOf('x'), sent);
    far.recv(new Uint8Array(1), 0, 1);
    disposeAll(sent);
    far[Symbol.dispose]();
    far[Symbol.dispose]();
    expect(far.fds).toEqual([]);
    expect(() => far.recv(new Uint8Array(1), 0, 1)).toThrow('used after');
    expect(() => far.send(bytesOf('x'))).toThrow('used after');
  });

  test('queued messages are sent in order, with their descriptors, once the peer reads', async () => {
    const megabytes = new Uint8Array(5_000_003).map((_, i) => i * 7);
    const [fd] = memfds(1);
    near.send(megabytes);
    expect(near.queuedBytes).toBeGreaterThan(0);
    near.send(bytesOf('the end'), [fd!]);
    disposeAll([fd!]);
    const all = await collect(far, megabytes.length + 7);
    expect(all.subarray(0, megabytes.length).equals(megabytes)).toBe(true);
    expect(all.subarray(megabytes.length).toString()).toBe('the end');
    expect(far.fds.map(fileSize)).toEqual([1]);
    await eventually(() => expect(near.queuedBytes).toBe(0));
  });

  test('hundreds of thousands of short messages are queued and sent in order', { timeout: 180_000 }, async () => {
    const count = 400_000;
    const message = new Uint8Array(20);
    const view = new DataView(message.buffer);
    for (let i = 0; i < count; i++) {
      view.setUint32(0, i);
      near.send(message);
    }
    const all = await collect(far, count * message.length);
    const numbers = Array.from({ length: count }, (_, i) => all.readUInt32BE(i * message.length));
    expect(numbers.every((number, i) => number === i)).toBe(true);
    await eventually(() => expect(near.queuedBytes).toBe(0));
  });

  test('onDrained is called when the queue has been sent, and when the peer is gone', async () => {
    const sent = new Promise<void>((resolve) => (near.onDrained = resolve));
    near.send(new Uint8Array(4_000_000));
    await Promise.all([sent, collect(far, 4_000_000)]);
    expect(near.queuedBytes).toBe(0);
    const dropped = new Promise<void>((resolve) => (near.onDrained = resolve));
    near.send(new Uint8Array(4_000_000));
    far[Symbol.dispose]();
    await dropped;
    expect(near.queuedBytes).toBe(0);
  });

  test('a queued message keeps its contents from the time of the call', async () => {
    const message = new Uint8Array(2_000_000).fill(1);
    near.send(message);
    expect(near.queuedBytes).toBeGreaterThan(0);
    message.fill(2);
    expect((await collect(far, message.length)).every((byte) => byte === 1)).toBe(true);
  });

  test('send throws ENOBUFS if the peer never reads', () => {
    const big = new Uint8Array(40 * 2 ** 20);
    near.send(big);
    const queued = near.queuedBytes;
    expect(() => near.send(big)).toThrow('sendmsg: ENOBUFS');
    expect(near.queuedBytes).toBe(queued);
  });

  test('send throws EPIPE if the peer is gone', () => {
    far[Symbol.dispose]();
    expect(() => near.send(bytesOf('x'))).toThrow('sendmsg: EPIPE');
  });

  test('if the peer goes while messages are queued, the next send throws and nothing leaks', async () => {
    const [fd] = memfds(1);
    near.send(new Uint8Array(4_000_000));
    near.send(bytesOf('x'), [fd!]);
    disposeAll([fd!]);
    far[Symbol.dispose]();
    await eventually(() => expect(near.queuedBytes).toBe(0));
    expect(() => near.send(bytesOf('x'))).toThrow(/sendmsg: (EPIPE|ECONNRESET)/);
  });

  test('only the send fails whose descriptor cannot be duplicated for the queue', async () => {
    const [fd] = memfds(1);
    near.send(new Uint8Array(4_000_000));
    const queued = near.queuedBytes;
    withFreeFds(fd!, 0, () => {
      expect(() => near.send(bytesOf('lost'), [fd!])).toThrow('EMFILE');
    });
    expect(near.queuedBytes).toBe(queued);
    near.send(bytesOf('kept'), [fd!]);
    disposeAll([fd!]);
    expect((await collect(far, 4_000_004)).subarray(4_000_000).toString()).toBe('kept');
    await eventually(() => expect(near.queuedBytes).toBe(0));
  });

  test('reading outside the array and sending nothing are RangeErrors', () => {
    const into = new Uint8Array(4);
    expect(() => far.recv(into, 0, 5)).toThrow(RangeError);
    expect(() => far.recv(into, 4, 0)).toThrow(RangeError);
    expect(() => far.recv(into, -1, 2)).toThrow(RangeError);
    expect(() => near.send(new Uint8Array(0))).toThrow(RangeError);
  });
});
