import { join } from 'node:path';
import { readFileSync, watch, writeFileSync } from 'node:fs';
import { bootKernelVm, missingVkms, output } from '../rig/kernel-vm.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { missingCompiler } from './native.ts';

/** vkms complains of every vertical blank that comes late, and a serial console takes its time. */
const QUIETLY = 'dmesg -n 3';

export interface VmBenchmark {
  readonly name: string;
  readonly about: string;
  /** On a quiet machine. */
  readonly minutes: number;
  /** Prints measurements as JSON, and progress on stderr, when it runs as `node --import tsx MAIN NAME FLIPS PROGRAM`. */
  readonly main: string;
  /** The peer in C. */
  program(): string;
}

function missing(): string | null {
  try {
    return missingCompiler() ?? missingVkms();
  } catch (error) {
    return (error as Error).message;
  }
}

/** Runs in a VM that has udmabuf and vkms. */
export function inVm({ name, about, minutes, main, program }: VmBenchmark): Benchmark {
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
      const command = ['node', '--import', 'tsx', main, name, flips, program()];
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
