import { afterEach, describe, expect, test, vi } from 'vitest';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { OutputRig } from './output-rig.ts';

expectNoLeaks();

let rig: OutputRig;
afterEach(() => {
  rig[Symbol.dispose]();
  vi.useRealTimers();
});

describe('WaylandOutput: a buffer that the compositor does not give back for a second', () => {
  test('is taken back, and the late wl_buffer.release does not count for its next commit', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.host.committed.get(rig.host.picture)!.buffer!;
    await rig.show(b);
    expect(rig.heard.lines).not.toContain('released A');
    await vi.advanceTimersByTimeAsync(1000);
    expect(rig.heard.lines.at(-1)).toBe('released A');

    rig.present(a);
    // On its way while the client commits the buffer again.
    first.send('release');
    const second = await rig.committed();
    rig.host.repaint();
    await rig.settle();
    expect(rig.heard.lines.filter((line) => line === 'released A')).toHaveLength(1);

    await rig.show(b);
    second.send('release');
    await rig.settle();
    expect(rig.heard.lines.filter((line) => line === 'released A')).toHaveLength(2);
  });

  test('is committed with the same wl_buffer when the release came before', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    rig = await OutputRig.open();
    rig.host.releases = false;
    using a = rig.shadow('A');
    using b = rig.shadow('B');
    await rig.show(a);
    const first = rig.host.committed.get(rig.host.picture)!.buffer!;
    await rig.show(b);
    await vi.advanceTimersByTimeAsync(1000);
    first.send('release');
    await rig.settle();
    await rig.show(a);
    expect(await rig.committed()).toBe(first);
  });
});

test('WaylandOutput: the release a hidden window did not wait for does not count for the next commit', async () => {
  rig = await OutputRig.open();
  rig.host.releases = false;
  using a = rig.shadow('A');
  using b = rig.shadow('B');
  await rig.show(a);
  await rig.show(b);
  const buffer = await rig.committed();
  rig.host.isHidden = true;
  await rig.show(a);
  expect(rig.heard.lines.slice(-2)).toEqual(['released B', 'hidden']);
  await rig.show(b);
  expect(await rig.committed()).toBe(buffer);
  rig.host.isHidden = false;
  rig.host.repaint();
  await rig.settle();
  await rig.show(a);
  const before = rig.heard.lines.length;
  buffer.send('release');
  await rig.settle();
  expect(rig.heard.lines.slice(before)).toEqual([]);
  buffer.send('release');
  await rig.settle();
  expect(rig.heard.lines.slice(before)).toEqual(['released B']);
});
