import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { GuestPicture } from '../../unit/bridge/fakes.ts';
import type { Measurement } from '../benchmark.ts';
import { compare } from './compare.ts';

const SIZE = { width: 1920, height: 1080 };
const SMALL = { width: 64, height: 64 };

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
  ];
}
