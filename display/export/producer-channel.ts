import { PRODUCER_READY, PRODUCER_RELEASED, producer_ready, producer_released } from '../../protocols/export.ts';
import type { Log } from '../../src/core/log.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { UnixListener } from '../../src/sys/listener.ts';
import { Poll } from '../../src/sys/poll.ts';
import { Pump } from '../../src/sys/pump.ts';
import { UnixConnection } from '../../src/sys/socket.ts';
import { ExportError, reasonOf } from './errors.ts';
import { message, MessageReader } from './messages.ts';

/** Answers that wait for a guest that does not read them, in bytes. */
const MAX_QUEUED = 64 * 2 ** 10;

const SIZES: ReadonlyMap<number, number> = new Map([[PRODUCER_READY, producer_ready.size]]);

/** What a guest's program says of a picture. Valid during the call. */
export type Ready = ReturnType<typeof producer_ready.get>;

/** Takes `ready`. It calls `answer` once, later or at once; when the guest is gone that does nothing. */
export type OnReady = (ready: Ready, answer: (result: number) => void) => void;

/**
 * Where the VMM connects a virtio-serial port of the guest, by which its programs say that a buffer holds a picture. One
 * VMM at a time. What it does wrong ends the connection and nothing else.
 */
export class ProducerChannel implements Disposable {
  readonly #log: Log;
  readonly #onReady: OnReady;
  readonly #listener: UnixListener;
  #port: Port | null = null;

  private constructor(path: string, log: Log, onReady: OnReady) {
    this.#log = log;
    this.#onReady = onReady;
    this.#listener = UnixListener.listen(path, {
      onConnection: (fd) => this.#connect(fd),
      onFailed: (error) => log('error', `export: cannot accept a VMM at the channel: ${String(error)}`),
    });
  }

  /** As `listenUnix`. */
  static listen(path: string, log: Log, onReady: OnReady): ProducerChannel {
    return new ProducerChannel(path, log, onReady);
  }

  get isConnected(): boolean {
    return this.#port !== null;
  }

  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
    this.#port?.[Symbol.dispose]();
    this.#port = null;
  }

  /** Consumes `fd`. */
  #connect(fd: OwnedFd): void {
    if (this.#port) {
      this.#log('warn', 'export: refused a second VMM at the channel: one is connected already');
      fd[Symbol.dispose]();
      return;
    }
    try {
      const port: Port = Port.open(fd, this.#onReady, (error) => this.#closed(port, error));
      this.#port = port;
      this.#log('info', 'export: a VMM connected the channel of its guest');
    } catch (error) {
      this.#log('warn', `export: a VMM could not connect the channel: ${String(error)}`);
    }
  }

  #closed(port: Port, error: unknown): void {
    if (this.#port !== port) return;
    this.#port = null;
    port[Symbol.dispose]();
    const why = error === null ? '' : `: ${reasonOf(error)}`;
    this.#log(error === null ? 'info' : 'warn', `export: the channel of the guest is disconnected${why}`);
  }
}

/** One connection. */
class Port implements Disposable {
  readonly #connection: UnixConnection;
  readonly #onReady: OnReady;
  readonly #onClosed: (error: unknown) => void;
  readonly #reader = new MessageReader(SIZES);
  readonly #pump = new Pump(() => this.#receive());
  readonly #poll: Poll;
  #isOver = false;

  private constructor(connection: UnixConnection, onReady: OnReady, onClosed: (error: unknown) => void) {
    this.#connection = connection;
    this.#onReady = onReady;
    this.#onClosed = onClosed;
    this.#poll = Poll.readable(connection, (ready) => {
      this.#reader.wake(ready);
      this.#pump.start();
    });
  }

  /** Consumes `fd`. SysError EMFILE. */
  static open(fd: OwnedFd, onReady: OnReady, onClosed: (error: unknown) => void): Port {
    const connection = UnixConnection.adopt(fd);
    try {
      return new Port(connection, onReady, onClosed);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#pump[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  /** Handles a message, or reads some. Whether there may be more. */
  #receive(): boolean {
    if (this.#isOver) return false;
    try {
      if (this.#handleNext()) return true;
      if (this.#reader.isDrained) return false;
      const count = this.#reader.fill(this.#connection);
      // None belongs here.
      for (const fd of this.#connection.fds.splice(0)) fd[Symbol.dispose]();
      if (count < 0) return false;
      if (count > 0) return true;
      this.#end(null);
    } catch (error) {
      this.#end(error);
    }
    return false;
  }

  #handleNext(): boolean {
    const type = this.#reader.next();
    if (type === 0) return false;
    if (type !== PRODUCER_READY) throw new ExportError('protocol', `the guest sent a message of type ${type}`);
    const ready = producer_ready.get(this.#reader.view, 0);
    this.#reader.drop();
    this.#onReady(ready, (result) => this.#answer(ready, result));
    return true;
  }

  #answer({ resource, serial }: Ready, result: number): void {
    if (this.#isOver) return;
    try {
      this.#connection.send(message(PRODUCER_RELEASED, producer_released.encode({ resource, result, serial })));
      if (this.#connection.queuedBytes > MAX_QUEUED)
        throw new ExportError('stalled', 'the guest does not read its answers');
    } catch (error) {
      this.#end(error);
    }
  }

  #end(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onClosed(error);
  }
}
