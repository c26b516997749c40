import { createHook } from 'node:async_hooks';
import { openSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { callLast, Poll, type PollEvents } from '../../../src/sys/poll.ts';
import { UnixConnection, socketPair } from '../../../src/sys/socket.ts';
import { withResolvers } from '../../../src/sys/with-resolvers.ts';
import { expectNoLeaks } from './no-leaks.ts';
import { eventually } from '../../rig/eventually.ts';

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

test('Poll: calls back each time its descriptor becomes readable', async () => {
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

test('Poll: does not call back while paused and reports on resume', async () => {
  using event = EventFd.create();
  const ready = vi.fn(() => void event.consume());
  using poll = Poll.readable(event, ready);
  poll.pause();
  event.signal();
  await loopTurns();
  expect(ready).not.toHaveBeenCalled();
  poll.resume();
  await eventually(() => expect(ready).toHaveBeenCalledOnce());
});

test('Poll: does not call back after dispose, and its descriptor can be polled again', async () => {
  using event = EventFd.create(1);
  const first = vi.fn();
  const poll = Poll.readable(event, first);
  poll[Symbol.dispose]();
  poll[Symbol.dispose]();
  expect(await nextReady(event, { readable: true })).toMatchObject({ readable: true });
  expect(first).not.toHaveBeenCalled();
});

test('Poll: distinguishes writable from disconnect', async () => {
  const [a, b] = socketPair();
  using ours = a;
  expect(await nextReady(ours, { readable: true, writable: true, disconnect: true })).toEqual({
    readable: false,
    writable: true,
    disconnect: false,
  });
  b[Symbol.dispose]();
  expect(await nextReady(ours, { readable: true, disconnect: true })).toEqual({
    readable: true,
    writable: false,
    disconnect: true,
  });
});

test('Poll: update changes the events that are waited for', async () => {
  const [a, b] = socketPair();
  using ours = a;
  using theirs = b;
  const seen = vi.fn<(ready: PollEvents) => void>();
  using poll = Poll.watch(ours, { readable: true }, seen);
  await loopTurns();
  expect(seen).not.toHaveBeenCalled();
  poll.update({ writable: true });
  await eventually(() => expect(seen).toHaveBeenCalled());
  expect(seen.mock.calls[0]![0]).toMatchObject({ writable: true });
  expect(theirs.closed).toBe(false);
});

test('Poll: a reset by the peer calls back the reader, which then gets the error', async () => {
  const [a, b] = socketPair();
  using ours = UnixConnection.adopt(a);
  ours.send(new Uint8Array(10));
  b[Symbol.dispose]();
  await nextReady(ours, { readable: true });
  expect(() => ours.recv(new Uint8Array(1), 0, 1)).toThrow('recvmsg: ECONNRESET');
});

test('Poll: refuses a second poll on a descriptor', () => {
  using event = EventFd.create();
  using poll = Poll.readable(event, () => undefined);
  expect(() => Poll.writable(event, () => undefined)).toThrow(expect.objectContaining({ code: 'EEXIST' }) as Error);
  expect(poll.unref().ref()).toBe(poll);
});

test('Poll: throws a SysError for a descriptor that cannot be polled instead of aborting', () => {
  using file = OwnedFd.adopt(openSync('/proc/self/exe', 'r'));
  expect(() => Poll.readable(file, () => undefined)).toThrow('epoll_ctl: EPERM');
  expect(() => Poll.readable({ fd: 9999 }, () => undefined)).toThrow('epoll_ctl: EBADF');
});

test('Poll: ticks and microtasks of a callback run before the next callback of the same turn', async () => {
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
  ['what a callback wants called last', () => callLast(fail)],
  ['a tick that a callback queued', () => process.nextTick(fail)],
  ['a microtask that a callback queued', () => queueMicrotask(fail)],
])('Poll: an error thrown by %s is an uncaught exception, not an error of a later call', async (_thrower, callback) => {
  expect((await uncaughtFrom(callback)).message).toBe('thrown on purpose');
  using event = EventFd.create();
  expect(event.consume()).toBe(false);
});

describe('callLast', () => {
  test('calls in order at the end of the callback of a poll, before ticks', async () => {
    using event = EventFd.create();
    for (let round = 0; round < 2; round++) {
      const calls: string[] = [];
      const { promise, resolve } = withResolvers<null>();
      using poll = Poll.readable(event, () => {
        event.consume();
        callLast(() => calls.push('first'));
        callLast(() => calls.push('second'));
        process.nextTick(() => {
          calls.push('tick');
          resolve(null);
        });
        calls.push('callback');
      });
      event.signal();
      await promise;
      expect(calls).toEqual(['callback', 'first', 'second', 'tick']);
      expect(poll).toBeInstanceOf(Poll);
    }
  });

  test('calls in the same turn of the event loop if no poll calls back', async () => {
    const called = vi.fn();
    callLast(called);
    expect(called).not.toHaveBeenCalled();
    await new Promise((resolve) => setImmediate(resolve));
    expect(called).toHaveBeenCalledOnce();
  });
});
