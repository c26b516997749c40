import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Measurement } from '../benchmark.ts';
import { Pictures } from '../kms/guest.ts';
import { compare } from './compare.ts';

const CARDS = '/dev/dri';
/** Small, because the compositor draws with the CPU, which is not what we measure. */
const SCREEN = [320, 180] as const;

/** Runs inside the VM. */
export async function dmabuf(program: string, progress: (text: string) => void): Promise<Measurement[]> {
  // Mesa's software renderer maps a udmabuf itself only if there is no card. Nothing else in the VM needs the cards.
  if (existsSync(CARDS)) execFileSync('mount', ['-t', 'tmpfs', 'none', CARDS]);
  using pictures = new Pictures({ width: 1920, height: 1080 }, 2);
  using small = new Pictures({ width: 64, height: 64 }, 2);
  const one = {
    name: 'wayland-dmabuf/1920x1080',
    kind: 'dmabuf',
    framebuffers: pictures.framebuffers(),
    warmUp: small.framebuffers(),
    warmUpFrames: 1600,
    goal: null,
    bareGoal: 1.15,
  } as const;
  return await compare(program, one, { renderer: 'gl', size: SCREEN }, progress);
}
