import * as wire from '../../../protocols/vhost-user.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { UnixConnection } from '../../sys/socket.ts';
import { VhostUserError } from './errors.ts';
import { MAX_FDS, MAX_PAYLOAD, checkHeader } from './messages.ts';

const header = wire.VhostUserHeader.field;
const HEADER_SIZE = wire.VhostUserHeader.size;

/** A message as it was received; valid until the next `receive`. */
export interface RawMessage {
  readonly request: number;
  readonly needReply: boolean;
  readonly payload: DataView;
  /** Exactly the descriptors sent with this message. Remove one to take it; the others are closed. */
  readonly fds: OwnedFd[];
}

/**
 * Cuts the stream of a vhost-user socket into messages, and sends replies. Each message is read with two reads of
 * its own, header and payload, and nothing beyond: descriptors arrive with the first byte of their message, and
 * this is the only way to know which message they belong to.
 */
export class VhostUserConnection implements Disposable {
  readonly #socket: UnixConnection;
  readonly #bytes = new Uint8Array(HEADER_SIZE + MAX_PAYLOAD);
  readonly #view = new DataView(this.#bytes.buffer);
  #have = 0;
  #need = HEADER_SIZE;
  #ended = false;

  /** Consumes a connected stream socket. */
  constructor(fd: OwnedFd) {
    this.#socket = UnixConnection.adopt(fd);
  }

  /** The descriptor to poll. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Replies wait because the front end does not read them. */
  get isCongested(): boolean {
    return this.#socket.queuedBytes > 0;
  }

  /** Called when the connection is no longer congested. */
  set onDrained(callback: () => void) {
    this.#socket.onDrained = callback;
  }

  /** The front end closed its side. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * The next whole message; null if none has arrived in full yet, or the stream has `ended`. Closes the
   * descriptors of the message before that were not taken. VhostUserError if the stream is malformed; SysError
   * ECONNRESET, ECTRUNC.
   */
  receive(): RawMessage | null {
    if (this.#have === this.#need) this.#discard();
    while (this.#have < this.#need) {
      const count = this.#socket.recv(this.#bytes, this.#have, this.#need - this.#have);
      this.#ended = count === 0;
      if (count <= 0) return null;
      this.#have += count;
      if (this.#socket.fds.length > MAX_FDS)
        throw new VhostUserError('fds', `${this.#socket.fds.length} file descriptors came with one message`);
      if (this.#have === HEADER_SIZE) {
        const size = header.size.get(this.#view, 0);
        checkHeader(header.request.get(this.#view, 0), header.flags.get(this.#view, 0), size);
        this.#need = HEADER_SIZE + size;
      }
    }
    return {
      request: header.request.get(this.#view, 0),
      needReply: (header.flags.get(this.#view, 0) & wire.VHOST_USER_NEED_REPLY_MASK) !== 0,
      payload: new DataView(this.#bytes.buffer, HEADER_SIZE, this.#need - HEADER_SIZE),
      fds: this.#socket.fds,
    };
  }

  /** SysError EPIPE when the front end is gone. */
  reply(request: number, payload: Uint8Array): void {
    const message = new Uint8Array(HEADER_SIZE + payload.length);
    message.set(
      wire.VhostUserHeader.encode({
        request,
        flags: wire.VHOST_USER_VERSION | wire.VHOST_USER_REPLY_MASK,
        size: payload.length,
      }),
    );
    message.set(payload, HEADER_SIZE);
    this.#socket.send(message);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  #discard(): void {
    for (const fd of this.#socket.fds.splice(0)) fd[Symbol.dispose]();
    this.#have = 0;
    this.#need = HEADER_SIZE;
  }
}
