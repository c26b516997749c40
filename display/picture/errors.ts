import { ScanoutError } from '../../src/sys/errors.ts';
import type { Picture } from '../../src/core/picture.ts';

export type DisplayErrorCode =
  /** Nothing is shown. */
  | 'dark'
  /** What was waited for did not come. */
  | 'timeout'
  /** The display was disposed, or its guest is gone. */
  | 'closed'
  /** The guest has no input devices of ours, or takes nothing from them. */
  | 'input'
  /** No key is called so, or makes that character. */
  | 'key';

/** What a test asked of a display cannot be had. */
export class DisplayError extends ScanoutError<DisplayErrorCode> {
  /** What was shown then; null while nothing was. */
  readonly picture: Picture | null;

  constructor(code: DisplayErrorCode, message: string, { picture = null, cause }: { picture?: Picture | null; cause?: unknown } = {}) {
    super(code, message, { cause });
    this.picture = picture;
  }
}
