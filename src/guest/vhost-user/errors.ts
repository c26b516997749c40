import { ScanoutError } from '../../sys/errors.ts';

/**
 * What a front end did wrong:
 * - `message`: the bytes are malformed (version, size, a field out of range);
 * - `fds`: too many or too few file descriptors;
 * - `request`: a request that is unknown or was not offered;
 * - `memory`: a memory region that cannot be used;
 * - `ring`: a ring that cannot be used.
 */
export type VhostUserErrorCode = 'message' | 'fds' | 'request' | 'memory' | 'ring';

/** An error of the front end. It ends that front end's connection at most. */
export class VhostUserError extends ScanoutError<VhostUserErrorCode> {
  /**
   * True if the stream can no longer be trusted. Otherwise the request was understood and refused: a front end
   * that asked for an acknowledgement is told so. One that did not ask is disconnected, because it would continue
   * as if the request had been granted.
   */
  get closes(): boolean {
    return this.code === 'message' || this.code === 'fds' || this.code === 'request';
  }
}
