import { readSync, writeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { dupFd, OwnedFd } from '../../../src/sys/fd.ts';
import { eventfd, fcntl } from '../../../src/sys/libc.ts';
import { mustReturn } from '../../rig/must-return.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

const F_SETFL = 4;
const O_RDWR = 2;
const EFD_SEMAPHORE = 1;
const TOP = 2n ** 64n - 2n;

function addTo(event: EventFd, count: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(count);
  writeSync(event.fd, bytes);
}

function countOf(event: EventFd): bigint {
  const bytes = Buffer.alloc(8);
  readSync(event.fd, bytes);
  return bytes.readBigUInt64LE();
}

test('EventFd: any number of signals is consumed at once', () => {
  using event = EventFd.create();
  expect(event.consume()).toBe(false);
  event.signal();
  event.signal();
  expect(event.consume()).toBe(true);
  expect(event.consume()).toBe(false);
});

test('EventFd: can start signalled, and signalling a full counter is no error', () => {
  using event = EventFd.create(3);
  expect(event.consume()).toBe(true);
  using full = EventFd.create(0xffff_ffff);
  full.signal();
  expect(full.consume()).toBe(true);
});

test("EventFd: adopt wraps a peer's eventfd and consumes the descriptor", () => {
  using ours = EventFd.create();
  using theirs = EventFd.adopt(dupFd(ours));
  theirs.signal();
  expect(ours.consume()).toBe(true);
  const closed = dupFd(ours);
  closed[Symbol.dispose]();
  expect(() => EventFd.adopt(closed)).toThrow('used after');
});

test('EventFd: counts every signal, however many', () => {
  using event = EventFd.create();
  for (let i = 0; i < 5000; i++) event.signal();
  expect(countOf(event)).toBe(5000n);
});

test('EventFd: signal returns on a full counter of a peer that cleared O_NONBLOCK', { timeout: 180_000 }, async () => {
  using theirs = EventFd.create();
  using ours = EventFd.adopt(dupFd(theirs));
  fcntl(theirs.fd, F_SETFL, O_RDWR);
  addTo(theirs, TOP);
  await mustReturn(() => {
    ours.signal();
    ours.signal();
  }, `fs.readSync(${theirs.fd}, Buffer.alloc(8));`);
  expect(countOf(theirs)).toBe(TOP + 1n);
});

test(
  'EventFd: consume returns on an empty counter of a peer that cleared O_NONBLOCK',
  { timeout: 180_000 },
  async () => {
    using theirs = EventFd.create();
    using ours = EventFd.adopt(dupFd(theirs));
    fcntl(theirs.fd, F_SETFL, O_RDWR);
    await mustReturn(
      () => expect(ours.consume()).toBe(false),
      `fs.writeSync(${theirs.fd}, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));`,
    );
  },
);

test.each([0, 1, 2 ** 32 - 1])('EventFd: tells a semaphore that starts at %i', (initial) => {
  using semaphore = EventFd.adopt(OwnedFd.adopt(eventfd(initial, EFD_SEMAPHORE)));
  expect(semaphore.isSemaphore()).toBe(true);
});

test('EventFd: asking whether it is a semaphore keeps a signal, and makes none', () => {
  using event = EventFd.create();
  expect(event.isSemaphore()).toBe(false);
  expect(event.consume()).toBe(false);
  event.signal();
  expect(event.isSemaphore()).toBe(false);
  expect(event.consume()).toBe(true);
});

test('EventFd: throws on use after dispose', () => {
  const event = EventFd.create();
  event[Symbol.dispose]();
  event[Symbol.dispose]();
  expect(() => event.signal()).toThrow('used after');
  expect(() => event.consume()).toThrow('used after');
});
