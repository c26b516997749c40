import { ScanoutError } from '../../src/sys/errors.ts';
import type { Picture } from '../../src/core/picture.ts';

export type DisplayErrorCode =
  /** The guest shows nothing. */
  | 'dark'
  /** What was looked for is not on the screen. */
  | 'not-found'
  /** The screen shows no text that can be read here. */
  | 'unreadable'
  /** A wait ended without the picture that it waited for. */
  | 'timeout'
  /** The display was disposed, or its guest is gone. */
  | 'closed'
  /** The guest has no input devices, or its driver takes no events. */
  | 'input'
  /** No key has that name, or types that character. */
  | 'key';

/** A display cannot do what a test asked for. */
export class DisplayError extends ScanoutError<DisplayErrorCode> {
  /** The picture on screen at that time; null if there was none. */
  readonly picture: Picture | null;

  constructor(
    code: DisplayErrorCode,
    message: string,
    { picture = null, cause }: { picture?: Picture | null; cause?: unknown } = {},
  ) {
    super(code, message, { cause });
    this.picture = picture;
  }
}
