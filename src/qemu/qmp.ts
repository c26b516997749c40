import { StringDecoder } from 'node:string_decoder';
import { printable } from '../core/log.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../sys/fd.ts';
import { Poll } from '../sys/poll.ts';
import { Pump } from '../sys/pump.ts';
import { UnixConnection } from '../sys/socket.ts';

export type QmpErrorCode =
  /** QEMU refused the command. */
  | 'refused'
  /** QEMU closed the connection. */
  | 'closed'
  /** What QEMU sent is no QMP; the connection is closed. */
  | 'malformed';

/** A command, or the wait for an event, that failed. */
export class QmpError extends ScanoutError<QmpErrorCode> {}

interface Message {
  readonly id?: number;
  readonly event?: string;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: QmpError) => void;
}

const BUSY = 'QEMU does not answer: another program may be connected to this socket';

/** Characters of one message. The answers to what is asked here have some hundreds. */
const MAX_LINE = 2 ** 20;
const PIECE = 2 ** 16;

/**
 * A client of QEMU's machine protocol (QEMU's docs/interop/qmp-spec) on a connected socket. Keeps the process alive until
 * disposed, or until QEMU closes the connection.
 */
export class Qmp implements Disposable {
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #reading = new Pump(() => this.#read());
  readonly #bytes = Buffer.alloc(PIECE);
  readonly #decoder = new StringDecoder('utf8');
  readonly #replies = new Map<number, Waiting>();
  readonly #events = new Map<string, Waiting[]>();
  #lastId = 0;
  #partial = '';
  /** Why nothing more will come; null while the connection is open. */
  #gone: QmpError | null = null;

  private constructor(socket: OwnedFd) {
    this.#connection = UnixConnection.adopt(socket);
    try {
      this.#poll = Poll.readable(this.#connection, () => this.#reading.start());
    } catch (error) {
      this.#connection[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Takes ownership of the socket, also on failure. Rejects with QmpError if QEMU does not take commands, or not within
   * `timeoutMs`: it serves one client of a socket at a time.
   */
  static async open(socket: OwnedFd, { timeoutMs = Infinity } = {}): Promise<Qmp> {
    const qmp = new Qmp(socket);
    using timer = new DisposableStack();
    if (timeoutMs < Infinity) {
      const timeout = setTimeout(() => qmp.#end(new QmpError('closed', BUSY)), timeoutMs);
      timer.defer(() => clearTimeout(timeout));
    }
    try {
      await qmp.command('qmp_capabilities');
      return qmp;
    } catch (error) {
      qmp[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends a command, with descriptors that stay the caller's, and resolves with its result. Rejects with QmpError. */
  command(name: string, args: Record<string, unknown> = {}, fds: readonly BorrowedFd[] = []): Promise<unknown> {
    const failed = ({ code, message, cause }: QmpError): QmpError =>
      new QmpError(code, `QMP ${name}: ${message}`, { cause });
    if (this.#gone) return Promise.reject(failed(this.#gone));
    const id = ++this.#lastId;
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#replies.set(id, { resolve, reject: (error) => reject(failed(error)) });
    });
    try {
      this.#connection.send(Buffer.from(`${JSON.stringify({ execute: name, arguments: args, id })}\n`), fds);
    } catch (cause) {
      this.#end(new QmpError('closed', 'QEMU does not read its QMP socket', { cause }));
    }
    return reply;
  }

  /** Resolves with the next event of that name. Rejects with QmpError. */
  event(name: string): Promise<unknown> {
    if (this.#gone) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#events.set(name, [...(this.#events.get(name) ?? []), { resolve, reject }]);
    });
  }

  /**
   * Resolves when QEMU has stopped the guest for good because its processor cannot go on (run state `internal-error` of
   * qapi/run-state.json), as it does where KVM exists and does not work. Rejects with QmpError.
   */
  async internalError(): Promise<void> {
    for (;;) {
      const stopped = this.event('STOP');
      // It rejects as the command does if QEMU goes away.
      stopped.catch(() => undefined);
      const state = (await this.command('query-status')) as { readonly status?: unknown } | undefined;
      if (state?.status === 'internal-error') return;
      await stopped;
    }
  }

  /** Closes the connection. What waits is rejected, and what is requested later. */
  [Symbol.dispose](): void {
    this.#end(new QmpError('closed', 'the connection was closed'));
  }

  /** Rejects everything that waits, and from now on what is requested. */
  #end(gone: QmpError): void {
    if (this.#gone) return;
    this.#gone = gone;
    this.#reading[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
    for (const waiting of [...this.#replies.values(), ...[...this.#events.values()].flat()]) waiting.reject(this.#gone);
    this.#replies.clear();
    this.#events.clear();
  }

  /** One piece. */
  #read(): boolean {
    try {
      const count = this.#connection.recv(this.#bytes, 0, PIECE);
      if (count < 0) return false;
      if (count === 0) throw new QmpError('closed', 'QEMU closed its QMP socket');
      // QEMU sends none.
      for (const fd of this.#connection.fds.splice(0)) fd[Symbol.dispose]();
      this.#take(this.#decoder.write(this.#bytes.subarray(0, count)));
    } catch (cause) {
      // ECONNRESET: QEMU went away without reading the last command.
      this.#end(cause instanceof QmpError ? cause : new QmpError('closed', 'QEMU closed its QMP socket', { cause }));
    }
    return this.#gone === null;
  }

  #take(text: string): void {
    const lines = (this.#partial + text).split('\n');
    this.#partial = lines.pop()!;
    try {
      if (this.#partial.length > MAX_LINE) throw new RangeError(`a line of more than ${MAX_LINE} characters`);
      for (const line of lines) if (!this.#gone) this.#receive(JSON.parse(line) as Message);
    } catch (cause) {
      throw new QmpError('malformed', 'QEMU sent a malformed QMP message', { cause });
    }
  }

  #receive(message: Message): void {
    if (message.event !== undefined) {
      const waiting = this.#events.get(message.event) ?? [];
      this.#events.delete(message.event);
      for (const { resolve } of waiting) resolve(message);
    }
    if (message.id === undefined) return;
    const reply = this.#replies.get(message.id);
    this.#replies.delete(message.id);
    if (message.error) reply?.reject(new QmpError('refused', printable(message.error.desc)));
    else reply?.resolve(message.return);
  }
}
