import type { Guest } from './guest.ts';

/** Names of our input devices in the guest's kernel. */
export const KEYBOARD = 'scanout-bridge keyboard and pointer';
export const TOUCHSCREEN = 'scanout-bridge touchscreen';

const END = 'KEY_F12';

/** Shell code that prints the lines read from descriptor 5, up to the first that contains both words. */
export const readUntil = (word: string, other: string): string =>
  `while read -r line <&5; do echo "$line"; case $line in *'${word}'*'${other}'*) break;; esac; done`;

/** Starts a program in the guest that prints one event per line; resolves once it has printed `ready`. */
export async function listen(guest: Guest, program: string, ready: string): Promise<void> {
  await guest.run(
    `rm -f /run/events; mkfifo /run/events; stdbuf -oL ${program} >/run/events 2>&1 & listener=$!; exec 5</run/events; ${readUntil(ready, '')}`,
  );
}

/** Starts evtest on the input device with that name. */
export async function listenToKernel(guest: Guest, name: string): Promise<void> {
  await listen(
    guest,
    `evtest /dev/input/$(basename $(dirname $(dirname $(grep -lx '${name}' /sys/class/input/event*/device/name))))`,
    'interrupt to exit',
  );
}

/** Resolves with everything printed up to an event (default: the release of F12), and ends the program. */
export async function heard(guest: Guest, event = END, state = 'value 0'): Promise<string> {
  return guest.run(`${readUntil(event, state)}; kill $listener; cat <&5; exec 5<&-; wait $listener; true`);
}

/** Parses evtest's output into groups of `TYPE CODE VALUE`, without key repeats (by the guest's kernel) and groups of F12. */
export function groups(printed: string): string[][] {
  return printed
    .split(/.*SYN_REPORT.*\n/)
    .map((group) =>
      [...group.matchAll(/\((EV_\w+)\), code \d+ \((\w+)\), value (-?\d+)/g)].map(
        ([, type, code, value]) => `${type!} ${code!} ${value!}`,
      ),
    )
    .filter((group) => group.length > 0 && !group[0]!.endsWith(' 2') && !group[0]!.includes(END));
}

/** Axis value of our devices for a position in a picture that is `size` pixels wide (or high). */
export const axis = (position: number, size: number): number => Math.ceil((position * 0x8000) / size);
