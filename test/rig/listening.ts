import { readFileSync } from 'node:fs';
import { setTimeout as after } from 'node:timers/promises';

/**
 * Resolves when another process listens at `path`. For programs that have no way to say so, where a
 * connection to try it would be the only one they take. Rejects with what `ended` throws.
 */
export async function listening(path: string, ended: () => void = () => undefined): Promise<void> {
  while (!isListening(path)) {
    ended();
    await after(5);
  }
}

/** /proc/net/unix: flag 0x10000 says a socket accepts connections. */
function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'latin1').split('\n').some((line) => line.endsWith(` ${path}`) && line.includes(' 00010000 '));
}
