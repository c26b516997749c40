import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as elapsed } from 'node:timers/promises';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { ownSystemCalls, systemCallsWhile } from '../../rig/system-calls.ts';
import { startWeston } from '../../rig/weston.ts';
import { alternate, type Measurement } from '../benchmark.ts';
import { cpuTime } from '../cpu-time.ts';
import { openWarm, oursCpuUs } from './compare.ts';
import { picturePair } from './shm.ts';

export const SIMPLE_SHM = '/usr/bin/weston-simple-shm';

/** Size of weston-simple-shm's window, which it draws as a whole for every frame. */
const SIZE = { width: 250, height: 250 };
const ROUNDS = 7;
const FRAMES = 120;
/** It does not report how many frames it draws. With so little work it is never late: one per refresh of headless Weston. */
const FRAMES_MS = FRAMES * (1000 / 60);

/** Each client has its own compositor, so that neither is behind the other's window. */
export async function simpleShm(progress: (text: string) => void): Promise<Measurement[]> {
  const weston = { size: [SIZE.width, SIZE.height] } as const;
  using stack = new DisposableStack();
  const framebuffers = picturePair(stack, SIZE);
  await using ourWeston = await startWeston(weston);
  await using peerWeston = await startWeston(weston);
  progress('warming up');
  using guest = await openWarm(
    { kind: 'shm', framebuffers, warmUp: framebuffers, warmUpFrames: 3000 },
    weston,
    ourWeston,
  );
  const simple = spawn(SIMPLE_SHM, { env: peerWeston.env, stdio: 'ignore' });
  const ended = once(simple, 'close');
  stack.defer(() => void simple.kill());
  const simpleCpuUs = async (): Promise<number> => {
    const before = cpuTime([simple.pid!]).host;
    await Promise.race([elapsed(FRAMES_MS), ended.then(() => Promise.reject(new Error(`${SIMPLE_SHM} has exited`)))]);
    return ((cpuTime([simple.pid!]).host - before) * 1000) / FRAMES;
  };
  progress('taking turns');
  const cpu = await alternate(ROUNDS, () => oursCpuUs(guest, FRAMES), simpleCpuUs);
  progress('tracing');
  const calls = await ownSystemCalls(() => guest.frames(FRAMES));
  const simpleCalls = await systemCallsWhile(simple.pid!, () => elapsed(FRAMES_MS));
  const perCommit = simpleCalls.length / simpleCalls.filter((call) => call.startsWith('sendmsg(')).length;
  const about = { better: 'less', goal: null } as const;
  const name = 'weston-simple-shm, which paints these pixels where we copy them';
  return [
    {
      ...about,
      name: 'wayland-simple-shm/250x250, CPU',
      unit: 'us/frame',
      ours: cpu.ours,
      peer: { name, samples: cpu.peer },
    },
    {
      ...about,
      name: 'wayland-simple-shm/250x250, system calls',
      unit: '1/frame',
      ours: [calls.length / FRAMES],
      peer: { name, samples: [perCommit] },
    },
  ];
}
