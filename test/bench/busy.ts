import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

/** Long enough for the clock ticks that /proc/stat counts. */
const LOOK_MS = 1000;

/** The share of this machine's processor time that other programs take, 0 to 1, by a look of a second. */
export async function busyShare(): Promise<number> {
  const before = ticks();
  await setTimeout(LOOK_MS);
  const after = ticks();
  const all = after.all - before.all;
  return all > 0 ? (after.busy - before.busy) / all : 0;
}

/** proc_stat(5): of all processors since the machine was started. */
function ticks(): { busy: number; all: number } {
  const [user, nice, system, idle, iowait, ...rest] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]!
    .split(/ +/)
    .slice(1, 9)
    .map(Number) as [number, number, number, number, number, ...number[]];
  const busy = user + nice + system + rest.reduce((sum, value) => sum + value, 0);
  return { busy, all: busy + idle + iowait };
}
