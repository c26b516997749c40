import { closeSync, constants, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SysError } from './errors.ts';

const OWNER_ONLY = 0o600;

/**
 * Puts a file with `bytes` at `path`, atomically: a reader sees the old file or the whole new one. A symlink at `path` is
 * replaced and never followed. The file mode is `mode` without the umask; by default only the owner can read it. Leaves
 * nothing behind on failure. Rejects with SysError EEXIST if something other than a file is there, such as a device, or
 * the file system's error.
 */
export async function replaceFile(path: string, bytes: Uint8Array, mode = OWNER_ONLY): Promise<void> {
  checkReplaceable(path);
  const temporary = besides(path);
  try {
    await writeFile(temporary, bytes, { flag: 'wx', mode });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Opens an empty file at `path` for writing, which only its owner can read, in place of a file or symlink there. The
 * caller owns the descriptor. Throws as `replaceFile` rejects.
 */
export function openReplacement(path: string): number {
  checkReplaceable(path);
  const temporary = besides(path);
  const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, OWNER_ONLY);
  try {
    renameSync(temporary, path);
    return fd;
  } catch (error) {
    closeSync(fd);
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** A rename would remove a device or a fifo, such as the target of /dev/stdout. */
function checkReplaceable(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found && !found.isFile()) throw new SysError('rename', 'EEXIST', `${path} is not a regular file`);
}

/** A name for a new file in the same directory. It is short, because the name in `path` may be as long as names can be. */
function besides(path: string): string {
  return join(dirname(path), `.${crypto.randomUUID()}.tmp`);
}
