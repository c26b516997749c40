import { VHOST_USER_BACKEND, VHOST_USER_VERSION, VhostUserHeader } from '../../../protocols/vhost-user.ts';
import type { Log } from '../../core/log.ts';
import { SysError } from '../../sys/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { UnixConnection } from '../../sys/socket.ts';

const CONFIG_CHANGED = VhostUserHeader.encode({ request: VHOST_USER_BACKEND.CONFIG_CHANGE_MSG, flags: VHOST_USER_VERSION });

/** What the back end asks of the front end, over the socket that brings no replies, once there is one. */
export class FrontEndRequests implements Disposable {
  readonly #log: Log;
  #connection: UnixConnection | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Consumes `fd`, in place of the one before. */
  connect(fd: OwnedFd): void {
    this[Symbol.dispose]();
    this.#connection = UnixConnection.adopt(fd);
  }

  /** False: the front end cannot be told. */
  configChanged(): boolean {
    if (this.#connection === null) return false;
    // One that waits to be sent tells of this change as well.
    if (this.#connection.queuedBytes > 0) return true;
    try {
      this.#connection.send(CONFIG_CHANGED);
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `the front end takes no requests any more: ${error.message}`);
      this[Symbol.dispose]();
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#connection?.[Symbol.dispose]();
    this.#connection = null;
  }
}
