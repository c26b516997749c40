import { ScanoutError } from '../../src/sys/errors.ts';

/**
 * The other side of an export socket: `closed`, it ended the connection; `protocol`, it violated the protocol;
 * `stalled`, it does not read; `resources`, descriptors or memory are short; `version`, it speaks another version;
 * `no-such-buffer`, an id that nothing has; `no-such-frame`, a frame that is not held; `too-many`, it serves as many
 * consumers as it can; `forbidden`, it refuses this user; `unreachable`, nothing listens there.
 */
export class ExportError extends ScanoutError<
  | 'closed'
  | 'protocol'
  | 'stalled'
  | 'resources'
  | 'version'
  | 'no-such-buffer'
  | 'no-such-frame'
  | 'too-many'
  | 'forbidden'
  | 'unreachable'
> {}

/** What went wrong, for a log line. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
