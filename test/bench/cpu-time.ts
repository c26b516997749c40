import { readdirSync, readFileSync } from 'node:fs';

/** Name of a vCPU's thread in QEMU with `-name debug-threads=on`. */
const VCPU = /^CPU \d+\//;

export interface CpuTime {
  /** Milliseconds of all threads except vCPUs: a VMM and its helpers. */
  host: number;
  /** Milliseconds of vCPU threads: the guest itself. */
  vcpu: number;
}

/** Processor time so far of the live threads of some processes (proc(5): schedstat has nanoseconds). */
export function cpuTime(pids: readonly number[]): CpuTime {
  const time = { host: 0, vcpu: 0 };
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const read = (file: string): string | null => readOfThread(`/proc/${pid}/task/${thread}/${file}`);
      const name = read('comm');
      const spent = read('schedstat');
      if (name === null || spent === null) continue;
      time[VCPU.test(name) ? 'vcpu' : 'host'] += Number(spent.split(' ')[0]) / 1e6;
    }
  }
  return time;
}

/** Null if the thread has ended. */
function readOfThread(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}
