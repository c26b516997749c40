import { join } from 'node:path';
import { readFileSync, watch, writeFileSync } from 'node:fs';
import { bootKernelVm, missingVkms, output } from '../rig/kernel-vm.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { missingCompiler } from './native.ts';
import { bundled } from './programs.ts';

/** Keeps messages off the slow serial console: vkms logs one for every late vertical blank. */
const QUIETLY = 'dmesg -n 3';

export interface VmBenchmark {
  readonly name: string;
  readonly about: string;
  /** Duration in minutes on an idle machine. */
  readonly minutes: number;
  /** Options of Node. */
  readonly nodeArgs?: readonly string[];
  /** Bundled program that runs as `node MAIN NAME FLIPS PROGRAM` and prints measurements as JSON, and progress on stderr. */
  readonly main: string;
  /** Builds the peer in C; returns its path. */
  program(): string;
}

function missing(): string | null {
  try {
    return missingCompiler() ?? missingVkms();
  } catch (error) {
    return (error as Error).message;
  }
}

/** A benchmark that runs in a VM with udmabuf and vkms. */
export function inVm({ name, about, minutes, nodeArgs = [], main, program }: VmBenchmark): Benchmark {
  const log = join(output, `${name}.log`);
  return {
    name,
    about: `${about}; in a VM`,
    needsQuiet: true,
    missing,
    async run({ progress, flips }) {
      progress('booting a VM');
      await using vm = await bootKernelVm();
      writeFileSync(log, '');
      // Shows the VM's progress here.
      using watcher = watching(log, (line) => progress(`${line} (about ${minutes} minutes)`));
      const command = ['node', ...nodeArgs, bundled(main), name, flips, program()];
      try {
        // Twice the time on an idle machine, and five minutes.
        return JSON.parse(
          await vm.run(`${QUIETLY} && ${command.join(' ')} 2>>${log}`, (2 * minutes + 5) * 60_000),
        ) as Measurement[];
      } catch (error) {
        throw new Error(readFileSync(log, 'utf8'), { cause: error });
      }
    },
  };
}

/** Calls `onLine` with the last line of a file whenever the file grows, until dispose. */
function watching(file: string, onLine: (line: string) => void): Disposable {
  const watcher = watch(file, () => {
    const line = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1)!;
    if (line !== '') onLine(line);
  });
  return { [Symbol.dispose]: () => watcher.close() };
}
