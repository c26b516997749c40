import { ScanoutError } from '../../sys/errors.ts';

/**
 * What a front end did wrong:
 * - `message`: the bytes make no sense (version, size, a field out of range);
 * - `fds`: too many or too few file descriptors;
 * - `request`: a request we do not know or did not offer;
 * - `memory`: a memory region that cannot be used;
 * - `ring`: a ring that cannot be used.
 */
export type VhostUserErrorCode = 'message' | 'fds' | 'request' | 'memory' | 'ring';

/** A front end's fault. It ends that front end's connection at most. */
export class VhostUserError extends ScanoutError<VhostUserErrorCode> {
  /**
   * True when the stream cannot be trusted any more. Otherwise the request was understood and
   * refused: a front end that asked for an acknowledgement gets it, and only one that did not
   * ask is disconnected, because it would go on as if the request had been granted.
   */
  get closes(): boolean {
    return this.code === 'message' || this.code === 'fds' || this.code === 'request';
  }
}
