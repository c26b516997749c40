import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { OwnedFd, dupFd } from '../../../src/sys/fd.ts';
import { FenceWait } from '../../../src/sys/fence-wait.ts';
import { Poll } from '../../../src/sys/poll.ts';
import { eventually } from '../../rig/eventually.ts';
import { openFds } from '../../rig/process-resources.ts';
import { withFreeFds } from './few-fds.ts';
import { expectNoLeaks } from './no-leaks.ts';

// To a poll, an eventfd that is never consumed is what a sync_file is: readable once signalled, and ever after.

/** Waits for one fence, which signals at once. */
async function waitOnce(wait: { start(fence: EventFd): void }, signalled: { next: () => void }): Promise<void> {
  using fence = EventFd.create();
  const done = new Promise<void>((resolve) => (signalled.next = resolve));
  wait.start(fence);
  fence.signal();
  await done;
}

/** The event loop has polled at least once when this resolves. */
async function loopTurns(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('FenceWait', () => {
  expectNoLeaks();

  test('calls back once, from the event loop, when the fence signals', async () => {
    const onSignalled = vi.fn();
    using wait = new FenceWait(onSignalled);
    using fence = EventFd.create();
    wait.start(fence);
    await loopTurns();
    expect(wait.isWaiting).toBe(true);
    fence.signal();
    expect(onSignalled).not.toHaveBeenCalled();
    await eventually(() => expect(onSignalled).toHaveBeenCalledOnce());
    expect(wait.isWaiting).toBe(false);
    await loopTurns();
    expect(onSignalled).toHaveBeenCalledOnce();
  });

  test('calls back for a fence whose owner closed it after start', async () => {
    const onSignalled = vi.fn();
    using wait = new FenceWait(onSignalled);
    using fence = EventFd.create();
    const passing = dupFd(fence);
    wait.start(passing);
    passing[Symbol.dispose]();
    fence.signal();
    await eventually(() => expect(onSignalled).toHaveBeenCalledOnce());
  });

  test('calls back each of several instances that wait for one fence', async () => {
    const [first, second] = [vi.fn(), vi.fn()];
    using one = new FenceWait(first);
    using two = new FenceWait(second);
    using fence = EventFd.create();
    one.start(fence);
    two.start(fence);
    fence.signal();
    await eventually(() => expect([first.mock.calls.length, second.mock.calls.length]).toEqual([1, 1]));
  });

  test('never calls back after stop', async () => {
    const onSignalled = vi.fn();
    using wait = new FenceWait(onSignalled);
    using fence = EventFd.create(1);
    wait.start(fence);
    wait.stop();
    await loopTurns();
    expect(wait.isWaiting).toBe(false);
    expect(onSignalled).not.toHaveBeenCalled();
  });

  test('ignores the signal of a fence that was replaced in the same turn', async () => {
    const onSignalled = vi.fn();
    using wait = new FenceWait(onSignalled);
    using early = EventFd.create();
    using late = EventFd.create();
    using other = EventFd.create(1);
    // Polled before the fence, so that it runs first in the turn that finds both ready.
    using replace = Poll.readable(other, () => {
      other.consume();
      wait.start(late);
    });
    early.signal();
    wait.start(early);
    await loopTurns();
    expect(onSignalled).not.toHaveBeenCalled();
    expect(wait.isWaiting).toBe(true);
    late.signal();
    await eventually(() => expect(onSignalled).toHaveBeenCalledOnce());
    expect(replace).toBeInstanceOf(Poll);
  });

  test('uses one poll for all fences and holds one descriptor only while it waits', async () => {
    const readable = vi.spyOn(Poll, 'readable');
    const signalled = { next: (): void => undefined };
    using wait = new FenceWait(() => signalled.next());
    await waitOnce(wait, signalled);
    const idle = openFds().size;
    for (let i = 0; i < 5; i++) await waitOnce(wait, signalled);
    expect(openFds().size).toBe(idle);
    using fence = EventFd.create();
    wait.start(fence);
    // The fence of this test and the duplicate.
    expect(openFds().size).toBe(idle + 2);
    expect(readable).toHaveBeenCalledOnce();
    readable.mockRestore();
  });

  test('throws EPERM for a descriptor that cannot be polled and is idle afterwards', () => {
    using wait = new FenceWait(() => undefined);
    using file = OwnedFd.adopt(openSync('/proc/self/exe', 'r'));
    expect(() => wait.start(file)).toThrow('epoll_ctl: EPERM');
    expect(wait.isWaiting).toBe(false);
  });

  test.each([0, 1])('throws EMFILE and leaks nothing with %i free descriptors', (free) => {
    using wait = new FenceWait(() => undefined);
    using fence = EventFd.create();
    withFreeFds(fence, free, () => {
      expect(() => wait.start(fence)).toThrow('EMFILE');
    });
    expect(wait.isWaiting).toBe(false);
  });

  test('keeps the process alive until the fence has signalled, and no longer', () => {
    const source = (name: string): string => JSON.stringify(join(import.meta.dirname, '../../../src/sys', name));
    const program = `
      const { FenceWait } = await import(${source('fence-wait.ts')});
      const { EventFd } = await import(${source('eventfd.ts')});
      new FenceWait(() => console.log('signalled')).start(EventFd.create(1));
    `;
    const output = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(output).toBe('signalled\n');
  });
});
