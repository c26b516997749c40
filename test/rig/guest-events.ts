import type { Guest } from './guest.ts';

/** Names of our devices in the guest. */
export const KEYBOARD = 'scanout-bridge keyboard and pointer';
export const TOUCHSCREEN = 'scanout-bridge touchscreen';

const END = 'KEY_F12';

/** Prints lines of what runs behind descriptor 5 until one has both words. */
export const readUntil = (word: string, other: string): string => `while read -r line <&5; do echo "$line"; case $line in *'${word}'*'${other}'*) break;; esac; done`;

/** Starts a program in the guest that prints events, one a line, once it has said `ready`. */
export async function listen(guest: Guest, program: string, ready: string): Promise<void> {
  await guest.run(`rm -f /run/events; mkfifo /run/events; stdbuf -oL ${program} >/run/events 2>&1 & listener=$!; exec 5</run/events; ${readUntil(ready, '')}`);
}

/** Starts evtest on the device of that name. */
export async function listenToKernel(guest: Guest, name: string): Promise<void> {
  await listen(guest, `evtest /dev/input/$(basename $(dirname $(dirname $(grep -lx '${name}' /sys/class/input/event*/device/name))))`, 'interrupt to exit');
}

/** Everything up to an event, F12's release unless told, and ends what was started. */
export async function heard(guest: Guest, event = END, state = 'value 0'): Promise<string> {
  return guest.run(`${readUntil(event, state)}; kill $listener; cat <&5; exec 5<&-; wait $listener; true`);
}

/** What evtest printed, as groups of `TYPE CODE VALUE`; without what the guest's kernel repeats, and F12's own groups. */
export function groups(printed: string): string[][] {
  return printed
    .split(/.*SYN_REPORT.*\n/)
    .map((group) => [...group.matchAll(/\((EV_\w+)\), code \d+ \((\w+)\), value (-?\d+)/g)].map(([, type, code, value]) => `${type!} ${code!} ${value!}`))
    .filter((group) => group.length > 0 && !group[0]!.endsWith(' 2') && !group[0]!.includes(END));
}

/** Where a position in a picture is on the axis of our devices. */
export const axis = (position: number, size: number): number => Math.ceil((position * 0x8000) / size);
