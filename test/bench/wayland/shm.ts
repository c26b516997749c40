import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { startWeston } from '../../rig/weston.ts';
import { GuestPicture } from '../../unit/bridge/fakes.ts';
import type { Measurement } from '../benchmark.ts';
import { BareLoop } from './bare-loop.ts';
import { compare, type Drawing, openWarm, oursCpuUs } from './compare.ts';

const SIZE = { width: 1920, height: 1080 };
const SMALL = { width: 64, height: 64 };
/** Four times as often as elsewhere: tells what part of a frame's cost is due to the time between frames. */
const OFTEN_HZ = 240;
const OFTEN_ROUNDS = 9;
const OFTEN_FRAMES = 480;

/** Two pictures in guest memory, owned by the stack. */
export function picturePair(stack: DisposableStack, { width, height }: Size): Framebuffer[] {
  return [1, 2].map((value) => {
    const picture = stack.use(new GuestPicture(width, height));
    picture.pixels.bytes.fill(value);
    return picture.framebuffer;
  });
}

/** Runs on this machine's own kernel: it compares only the copy of the damage and the requests around it. */
export async function shm(program: string, progress: (text: string) => void): Promise<Measurement[]> {
  using stack = new DisposableStack();
  const pictures = {
    kind: 'shm',
    framebuffers: picturePair(stack, SIZE),
    warmUp: picturePair(stack, SMALL),
    warmUpFrames: 3000,
  } as const;
  const weston = { size: [SIZE.width, SIZE.height] } as const;
  return [
    ...(await compare(program, { ...pictures, name: 'wayland-shm/all of 1920x1080', goal: 1.35 }, weston, progress)),
    ...(await compare(
      program,
      { ...pictures, name: 'wayland-shm/64x64 of it', redraws: SMALL, goal: null, bareGoal: 3 },
      weston,
      progress,
    )),
    await often({ ...pictures, redraws: SMALL }, progress),
  ];
}

/** What a small frame costs if the next one follows soon. */
async function often(drawing: Drawing, progress: (text: string) => void): Promise<Measurement> {
  const name = `wayland-shm/64x64 of it, at ${OFTEN_HZ} Hz, CPU against a bare loop`;
  progress(name);
  const options = { size: [SIZE.width, SIZE.height], extraArgs: [`--refresh-rate=${OFTEN_HZ * 1000}`] } as const;
  await using weston = await startWeston(options);
  using guest = await openWarm(drawing, options, weston);
  const ours: number[] = [];
  const bare: number[] = [];
  for (let i = 0; i < OFTEN_ROUNDS; i++) {
    ours.push(await oursCpuUs(guest, OFTEN_FRAMES));
    using loop = new BareLoop(OFTEN_HZ);
    await loop.cpuUs(OFTEN_HZ);
    bare.push(await loop.cpuUs(OFTEN_FRAMES));
  }
  return {
    name,
    unit: 'us/frame',
    better: 'less',
    ours,
    peer: { name: "Node's own loop at the same rate", samples: bare },
    goal: null,
  };
}
