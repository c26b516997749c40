import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { WindowGuest } from '../bench/wayland/guest.ts';
import { callsOfFrames, sendmsgs } from '../rig/system-calls.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';

const [WIDTH, HEIGHT] = [320, 200];
const FRAMES = 40;

function skipWithoutStrace(): boolean {
  if (process.env.CI === 'true' || spawnSync('strace', ['--version']).status === 0) return false;
  console.warn('skipped: no strace (sh test/rig/install.sh)');
  return true;
}

/** The system calls, by strace, of a window after its first frames, when the compositor has all of its buffers. */
describe.skipIf(skipWithoutWeston() || skipWithoutStrace())('WaylandOutput: system calls of wl_shm frames', () => {
  let weston: Weston;
  let stack: DisposableStack;
  let guest: WindowGuest;

  beforeEach(async () => {
    weston = await startWeston({ size: [WIDTH, HEIGHT] });
    stack = new DisposableStack();
    const framebuffers = [1, 2].map(() => stack.use(new GuestPicture(WIDTH, HEIGHT)).framebuffer);
    guest = stack.use(await WindowGuest.open(framebuffers, { socket: weston.socket, zeroCopy: 'off' }));
    await guest.frames(4);
  });
  afterEach(async () => {
    stack[Symbol.dispose]();
    await weston[Symbol.asyncDispose]();
  });

  test.each(['called', 'kicked'] as const)(
    'are one sendmsg a frame, without a descriptor or new memory, when the guest is %s',
    async (pace) => {
      const calls = await callsOfFrames(FRAMES, () => guest.frames(FRAMES, pace));
      const sent = sendmsgs(calls);
      expect(sent).toHaveLength(FRAMES);
      expect(sent.filter((call) => call.includes('SCM_RIGHTS'))).toEqual([]);
      expect(calls.filter((call) => /^(memfd_create|ftruncate|ioctl|dup3?|fcntl|close)\(/.test(call))).toEqual([]);
    },
  );
});
