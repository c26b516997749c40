import { ScanoutError } from '../sys/errors.ts';

/** A command line, specification or option that cannot be used as given. */
export class UsageError extends ScanoutError<'usage'> {
  constructor(message: string) {
    super('usage', message);
  }
}
