import type { Benchmark } from './benchmark.ts';
import { inVm, type VmBenchmark } from './in-vm.ts';
import { flipLoopProgram } from './native.ts';

function onKms(name: string, about: string, minutes: number, options: Partial<VmBenchmark> = {}): Benchmark {
  return inVm({ name, about, minutes, main: 'kms/main', program: flipLoopProgram, ...options });
}

export const kmsFlips = onKms(
  'kms-flips',
  'page flips on a KMS plane, from the guest to the screen and back: CPU and system calls against bare loops of the same ioctl',
  6,
);
export const kmsGarbage = onKms(
  'kms-garbage',
  'what a page flip on a KMS plane leaves for the garbage collector, against a bare loop of the same ioctl (--flips N)',
  12,
  { nodeArgs: ['--expose-gc', '--min-semi-space-size=16'] },
);
export const kmsVblanks = onKms('kms-vblanks', 'vertical blanks missed by flips at 60 Hz (--flips N)', 9);
export const kmsFirstShow = onKms(
  'kms-first-show',
  'the first flip to pages that were not shown before: udmabuf, import and commit against a copy',
  4,
);
export const kmsZeroCopy = onKms('kms-zero-copy', 'CPU of a flip without a copy against the copy rung', 3);
export const vfioLooks = onKms(
  'vfio-looks',
  'looks at the planes of a mediated device, from the question to the commit, against the bare questions',
  1,
);
export const kmsLatency = onKms(
  'kms-latency',
  'from a redraw of the guest until it is on the plane, with --latency low against safe; the screen is read back',
  2,
);
export const kmsScale = onKms('kms-scale', 'CPU of a flip with many scanouts and many framebuffers against few', 3);
