import { ScanoutError } from '../../src/sys/errors.ts';

/**
 * The VMM's display cannot be used: `closed`, its socket ended; `protocol`, it said something the
 * protocol does not allow; `size`, a picture larger than it can show.
 */
export class VmmDisplayError extends ScanoutError<'closed' | 'protocol' | 'size'> {}
