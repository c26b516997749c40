import { ScanoutError } from '../../src/sys/errors.ts';

/**
 * Why a viewer was disconnected. `protocol`: it violated RFB; `unsupported`: it asks for what this server does not have;
 * `password`: it does not know the password; `stalled`: it did not finish its greeting; `internal`: serving it failed.
 */
export class VncError extends ScanoutError<'protocol' | 'unsupported' | 'password' | 'stalled' | 'internal'> {}
