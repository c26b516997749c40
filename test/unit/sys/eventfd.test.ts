import { expect, test } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { dupFd } from '../../../src/sys/fd.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

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

test('EventFd: throws on use after dispose', () => {
  const event = EventFd.create();
  event[Symbol.dispose]();
  event[Symbol.dispose]();
  expect(() => event.signal()).toThrow('used after');
  expect(() => event.consume()).toThrow('used after');
});
