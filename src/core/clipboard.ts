import { ScanoutError } from '../sys/errors.ts';

/** UTF-8 text with LF between lines, or a PNG file. */
export type ClipboardType = 'text' | 'png';

/** More than this is not passed on. A screenshot of a 4K monitor fits. */
export const MAX_CLIPBOARD_BYTES = 16 * 2 ** 20;

/**
 * `gone`: something else was copied, or the program that had it has left. `large`: beyond MAX_CLIPBOARD_BYTES. `timeout`:
 * nothing came. `refused`: there is no such data, or too many ask at a time.
 */
export class ClipboardError extends ScanoutError<'gone' | 'large' | 'timeout' | 'refused'> {}

/** What was copied at one end, by which the other end asks for it. */
export interface Copied {
  /** Not empty. */
  readonly types: ReadonlySet<ClipboardType>;
  /** At most MAX_CLIPBOARD_BYTES, not checked otherwise. Rejects with ClipboardError. */
  read(type: ClipboardType): Promise<Uint8Array>;
}

/** One end of a shared clipboard: the desktop, or the guest. */
export interface Clipboard {
  /** What was copied at the other end can be pasted here from now on; null: nothing more can. */
  offer(copied: Copied | null): void;
  /**
   * Calls `listener` when something is copied here, and with null when it cannot be read any more, until the returned
   * function is called. What the other end has offered does not count.
   */
  onCopied(listener: (copied: Copied | null) => void): () => void;
}

/** What is copied at either end can be pasted at the other, until the result is disposed. */
export function shareClipboard(one: Clipboard, other: Clipboard): Disposable {
  const stops = [one.onCopied((copied) => other.offer(copied)), other.onCopied((copied) => one.offer(copied))];
  return {
    [Symbol.dispose]: () => {
      for (const stop of stops) stop();
    },
  };
}
