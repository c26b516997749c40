import type { Log } from '../../core/log.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { SysError } from '../../sys/errors.ts';
import { type OwnedFd, setNonBlocking } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import { Pump } from '../../sys/pump.ts';
import { acceptUnix, listenUnix, SocketFile } from '../../sys/socket.ts';
import type { VirtioDevice } from '../virtio/device.ts';
import { type BackendOptions, isPeerFault, VhostUserBackend } from './backend.ts';

export interface VhostUserServerOptions extends Pick<
  BackendOptions,
  'log' | 'onDisplaySocket' | 'allowUnsealedMemory'
> {
  /** Called when a front end has left or was disconnected, and its device is reset. */
  readonly onDisconnected?: () => void;
}

/** How long to wait before accepting again when the process is out of descriptors. */
const ACCEPT_RETRY_MS = 1000;

/**
 * Offers one virtio device to one front end at a time. When a front end leaves or breaks the protocol, the device
 * is reset and the next one may connect.
 */
export class VhostUserServer implements Disposable {
  readonly #device: VirtioDevice;
  readonly #options: VhostUserServerOptions;
  readonly #log: Log;
  readonly #stack = new DisposableStack();
  #listens = false;
  #backend: VhostUserBackend | null = null;
  #retry: NodeJS.Timeout | undefined;

  private constructor(device: VirtioDevice, options: VhostUserServerOptions) {
    this.#device = device;
    this.#options = options;
    this.#log = options.log ?? (() => undefined);
  }

  /** Listens at `path`. Dispose removes the file, unless another server has replaced it. SysError of `listenUnix`. */
  static listen(path: string, device: VirtioDevice, options: VhostUserServerOptions = {}): VhostUserServer {
    const server = new VhostUserServer(device, options);
    try {
      const listener = server.#stack.use(listenUnix(path));
      server.#stack.use(SocketFile.at(path));
      server.#serve(listener);
      return server;
    } catch (error) {
      server[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Serves a socket that this process was given: a listening one, or one that a front end is connected to
   * already, after which there is no other. Consumes `fd`, even on failure. SysError ENOTSOCK...
   */
  static adopt(fd: OwnedFd, device: VirtioDevice, options: VhostUserServerOptions = {}): VhostUserServer {
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
    return this.#backend !== null;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
    this.#backend?.[Symbol.dispose]();
    this.#backend = null;
    this.#stack[Symbol.dispose]();
  }

  #serve(listener: OwnedFd): void {
    this.#listens = true;
    const connections = this.#stack.use(new Pump(() => this.#acceptNext(listener, poll)));
    const poll: Poll = this.#stack.use(Poll.readable(listener, () => connections.start()));
  }

  /** False if no front end waits. */
  #acceptNext(listener: OwnedFd, poll: Poll): boolean {
    try {
      const fd = acceptUnix(listener);
      if (fd !== null) this.#connect(fd);
      return fd !== null;
    } catch (error) {
      this.#log('error', `cannot accept a front end: ${describe(error)}`);
      // The listener stays readable, and accepting again at once would fail again.
      poll.pause();
      this.#retry = setTimeout(() => poll.resume(), ACCEPT_RETRY_MS);
      return false;
    }
  }

  /** Consumes `fd`. */
  #connect(fd: OwnedFd): void {
    if (this.#backend !== null) {
      this.#log('warn', 'refused a second front end: one is connected already');
      fd[Symbol.dispose]();
      return;
    }
    this.#log('info', 'front end connected');
    this.#backend = new VhostUserBackend(fd, this.#device, {
      ...this.#options,
      // A socket that was connected when this process got it may be one that an earlier run left behind.
      memorySlots: this.#listens,
      onEnded: (error) => {
        this.#backend = null;
        if (error === null) this.#log('info', 'front end disconnected');
        else this.#log('error', `front end disconnected: ${describe(error)}`);
        this.#options.onDisconnected?.();
      },
    });
  }
}

function describe(error: unknown): string {
  return isPeerFault(error) ? error.message : String(error);
}

/** Accepts once; null if no connection waits, undefined if `fd` does not listen but is connected itself. Only accept(2) can tell. */
function acceptFirst(fd: OwnedFd): OwnedFd | null | undefined {
  try {
    return acceptUnix(fd);
  } catch (error) {
    if (error instanceof SysError && error.code === 'EINVAL') return undefined;
    throw error;
  }
}
