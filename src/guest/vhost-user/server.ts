import { rmSync } from 'node:fs';
import { requestName } from '../../../protocols/vhost-user.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { SysError } from '../../sys/errors.ts';
import { type OwnedFd, setNonBlocking } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import { acceptUnix, listenUnix } from '../../sys/socket.ts';
import type { VirtioDevice } from '../virtio/device.ts';
import { type BackendOptions, u64, VhostUserBackend } from './backend.ts';
import { type RawMessage, VhostUserConnection } from './connection.ts';
import { VhostUserError } from './errors.ts';
import { decode } from './messages.ts';

export type VhostUserServerOptions = Omit<BackendOptions, 'memorySlots'>;

/** How long a listener rests when we are out of descriptors. */
const ACCEPT_RETRY_MS = 1000;

const DONE = u64(0n);
const REFUSED = u64(1n);

/**
 * Offers one virtio device to one front end at a time. When a front end goes, or makes no sense,
 * the device is reset and the next one may come.
 */
export class VhostUserServer implements Disposable {
  readonly #device: VirtioDevice;
  readonly #options: VhostUserServerOptions;
  readonly #stack = new DisposableStack();
  #listens = false;
  #frontEnd: FrontEnd | null = null;
  #retry: NodeJS.Timeout | undefined;

  private constructor(device: VirtioDevice, options: VhostUserServerOptions) {
    this.#device = device;
    this.#options = options;
  }

  /** Listens at `path`, and removes it on dispose. SysError as of `listenUnix`. */
  static listen(path: string, device: VirtioDevice, options: VhostUserServerOptions): VhostUserServer {
    const server = new VhostUserServer(device, options);
    try {
      const listener = server.#stack.use(listenUnix(path));
      server.#stack.defer(() => rmSync(path, { force: true }));
      server.#serve(listener);
      return server;
    } catch (error) {
      server[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Serves a socket this process was started with: one that listens, or one a front end is
   * connected to already, after which no other comes. Consumes `fd`. SysError ENOTSOCK...
   */
  static adopt(fd: OwnedFd, device: VirtioDevice, options: VhostUserServerOptions): VhostUserServer {
    const server = new VhostUserServer(device, options);
    try {
      setNonBlocking(fd);
      const first = acceptFirst(fd);
      if (first === undefined) server.#connect(fd);
      else {
        const listener = server.#stack.use(fd);
        server.#serve(listener);
        if (first !== null) server.#connect(first);
      }
    } catch (error) {
      server[Symbol.dispose]();
      fd[Symbol.dispose]();
      throw error;
    }
    return server;
  }

  /** Whether a front end is connected. */
  get connected(): boolean {
    return this.#frontEnd !== null;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
    this.#frontEnd?.[Symbol.dispose]();
    this.#frontEnd = null;
    this.#stack[Symbol.dispose]();
  }

  #serve(listener: OwnedFd): void {
    this.#listens = true;
    const poll = this.#stack.use(
      Poll.readable(listener, () => {
        try {
          for (let fd = acceptUnix(listener); fd !== null; fd = acceptUnix(listener)) this.#connect(fd);
        } catch (error) {
          if (!(error instanceof SysError)) throw error;
          this.#options.log('error', `cannot accept a front end: ${error.message}`);
          // It stays readable, and asking again at once would change nothing.
          poll.pause();
          this.#retry = setTimeout(() => poll.resume(), ACCEPT_RETRY_MS);
        }
      }),
    );
  }

  /** Consumes `fd`. */
  #connect(fd: OwnedFd): void {
    const { log } = this.#options;
    if (this.#frontEnd !== null) {
      log('warn', 'refused a second front end: one is connected');
      fd[Symbol.dispose]();
      return;
    }
    log('info', 'front end connected');
    // A connection made for us may be one that an earlier run of ours has left.
    const options = { ...this.#options, memorySlots: this.#listens };
    this.#frontEnd = new FrontEnd(fd, this.#device, options, (reason) => {
      log(reason === null ? 'info' : 'error', reason === null ? 'front end disconnected' : `front end disconnected: ${reason}`);
      this.#frontEnd?.[Symbol.dispose]();
      this.#frontEnd = null;
    });
  }
}

/** A connected front end: reads its messages, has the back end do them, answers. */
class FrontEnd implements Disposable {
  readonly #connection: VhostUserConnection;
  readonly #backend: VhostUserBackend;
  readonly #poll: Poll;
  readonly #options: BackendOptions;
  readonly #onGone: (reason: string | null) => void;
  #gone = false;

  constructor(fd: OwnedFd, device: VirtioDevice, options: BackendOptions, onGone: (reason: string | null) => void) {
    using stack = new DisposableStack();
    this.#options = options;
    this.#onGone = onGone;
    this.#connection = stack.use(new VhostUserConnection(fd));
    this.#poll = stack.use(Poll.readable(this.#connection, () => this.#read()));
    this.#backend = stack.use(new VhostUserBackend(device, options));
    stack.move();
  }

  [Symbol.dispose](): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#backend[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  #read(): void {
    let reason: string | null = null;
    try {
      for (let raw = this.#connection.receive(); raw !== null; raw = this.#connection.receive()) {
        this.#handle(raw);
        // The device's listeners may have disposed the server meanwhile.
        if (this.#gone) return;
      }
      if (!this.#connection.ended) return;
    } catch (error) {
      if (!(error instanceof VhostUserError || error instanceof SysError)) throw error;
      reason = error.message;
    }
    this.#onGone(reason);
  }

  #handle(raw: RawMessage): void {
    const { request, needReply, fds } = raw;
    try {
      const message = decode(request, raw.payload, fds);
      const reply = this.#backend.handle(message);
      if (this.#gone) return;
      if (reply !== null) this.#connection.reply(request, reply);
      else if (needReply) this.#connection.reply(request, DONE);
    } catch (error) {
      if (!(error instanceof VhostUserError) || error.closes || !needReply) throw error;
      this.#options.log('warn', `refused ${requestName(request)}: ${error.message}`);
      this.#connection.reply(request, REFUSED);
    }
  }
}

/** Accepts once; undefined if `fd` is no listener but connected itself, which only this tells. */
function acceptFirst(fd: OwnedFd): OwnedFd | null | undefined {
  try {
    return acceptUnix(fd);
  } catch (error) {
    if (error instanceof SysError && error.code === 'EINVAL') return undefined;
    throw error;
  }
}
