import type { Clipboard, Copied } from '../../core/clipboard.ts';
import { type Log, limitLog } from '../../core/log.ts';
import { type OwnedFd, setNonBlocking } from '../../sys/fd.ts';
import { UnixListener } from '../../sys/listener.ts';
import { Agent } from './agent.ts';

export interface VdagentClipboardOptions {
  /** A path to listen on, or a socket that a VMM is connected to already, after which there is no other. */
  readonly socket: string | OwnedFd;
  readonly log?: Log;
}

export interface VdagentStats {
  /** A VMM is connected, and an agent runs in its guest. */
  readonly connected: boolean;
  readonly agent: boolean;
}

/**
 * The clipboard of a guest in which a SPICE agent (spice-vdagent) runs. Its virtio-serial port is a socket, to which the
 * VMM connects; one at a time.
 *
 *     using guest = VdagentClipboard.open({ socket: '/tmp/clipboard.sock' });
 *     using shared = shareClipboard(guest, windows.clipboard);
 */
export class VdagentClipboard implements Clipboard, Disposable {
  readonly #log: Log;
  #listener: UnixListener | null = null;
  #agent: Agent | null = null;
  #offered: Copied | null = null;
  readonly #listeners = new Set<(copied: Copied | null) => void>();

  private constructor(log: Log) {
    this.#log = limitLog(log);
  }

  /** A socket that was given is consumed, even on failure. SysError of `listenUnix`, ENOTSOCK, EMFILE. */
  static open({ socket, log = () => undefined }: VdagentClipboardOptions): VdagentClipboard {
    const clipboard = new VdagentClipboard(log);
    if (typeof socket === 'string') {
      clipboard.#listener = UnixListener.listen(socket, {
        onConnection: (fd) => clipboard.#connect(fd),
        onFailed: (error) => clipboard.#log('error', `clipboard: cannot accept a VMM: ${String(error)}`),
      });
      return clipboard;
    }
    try {
      setNonBlocking(socket);
    } catch (error) {
      socket[Symbol.dispose]();
      throw error;
    }
    clipboard.#open(socket);
    return clipboard;
  }

  get stats(): VdagentStats {
    return { connected: this.#agent !== null, agent: this.#agent?.isThere ?? false };
  }

  offer(copied: Copied | null): void {
    this.#offered = copied;
    this.#agent?.offer(copied);
  }

  onCopied(listener: (copied: Copied | null) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  [Symbol.dispose](): void {
    this.#listener?.[Symbol.dispose]();
    this.#agent?.[Symbol.dispose]();
    this.#agent = null;
    this.#listeners.clear();
  }

  /** Consumes `fd`. */
  #connect(fd: OwnedFd): void {
    if (this.#agent) {
      this.#log('warn', 'clipboard: refused a second VMM: one is connected already');
      fd[Symbol.dispose]();
      return;
    }
    try {
      this.#open(fd);
    } catch (error) {
      this.#log('warn', `clipboard: a VMM could not connect: ${String(error)}`);
    }
  }

  /** Consumes `fd`. */
  #open(fd: OwnedFd): void {
    const agent: Agent = Agent.open(fd, {
      log: this.#log,
      onCopied: (copied) => {
        if (copied) this.#offered = null;
        for (const listener of [...this.#listeners]) listener(copied);
      },
      onClosed: (error) => this.#closed(error),
    });
    // It may have hung up already.
    if (agent.isOver) return;
    this.#agent = agent;
    if (this.#offered) agent.offer(this.#offered);
  }

  #closed(error: Error | null): void {
    this.#agent = null;
    const why = error === null ? '' : `: ${error.message}`;
    this.#log(error === null ? 'info' : 'warn', `clipboard: the VMM is disconnected${why}`);
  }
}
