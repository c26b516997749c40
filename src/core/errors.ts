/**
 * Base of every error we throw on purpose. One subclass per boundary; `code` is stable and meant
 * for `switch`, the message says what was tried, on what, and what to do about it.
 */
export abstract class ScanoutError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A command line, specification string or option that cannot be used as given. */
export class UsageError extends ScanoutError<'usage'> {
  constructor(message: string) {
    super('usage', message);
  }
}
