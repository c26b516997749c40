import { ScanoutError } from '../../src/sys/errors.ts';

export type KmsErrorCode =
  | 'card-missing'
  | 'card-forbidden'
  | 'not-master'
  | 'not-capable'
  | 'connector-missing'
  | 'mode-missing'
  | 'modeset-refused'
  | 'no-buffer'
  | 'no-writeback'
  | 'no-terminals'
  | 'cannot-compose';

/** A monitor of this machine cannot be used as requested; the message says what to do. */
export class KmsError extends ScanoutError<KmsErrorCode> {}
