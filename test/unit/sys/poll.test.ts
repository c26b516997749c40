import { createHook } from 'node:async_hooks';
import { openSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { OwnedFd, dupFd } from '../../../src/sys/fd.ts';
import { Poll, type PollEvents } from '../../../src/sys/poll.ts';
import { UnixConnection, socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

/** The event loop has polled at least once when this resolves. */
async function loopTurns(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function nextReady(fd: { fd: number }, events: PollEvents): Promise<PollEvents> {
  return new Promise((resolve) => {
    const poll = Poll.watch(fd, events, (ready) => {
      poll[Symbol.dispose]();
      resolve(ready);
    });
  });
}

test('an eventfd is signalled once however often it was, and consumed once', () => {
  using event = EventFd.create();
  expect(event.consume()).toBe(false);
  event.signal();
  event.signal();
  expect(event.consume()).toBe(true);
  expect(event.consume()).toBe(false);
});

test('an eventfd made signalled, and one whose counter is full', () => {
  using event = EventFd.create(3);
  expect(event.consume()).toBe(true);
  using full = EventFd.create(0xffff_ffff);
  full.signal();
  expect(full.consume()).toBe(true);
});

test('an adopted eventfd is the peer\'s own, and consumed when it is none', () => {
  using ours = EventFd.create();
  using theirs = EventFd.adopt(dupFd(ours));
  theirs.signal();
  expect(ours.consume()).toBe(true);
  const closed = dupFd(ours);
  closed[Symbol.dispose]();
  expect(() => EventFd.adopt(closed)).toThrow('used after');
});

test('a disposed eventfd throws on use', () => {
  const event = EventFd.create();
  event[Symbol.dispose]();
  event[Symbol.dispose]();
  expect(() => event.signal()).toThrow('used after');
  expect(() => event.consume()).toThrow('used after');
});

test('a poll wakes when its eventfd is signalled, again and again', async () => {
  using event = EventFd.create();
  let wake: () => void = () => undefined;
  using poll = Poll.readable(event, () => {
    event.consume();
    wake();
  });
  for (let i = 0; i < 3; i++) {
    const woken = new Promise<void>((resolve) => (wake = resolve));
    event.signal();
    await woken;
  }
  expect(poll).toBeInstanceOf(Poll);
});

test('a paused poll is silent and reports on resume', async () => {
  using event = EventFd.create();
  const ready = vi.fn(() => void event.consume());
  using poll = Poll.readable(event, ready);
  poll.pause();
  event.signal();
  await loopTurns();
  expect(ready).not.toHaveBeenCalled();
  poll.resume();
  await vi.waitFor(() => expect(ready).toHaveBeenCalledOnce());
});

test('a disposed poll is silent, and its descriptor can be polled anew', async () => {
  using event = EventFd.create(1);
  const first = vi.fn();
  const poll = Poll.readable(event, first);
  poll[Symbol.dispose]();
  poll[Symbol.dispose]();
  expect(await nextReady(event, { readable: true })).toMatchObject({ readable: true });
  expect(first).not.toHaveBeenCalled();
});

test('writable and disconnect are told apart', async () => {
  const [a, b] = socketPair();
  using ours = a;
  expect(await nextReady(ours, { readable: true, writable: true, disconnect: true })).toEqual({ readable: false, writable: true, disconnect: false });
  b[Symbol.dispose]();
  expect(await nextReady(ours, { readable: true, disconnect: true })).toEqual({ readable: true, writable: false, disconnect: true });
});

test('update changes what is waited for', async () => {
  const [a, b] = socketPair();
  using ours = a;
  using theirs = b;
  const seen = vi.fn<(ready: PollEvents) => void>();
  using poll = Poll.watch(ours, { readable: true }, seen);
  await loopTurns();
  expect(seen).not.toHaveBeenCalled();
  poll.update({ writable: true });
  await vi.waitFor(() => expect(seen).toHaveBeenCalled());
  expect(seen.mock.calls[0]![0]).toMatchObject({ writable: true });
  expect(theirs.closed).toBe(false);
});

test('a peer that resets wakes the reader, who then sees the error', async () => {
  const [a, b] = socketPair();
  using ours = UnixConnection.adopt(a);
  ours.send(new Uint8Array(10));
  b[Symbol.dispose]();
  await nextReady(ours, { readable: true });
  expect(() => ours.recv(new Uint8Array(1), 0, 1)).toThrow('recvmsg: ECONNRESET');
});

test('a second poll on a descriptor is refused', () => {
  using event = EventFd.create();
  using poll = Poll.readable(event, () => undefined);
  expect(() => Poll.writable(event, () => undefined)).toThrow(expect.objectContaining({ code: 'EEXIST' }) as Error);
  expect(poll.unref().ref()).toBe(poll);
});

test('what cannot be polled is a SysError, not an abort', () => {
  using file = OwnedFd.adopt(openSync('/proc/self/exe', 'r'));
  expect(() => Poll.readable(file, () => undefined)).toThrow('epoll_ctl: EPERM');
  expect(() => Poll.readable({ fd: 9999 }, () => undefined)).toThrow('epoll_ctl: EBADF');
});

test('what a callback queues runs before the next callback of the same turn', async () => {
  using first = EventFd.create(1);
  using second = EventFd.create(1);
  const ran: string[] = [];
  const polls: Poll[] = [];
  await new Promise<void>((resolve) => {
    let callbacks = 0;
    const ready = (event: EventFd): void => {
      event.consume();
      if (++callbacks === 2) {
        ran.push('next callback');
        resolve();
        return;
      }
      process.nextTick(() => ran.push('tick'));
      queueMicrotask(() => ran.push('microtask'));
    };
    for (const event of [first, second]) polls.push(Poll.readable(event, () => ready(event)));
  });
  for (const poll of polls) poll[Symbol.dispose]();
  expect(ran).toEqual(['tick', 'microtask', 'next callback']);
});

/** The first uncaught exception once a poll has called `callback`, with async hooks watching. */
async function uncaughtFrom(callback: () => void): Promise<Error> {
  using event = EventFd.create(1);
  const hook = createHook({ init: () => undefined, before: () => undefined, after: () => undefined }).enable();
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const uncaught = new Promise<Error>((resolve) => process.once('uncaughtException', resolve));
  using poll = Poll.readable(event, () => {
    event.consume();
    callback();
  });
  try {
    return await uncaught;
  } finally {
    for (const listener of listeners) process.on('uncaughtException', listener);
    hook.disable();
    poll.pause();
  }
}

function fail(): never {
  throw new Error('thrown on purpose');
}

test.each([
  ['a callback', fail],
  ['a tick that a callback queued', () => process.nextTick(fail)],
  ['a microtask that a callback queued', () => queueMicrotask(fail)],
])('what %s throws is an uncaught exception, not an error of a later call', async (_thrower, callback) => {
  expect((await uncaughtFrom(callback)).message).toBe('thrown on purpose');
  using event = EventFd.create();
  expect(event.consume()).toBe(false);
});
