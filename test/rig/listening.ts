import { existsSync, readFileSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';

// Node keeps one inotify descriptor from the first watcher on: it is there before any test counts descriptors.
watch('/').close();

/**
 * Resolves when another process listens at `path`. For programs that have no way to say so, where a
 * connection to try it would be the only one they take. Rejects as `gone` does: when that process ends.
 */
export async function listening(path: string, gone: Promise<unknown>): Promise<void> {
  using file = watchFor(path);
  // It ends after our wait as well.
  gone.catch(() => undefined);
  if (!existsSync(path)) await Promise.race([file.appeared, gone]);
  // Between bind and listen nobody tells, and it takes no time.
  while (!isListening(path)) await Promise.race([setImmediate(), gone]);
}

/** Tells, from now on, when a file appears (or changes) in a directory that exists. */
export function watchFor(path: string): Disposable & { readonly appeared: Promise<void> } {
  const watcher = watch(dirname(path));
  const appeared = new Promise<void>((resolve, reject) => {
    watcher.on('error', reject).on('change', (_, name) => {
      if (name === basename(path)) resolve();
    });
  });
  return { appeared, [Symbol.dispose]: () => watcher.close() };
}

/** /proc/net/unix: flag 0x10000 says a socket accepts connections. */
function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'latin1').split('\n').some((line) => line.endsWith(` ${path}`) && line.includes(' 00010000 '));
}
