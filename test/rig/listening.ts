import { existsSync, readFileSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';

// Node opens an inotify descriptor for its first watcher and keeps it: open it before any test counts descriptors.
watch('/').close();

/**
 * Resolves when another process listens at the socket `path`. For programs that do not report this
 * themselves and accept only one connection, which a trial would use up. `gone` must reject when
 * that process ends; this then rejects too.
 */
export async function listening(path: string, gone: Promise<unknown>): Promise<void> {
  using file = watchFor(path);
  // The process usually ends after this wait.
  gone.catch(() => undefined);
  if (!existsSync(path)) await Promise.race([file.appeared, gone]);
  // Nothing reports the step from bind to listen, which takes no time.
  while (!isListening(path)) await Promise.race([setImmediate(), gone]);
}

/** Watches from now on for a file to appear (or change). Its directory must exist. */
export function watchFor(path: string): Disposable & { readonly appeared: Promise<void> } {
  const watcher = watch(dirname(path));
  const appeared = new Promise<void>((resolve, reject) => {
    watcher.on('error', reject).on('change', (_, name) => {
      if (name === basename(path)) resolve();
    });
  });
  return { appeared, [Symbol.dispose]: () => watcher.close() };
}

/** In /proc/net/unix, flag 0x10000 marks a socket that accepts connections. */
function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .some((line) => line.endsWith(` ${path}`) && line.includes(' 00010000 '));
}
