import {
  EXPORT_ERROR,
  EXPORT_EVENT,
  EXPORT_ID_SIZE,
  EXPORT_RELEASE_FENCE,
  EXPORT_REQUEST,
  EXPORT_VERSION,
  export_gone,
  export_hello,
  export_import,
  export_imported,
  export_release,
  export_revoked,
} from '../../protocols/export.ts';
import { Bag } from '../../src/core/bag.ts';
import { bufferSource } from '../../src/core/buffer-id.ts';
import { type Log, limitLog } from '../../src/core/log.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { FenceWait, isSyncFile } from '../../src/sys/fence-wait.ts';
import { UnixListener } from '../../src/sys/listener.ts';
import { Poll } from '../../src/sys/poll.ts';
import { Pump } from '../../src/sys/pump.ts';
import { type Credentials, peerCredentials, UnixConnection } from '../../src/sys/socket.ts';
import { ExportError, reasonOf } from './errors.ts';
import { Exports } from './buffers.ts';
import { errorMessage, message, MessageReader } from './messages.ts';

const MAX_CONSUMERS = 16;
/** How long a buffer that the guest wants back waits for a consumer that has its picture, ms. */
const PATIENCE_MS = 1000;
/** Answers that wait before no further request is read, in bytes. */
const MAX_ANSWERS = 64 * 2 ** 10;
/** What waits for a consumer that does not read, in bytes, before it is disconnected: 4096 buffers of a guest fit. */
const MAX_QUEUED = 2 ** 20;
const MAX_FDS = 16;
const REQUESTS_PER_PIECE = 8;

const NO_FDS: readonly BorrowedFd[] = [];

/** The sizes of the requests. */
const SIZES: ReadonlyMap<number, number> = new Map([
  [EXPORT_REQUEST.IMPORT, export_import.size],
  [EXPORT_REQUEST.RELEASE, export_release.size],
]);

/** A buffer of a frame that a consumer has. */
export interface Loanable {
  readonly id: Uint8Array;
  acquire(): void;
  /** Undoes one `acquire`. */
  release(): void;
}

/** Where frames come from: a scanout, or a buffer that a guest's program fills. */
export interface Stream {
  /** A consumer has connected: the stream may lend it the frame that is shown. */
  joined(consumer: Consumer): void;
  /** The consumer no longer reads this frame: it has released it or is gone, or (`isLate`) its time is up. */
  returned(loan: Loan, isLate: boolean): void;
  /** It has released a frame, and may get another. */
  released(consumer: Consumer): void;
  /** The consumer is gone. Its frames have been returned. */
  left(consumer: Consumer): void;
}

/** A frame that a consumer has been sent and has not released. Reused. */
export class Loan {
  stream: Stream | null = null;
  serial = 0;
  primary: Loanable | null = null;
  cursor: Loanable | null = null;
  /** Its buffers may have changed: the consumer was too slow, and only has to answer. */
  isRevoked = false;
  /** When it is revoked, CLOCK_MONOTONIC in milliseconds. */
  dueMs = Infinity;
  /** Of the consumer: it reads until this signals. */
  readonly fence = new FenceWait(() => this.onSignalled());
  onSignalled: () => void = () => undefined;
}

export interface ConsumersOptions {
  readonly path: string;
  readonly mode?: number;
  readonly gid?: number;
  readonly scanouts: number;
  readonly log: Log;
}

export interface ConsumerStats {
  readonly pid: number;
  readonly uid: number;
  /** Frames it has been sent, and those of them that it has not released. */
  readonly frames: number;
  readonly held: number;
}

/** The processes that are connected, and what they can import. */
export class Consumers implements Disposable {
  readonly exports = new Exports((id) => this.#broadcastGone(id));
  readonly streams: Stream[] = [];
  readonly log: Log;
  readonly #all = new Bag<Consumer>();
  readonly #loans = new Bag<Loan>();
  readonly #isOpen: boolean;
  readonly #hello: Uint8Array;
  readonly #listener: UnixListener;
  #patience: NodeJS.Timeout | null = null;
  #serial = 0;
  #isDisposed = false;
  /** Called when a consumer has connected, before the streams are. */
  onJoined: ((consumer: Consumer) => void) | null = null;

  private constructor({ path, mode, gid, scanouts, log }: ConsumersOptions) {
    this.log = limitLog(log);
    this.#isOpen = mode !== undefined || gid !== undefined;
    this.#hello = message(
      EXPORT_EVENT.HELLO,
      export_hello.encode({ version: EXPORT_VERSION, scanouts, source: bufferSource() }),
    );
    this.#listener = UnixListener.listen(path, {
      ...(mode !== undefined && { mode }),
      ...(gid !== undefined && { gid }),
      onConnection: (fd) => this.#connect(fd),
      onFailed: (error) => this.log('error', `export: cannot accept a consumer: ${String(error)}`),
    });
  }

  /** As `listenUnix`. */
  static listen(options: ConsumersOptions): Consumers {
    return new Consumers(options);
  }

  get stats(): ConsumerStats[] {
    return Array.from({ length: this.#all.count }, (_, i) => this.#all.at(i).stats);
  }

  get count(): number {
    return this.#all.count;
  }

  /** The consumer at `index` below `count`. */
  at(index: number): Consumer {
    return this.#all.at(index);
  }

  /** A number for the next frame, which no other has. */
  nextSerial(): number {
    return ++this.#serial;
  }

  /** Each consumer gets `event`. */
  broadcast(event: Uint8Array): void {
    for (let i = 0; i < this.#all.count; i++) this.#all.at(i).send(event);
  }

  /** A newer frame has taken the place of those that `stream` has lent: their buffers are waited for, but not for long. */
  recall(stream: Stream): void {
    const due = monotonicMs() + PATIENCE_MS;
    let isLent = false;
    for (let i = 0; i < this.#all.count; i++) isLent = this.#all.at(i).recall(stream, due) || isLent;
    if (isLent) this.#patience ??= setTimeout(this.#revoke, PATIENCE_MS);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#patience) clearTimeout(this.#patience);
    this.#listener[Symbol.dispose]();
    for (let consumer = this.#all.pop(); consumer; consumer = this.#all.pop()) consumer[Symbol.dispose]();
    for (let loan = this.#loans.pop(); loan; loan = this.#loans.pop()) loan.fence[Symbol.dispose]();
  }

  takeLoan(): Loan {
    return this.#loans.pop() ?? new Loan();
  }

  giveLoan(loan: Loan): void {
    loan.stream = null;
    loan.primary = null;
    loan.cursor = null;
    loan.isRevoked = false;
    loan.dueMs = Infinity;
    loan.fence.stop();
    if (this.#isDisposed) loan.fence[Symbol.dispose]();
    else this.#loans.add(loan);
  }

  /** Only it has to know that the consumer is gone. */
  remove(consumer: Consumer, reason: string): void {
    if (!this.#all.remove(consumer)) return;
    this.log('info', `export: consumer ${consumer.name} disconnected${reason === '' ? '' : `: ${reason}`}`);
    consumer[Symbol.dispose]();
    for (const stream of this.streams) stream.left(consumer);
  }

  /** Consumes `fd`. */
  #connect(fd: OwnedFd): void {
    let consumer: Consumer;
    try {
      const peer = peerCredentials(fd);
      const refusal =
        this.#all.count >= MAX_CONSUMERS
          ? EXPORT_ERROR.TOO_MANY_CONSUMERS
          : this.#mayConnect(peer)
            ? null
            : EXPORT_ERROR.FORBIDDEN;
      if (refusal !== null) {
        this.log('warn', `export: refused consumer ${nameOf(peer)}: ${REFUSALS[refusal]}`);
        using connection = UnixConnection.adopt(fd);
        connection.send(errorMessage(refusal, 0, null, 0));
        return;
      }
      consumer = Consumer.open(fd, peer, this);
    } catch (error) {
      fd[Symbol.dispose]();
      this.log('warn', `export: a consumer could not connect: ${String(error)}`);
      return;
    }
    this.#all.add(consumer);
    this.log('info', `export: consumer ${consumer.name} connected`);
    consumer.send(this.#hello);
    this.onJoined?.(consumer);
    for (const stream of this.streams) stream.joined(consumer);
  }

  /** Other users only where the owner has widened the socket's mode, which then decides. */
  #mayConnect({ uid }: Credentials): boolean {
    return this.#isOpen || uid === process.getuid!() || uid === 0;
  }

  readonly #revoke = (): void => {
    this.#patience = null;
    const now = monotonicMs();
    let next = Infinity;
    for (let i = 0; i < this.#all.count; i++) next = Math.min(next, this.#all.at(i).revoke(now));
    if (next < Infinity && !this.#isDisposed) this.#patience ??= setTimeout(this.#revoke, Math.max(next - now, 1));
  };

  #broadcastGone(id: Uint8Array): void {
    this.broadcast(message(EXPORT_EVENT.GONE, export_gone.encode({ id })));
  }
}

const REFUSALS = {
  [EXPORT_ERROR.TOO_MANY_CONSUMERS]: `${MAX_CONSUMERS} are connected already`,
  [EXPORT_ERROR.FORBIDDEN]: 'it is of another user (mode= and group= let others in)',
} as const;

/** One connected process. What it does wrong ends this connection and nothing else. */
export class Consumer implements Disposable {
  readonly name: string;
  readonly #peer: Credentials;
  readonly #owner: Consumers;
  readonly #connection: UnixConnection;
  readonly #poll: Poll;
  readonly #pump: Pump;
  readonly #reader = new MessageReader(SIZES);
  readonly #loans = new Bag<Loan>();
  readonly #fdsOfFrame: BorrowedFd[] = [];
  #frames = 0;
  #isFailed = false;
  #isDisposed = false;

  private constructor(connection: UnixConnection, peer: Credentials, owner: Consumers) {
    this.name = nameOf(peer);
    this.#peer = peer;
    this.#owner = owner;
    this.#connection = connection;
    this.#pump = new Pump(() => this.#receive());
    this.#poll = Poll.readable(connection, (ready) => {
      this.#reader.wake(ready);
      this.#pump.start();
    });
    connection.onDrained = () => this.#drained();
  }

  /** Consumes `fd`. SysError EMFILE. */
  static open(fd: OwnedFd, peer: Credentials, owner: Consumers): Consumer {
    const connection = UnixConnection.adopt(fd);
    try {
      return new Consumer(connection, peer, owner);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  get stats(): ConsumerStats {
    return { pid: this.#peer.pid, uid: this.#peer.uid, frames: this.#frames, held: this.#loans.count };
  }

  /** How many frames of `stream` it has not released, revoked ones included. */
  held(stream: Stream): number {
    let count = 0;
    for (let i = 0; i < this.#loans.count; i++) if (this.#loans.at(i).stream === stream) count++;
    return count;
  }

  /** Sends a frame, which its `export_frame` describes. `acquire` goes with it. */
  lend(
    stream: Stream,
    frame: Uint8Array,
    serial: number,
    primary: Loanable | null,
    cursor: Loanable | null,
    acquire: BorrowedFd | null,
  ): void {
    if (this.#isFailed) return;
    const loan = this.#owner.takeLoan();
    loan.stream = stream;
    loan.serial = serial;
    loan.primary = primary;
    loan.cursor = cursor;
    primary?.acquire();
    cursor?.acquire();
    this.#loans.add(loan);
    this.#frames++;
    const fds = this.#fdsOfFrame;
    if (acquire) fds.push(acquire);
    this.send(frame, fds);
    fds.length = 0;
  }

  /** Never throws: a consumer that cannot be sent to is disconnected soon. */
  send(event: Uint8Array, fds: readonly BorrowedFd[] = NO_FDS): void {
    if (this.#isFailed) return;
    try {
      this.#connection.send(event, fds);
      if (this.#connection.queuedBytes > MAX_QUEUED) throw new ExportError('stalled', 'it does not read');
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Frames of `stream` are to be returned by `dueMs`. False if it has none. */
  recall(stream: Stream, dueMs: number): boolean {
    let isLent = false;
    for (let i = 0; i < this.#loans.count; i++) {
      const loan = this.#loans.at(i);
      if (loan.stream !== stream || loan.isRevoked) continue;
      if (loan.dueMs === Infinity) loan.dueMs = dueMs;
      isLent = true;
    }
    return isLent;
  }

  /** Takes back what is due, and tells the consumer. When the next is, or Infinity. */
  revoke(now: number): number {
    let next = Infinity;
    for (let i = 0; i < this.#loans.count && !this.#isDisposed; i++) {
      const loan = this.#loans.at(i);
      if (loan.isRevoked) continue;
      if (loan.dueMs > now) {
        next = Math.min(next, loan.dueMs);
        continue;
      }
      this.send(message(EXPORT_EVENT.REVOKED, export_revoked.encode({ serial: loan.serial })));
      this.#return(loan, true);
    }
    return next;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#isFailed = true;
    this.#pump[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
    for (let loan = this.#loans.pop(); loan; loan = this.#loans.pop()) {
      this.#return(loan, false);
      this.#owner.giveLoan(loan);
    }
  }

  /** Its buffers are no longer read. */
  #return(loan: Loan, isLate: boolean): void {
    if (loan.isRevoked) return;
    loan.isRevoked = true;
    loan.primary?.release();
    loan.cursor?.release();
    loan.stream?.returned(loan, isLate);
  }

  /** Nothing is told at once: this may be called from inside `present`. */
  #fail(error: unknown): void {
    if (this.#isFailed) return;
    this.#isFailed = true;
    queueMicrotask(() => this.#close(error));
  }

  #close(error: unknown): void {
    this.#owner.remove(this, error === null ? '' : reasonOf(error));
  }

  #drained(): void {
    if (this.#isFailed) return;
    this.#poll.resume();
    // Some requests may have been read already.
    this.#pump.start();
  }

  /** Handles a few requests, or reads some. Whether there may be more. */
  #receive(): boolean {
    if (this.#isFailed) return false;
    try {
      for (let i = 0; i < REQUESTS_PER_PIECE; i++) {
        if (this.#isStopped()) return false;
        if (!this.#handleNext()) return this.#read();
      }
      return true;
    } catch (error) {
      if (error instanceof ExportError && error.code === 'protocol')
        this.send(errorMessage(EXPORT_ERROR.MALFORMED, 0, null, 0));
      this.#close(error);
      return false;
    }
  }

  /** It does not take its answers, so it gets no more until it does. */
  #isStopped(): boolean {
    if (this.#isFailed) return true;
    if (this.#connection.queuedBytes <= MAX_ANSWERS) return false;
    this.#poll.pause();
    return true;
  }

  #read(): boolean {
    if (this.#reader.isDrained) return false;
    const count = this.#reader.fill(this.#connection);
    if (count < 0) return false;
    if (count === 0) {
      this.#close(this.#reader.isInside ? new ExportError('protocol', 'it left in the middle of a message') : null);
      return false;
    }
    if (this.#connection.fds.length > MAX_FDS)
      throw new ExportError('protocol', `it sent ${this.#connection.fds.length} descriptors that no request carries`);
    return true;
  }

  /** False if no request is complete. */
  #handleNext(): boolean {
    const type = this.#reader.next();
    if (type === 0) return false;
    if (type === EXPORT_REQUEST.RELEASE) this.#release();
    else if (type === EXPORT_REQUEST.IMPORT) this.#import();
    else this.send(errorMessage(EXPORT_ERROR.UNKNOWN_REQUEST, type, null, 0));
    this.#reader.drop();
    return true;
  }

  #import(): void {
    const id = this.#id(export_import.offset.id);
    const exported = this.#owner.exports.get(id);
    if (!exported) {
      this.send(errorMessage(EXPORT_ERROR.NO_SUCH_BUFFER, EXPORT_REQUEST.IMPORT, id, 0));
      return;
    }
    let answer: Uint8Array;
    let fd: BorrowedFd;
    try {
      const { kind, byteLength, fd: shared } = exported.open();
      const length = Number.isFinite(byteLength) ? byteLength : 0;
      answer = message(EXPORT_EVENT.IMPORTED, export_imported.encode({ id, length, kind }));
      fd = shared;
    } catch (error) {
      this.#owner.log('warn', `export: a buffer cannot be handed to consumer ${this.name}: ${String(error)}`);
      this.send(errorMessage(EXPORT_ERROR.NO_RESOURCES, EXPORT_REQUEST.IMPORT, id, 0));
      return;
    }
    this.send(answer, [fd]);
  }

  #release(): void {
    const serial = export_release.field.serial.get(this.#reader.view, 0);
    const flags = export_release.field.flags.get(this.#reader.view, 0);
    const fence = (flags & EXPORT_RELEASE_FENCE) === 0 ? null : (this.#connection.fds.shift() ?? null);
    try {
      if (fence === null && (flags & EXPORT_RELEASE_FENCE) !== 0)
        throw new ExportError('protocol', 'a release without the fence that it should carry');
      const loan = this.#find(serial);
      if (!loan) {
        const id = this.#id(export_release.offset.id);
        this.send(errorMessage(EXPORT_ERROR.NO_SUCH_FRAME, EXPORT_REQUEST.RELEASE, id, serial));
      } else if (fence && !loan.isRevoked) {
        this.#releaseAt(loan, fence);
      } else {
        this.#end(loan);
      }
    } finally {
      fence?.[Symbol.dispose]();
    }
  }

  /** The loan of this serial and of the id in the request, unless it is released already. */
  #find(serial: number): Loan | null {
    for (let i = 0; i < this.#loans.count; i++) {
      const loan = this.#loans.at(i);
      if (loan.serial === serial && !loan.fence.isWaiting && this.#isNamed(loan.primary)) return loan;
    }
    return null;
  }

  #isNamed(buffer: Loanable | null): boolean {
    const { bytes } = this.#reader;
    const at = export_release.offset.id;
    for (let i = 0; i < EXPORT_ID_SIZE; i++) if (bytes[at + i] !== (buffer ? buffer.id[i] : 0)) return false;
    return true;
  }

  /** A copy of the id at byte `at` of the request. */
  #id(at: number): Uint8Array {
    return this.#reader.bytes.slice(at, at + EXPORT_ID_SIZE);
  }

  /** A consumer whose GPU still reads: the loan ends when the fence signals, or is revoked. */
  #releaseAt(loan: Loan, fence: BorrowedFd): void {
    // Polling a file of another kind could wait for the process that serves it.
    if (!isSyncFile(fence)) throw new ExportError('protocol', 'the fence of a release is no sync_file');
    loan.onSignalled = () => this.#end(loan);
    try {
      loan.fence.start(fence);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw new ExportError('resources', `its fence cannot be waited for: ${error.message}`, { cause: error });
    }
  }

  #end(loan: Loan): void {
    const { stream } = loan;
    this.#loans.remove(loan);
    this.#return(loan, false);
    this.#owner.giveLoan(loan);
    if (!this.#isDisposed) stream?.released(this);
  }
}

function nameOf({ pid, uid }: Credentials): string {
  return `${pid} of user ${uid}`;
}
