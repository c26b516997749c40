import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Pictures } from '../bench/kms/guest.ts';
import { WindowGuest } from '../bench/wayland/guest.ts';
import { callsOfFrames, sendmsgs } from '../rig/system-calls.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { skipWithoutUdmabuf } from './machine.ts';

const SIZE = { width: 320, height: 200 };
/** While the process was stopped its window counted as hidden, and buffers were taken back. */
const SETTLING_FRAMES = 60;
const FLIPS = 20;
const CARDS = '/dev/dri';

describe.skipIf(skipWithoutUdmabuf() || skipWithoutWeston())('WaylandOutput: system calls of dma-buf flips', () => {
  let weston: Weston;

  beforeAll(async () => {
    // Mesa's software renderer maps a udmabuf itself; beside a card it would have that map it, in vain.
    if (existsSync(CARDS)) execFileSync('mount', ['-t', 'tmpfs', 'none', CARDS]);
    weston = await startWeston({ renderer: 'gl', size: [SIZE.width, SIZE.height] });
  });
  afterAll(async () => {
    await weston[Symbol.asyncDispose]();
    if (existsSync(CARDS)) execFileSync('umount', [CARDS]);
  });

  test('are one sendmsg a flip, without a descriptor: nothing is imported', async () => {
    using pictures = new Pictures(SIZE, 2);
    using guest = await WindowGuest.open(pictures.framebuffers(), { socket: weston.socket, zeroCopy: 'auto' });
    const calls = await callsOfFrames(
      FLIPS,
      () => guest.frames(FLIPS),
      () => guest.frames(SETTLING_FRAMES),
    );
    const sent = sendmsgs(calls);
    // A flip that finds the window hidden, as it may on a busy machine, is sent with the next one.
    expect(sent.length).toBeLessThanOrEqual(FLIPS);
    expect(sent.length).toBeGreaterThan(FLIPS / 2);
    expect(sent.filter((call) => call.includes('SCM_RIGHTS'))).toEqual([]);
    expect(calls.filter((call) => call.startsWith('ioctl('))).toEqual([]);
  });
});
