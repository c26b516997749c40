import { DisposableStack } from './disposable-stack.ts';
import type { OwnedFd } from './fd.ts';
import { Poll } from './poll.ts';
import { Pump } from './pump.ts';
import { acceptUnix, listenUnix, SocketFile } from './socket.ts';

/** How long to wait before accepting again when the process is out of descriptors. */
const RETRY_MS = 1000;

export interface UnixListenerOptions {
  /** Of the socket's file; default 0600. */
  readonly mode?: number;
  /** The file's group; default: this process's. */
  readonly gid?: number;
  /** Takes each connection, which is non-blocking. Must not throw. */
  readonly onConnection: (fd: OwnedFd) => void;
  /** Connections wait because accept(2) failed. It is tried again every second. */
  readonly onFailed: (error: unknown) => void;
}

/** A listening Unix socket with its file, which dispose removes unless another socket has replaced it. */
export class UnixListener implements Disposable {
  readonly #options: UnixListenerOptions;
  readonly #stack: DisposableStack;
  readonly #fd: OwnedFd;
  readonly #poll: Poll;
  #retry: NodeJS.Timeout | undefined;

  private constructor(path: string, options: UnixListenerOptions, stack: DisposableStack) {
    this.#options = options;
    this.#fd = stack.use(listenUnix(path, options));
    stack.use(SocketFile.at(path));
    const connections = stack.use(new Pump(() => this.#acceptNext()));
    this.#poll = stack.use(Poll.readable(this.#fd, () => connections.start()));
    this.#stack = stack.move();
  }

  /** As `listenUnix`. */
  static listen(path: string, options: UnixListenerOptions): UnixListener {
    using stack = new DisposableStack();
    return new UnixListener(path, options, stack);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
    this.#stack[Symbol.dispose]();
  }

  #acceptNext(): boolean {
    let fd: OwnedFd | null;
    try {
      fd = acceptUnix(this.#fd);
    } catch (error) {
      // The socket stays readable, and accepting again at once would fail again.
      this.#poll.pause();
      this.#retry = setTimeout(() => this.#poll.resume(), RETRY_MS);
      this.#options.onFailed(error);
      return false;
    }
    if (fd) this.#options.onConnection(fd);
    return fd !== null;
  }
}
