import { ScanoutError } from '../../src/sys/errors.ts';

/**
 * The VMM's display cannot be used: `closed`, its socket ended; `protocol`, it violated the
 * protocol; `stalled`, it does not answer; `size`, a picture is larger than it can show.
 */
export class VmmDisplayError extends ScanoutError<'closed' | 'protocol' | 'stalled' | 'size'> {}
