import { ScanoutError } from '../../sys/errors.ts';

/** What an agent sent is not the protocol, or it has stopped reading. Ends its connection. */
export class VdagentError extends ScanoutError<'protocol'> {
  constructor(message: string) {
    super('protocol', message);
  }
}
