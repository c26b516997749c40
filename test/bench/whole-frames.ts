import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Picture } from '../../src/core/picture.ts';
import { skipWithoutGuest, newerQemu } from '../rig/guest-image.ts';
import type { GuestGpu } from '../rig/guest.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { startWeston } from '../rig/weston.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { inVm } from './in-vm.ts';
import { FillingGuest, isMixed } from './whole-frames/filling.ts';

const SIZE = [1280, 800] as const;

interface Count {
  looks: number;
  mixed: number;
}

async function count(gpu: GuestGpu, look: (guest: FillingGuest) => Promise<Picture>): Promise<Count> {
  const result = { looks: 0, mixed: 0 };
  await using guest = await FillingGuest.boot(gpu, SIZE);
  await guest.fill(async () => {
    result.looks++;
    if (isMixed(await look(guest))) result.mixed++;
    return false;
  });
  return result;
}

const screendump = (guest: FillingGuest): Promise<Picture> => guest.guest.screendump();

/** By what shows them, and how the guest has its pixels. */
const CASES: Readonly<Record<string, (directory: string) => Promise<Count>>> = {
  "QEMU's own device, plain": () => count({ kind: 'builtin' }, screendump),
  'vmm, plain': async (directory) => {
    const socket = join(directory, 'gpu');
    await using _run = await scanout(directory, 'vmm');
    return await count({ kind: 'vhost-user', socket }, screendump);
  },
  'wayland, plain': (directory) => inWindow(directory, 'vhost-user'),
  'wayland, blobs': (directory) => inWindow(directory, 'generic'),
};

function scanout(directory: string, output: string): Promise<ScanoutRun> {
  return ScanoutRun.start(
    ...['--guest', `vhost-user:${join(directory, 'gpu')}`, '--output', output],
    ...['--control', join(directory, 'control')],
  );
}

async function inWindow(directory: string, kind: 'vhost-user' | 'generic'): Promise<Count> {
  await using weston = await startWeston({ size: SIZE });
  await using _run = await scanout(directory, `wayland:${weston.socket}`);
  return await count({ kind, socket: join(directory, 'gpu') }, () => weston.screenshot());
}

export const wholeFrames: Benchmark = {
  name: 'whole-frames',
  about: 'screens with parts of two frames, of a guest that flips as fast as it can',
  needsQuiet: false,
  missing: () => (skipWithoutGuest(newerQemu) ? 'no guest can be booted here' : null),
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const [name, run] of Object.entries(CASES)) {
      progress(name);
      const directory = mkdtempSync(join(tmpdir(), 'frames-'));
      try {
        const { looks, mixed } = await run(directory);
        const row = { unit: 'frames', better: 'less', peer: null } as const;
        measurements.push(
          { ...row, name: `whole-frames/${name}: mixed`, ours: [mixed], goal: name.startsWith('QEMU') ? null : 0 },
          { ...row, name: `whole-frames/${name}: looked at`, ours: [looks], goal: null },
        );
      } finally {
        rmSync(directory, { recursive: true });
      }
    }
    return measurements;
  },
};

export const wholeFramesKms = inVm({
  name: 'whole-frames-kms',
  about: 'as whole-frames, on a KMS plane, of blobs and plain resources, shared and copied',
  minutes: 30,
  main: 'whole-frames/vm',
  program: () => '',
});
