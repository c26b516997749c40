import { join } from 'node:path';
import { readFileSync, watch, writeFileSync } from 'node:fs';
import { bootKernelVm, missingVkms, output } from '../rig/kernel-vm.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { flipLoopProgram, missingCompiler } from './native.ts';

/** vkms complains of every vertical blank that comes late, and a serial console takes its time. */
const QUIETLY = 'dmesg -n 3';

function missing(): string | null {
  try {
    return missingCompiler() ?? missingVkms();
  } catch (error) {
    return (error as Error).message;
  }
}

/** Runs in a VM that has udmabuf and vkms: see kms/main.ts. */
function inVm(name: string, about: string, minutes: number): Benchmark {
  const log = join(output, `${name}.log`);
  return {
    name,
    about: `${about}; in a VM`,
    missing,
    async run({ progress, flips }) {
      progress('booting a VM');
      await using vm = await bootKernelVm();
      writeFileSync(log, '');
      // What happens in there.
      using watcher = watching(log, (line) => progress(`${line} (about ${minutes} minutes)`));
      const command = ['node', '--import', 'tsx', 'test/bench/kms/main.ts', name, flips, flipLoopProgram()];
      try {
        // Twice the time of a quiet machine and some more.
        return JSON.parse(await vm.run(`${QUIETLY} && ${command.join(' ')} 2>>${log}`, (2 * minutes + 5) * 60_000)) as Measurement[];
      } catch (error) {
        throw new Error(readFileSync(log, 'utf8'), { cause: error });
      }
    },
  };
}

/** Calls back with the last line of a file whenever that grows, until dispose. */
function watching(file: string, onLine: (line: string) => void): Disposable {
  const watcher = watch(file, () => {
    const line = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1)!;
    if (line !== '') onLine(line);
  });
  return { [Symbol.dispose]: () => watcher.close() };
}

export const kmsFlips = inVm('kms-flips', 'page flips on a KMS plane, from the guest to the screen and back: CPU, system calls and heap against bare loops of the same ioctl', 4);
export const kmsVblanks = inVm('kms-vblanks', 'vertical blanks missed by flips at 60 Hz (--flips N)', 7);
export const kmsFirstShow = inVm('kms-first-show', 'the first flip to pages nobody showed yet: udmabuf, import and commit against a copy', 4);
export const kmsZeroCopy = inVm('kms-zero-copy', 'CPU of a flip without a copy against the copy rung', 3);
export const kmsScale = inVm('kms-scale', 'CPU of a flip with many scanouts and many framebuffers against few', 3);
