import { readdirSync, readFileSync } from 'node:fs';

/** QEMU names a vCPU's thread so, if told to name its threads. */
const VCPU = /^CPU \d+\//;

export interface CpuTime {
  /** What a VMM and its helpers need, in milliseconds. */
  host: number;
  /** What the guest itself computed. */
  vcpu: number;
}

/** Processor time that the living threads of some processes have had so far (proc(5), schedstat: nanoseconds). */
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

/** Null for a thread that ended meanwhile. */
function readOfThread(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}
