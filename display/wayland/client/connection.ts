import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { SysError } from '../../../src/sys/errors.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { Poll, type PollEvents } from '../../../src/sys/poll.ts';
import { Malformed, type WaylandCloseReason, WaylandError, WaylandProtocolError } from './errors.ts';
import { WlDisplay } from './generated/wayland.ts';
import { Incoming } from './incoming.ts';
import { ObjectMap } from './object.ts';
import { Outgoing, type OutgoingOwner } from './outgoing.ts';

const READ: PollEvents = { readable: true };
const READ_AND_WRITE: PollEvents = { readable: true, writable: true };

/** Enough to read what a dead compositor left in the socket. */
const MAX_LAST_READS = 64;

/**
 * The socket, the objects, and what goes between them. Events are dispatched from the event loop;
 * requests made in one turn of it go out together in that turn's `setImmediate`.
 */
export class Connection implements OutgoingOwner, Disposable {
  readonly objects = new ObjectMap(this);
  readonly out: Outgoing;
  readonly display: WlDisplay;
  readonly #incoming: Incoming;
  readonly #socket: OwnedFd;
  readonly #poll: Poll;
  readonly #resources: DisposableStack;
  readonly #onClosed: (reason: WaylandCloseReason) => void;
  #isFlushDue = false;
  #isWaitingToWrite = false;
  #closeReason: WaylandCloseReason | null = null;

  /** Consumes `socket`. `onClosed` is called once, after everything is released. SysError. */
  constructor(socket: OwnedFd, onClosed: (reason: WaylandCloseReason) => void) {
    using resources = new DisposableStack();
    this.#socket = resources.use(socket);
    this.out = resources.use(new Outgoing(this));
    this.#incoming = resources.use(new Incoming(this.objects));
    this.#poll = resources.use(Poll.watch(socket, READ, (ready) => this.#onReady(ready)));
    this.#resources = resources.move();
    this.#onClosed = onClosed;
    this.display = this.objects.create(WlDisplay, 1);
    this.display.listener = {
      error: (objectId, code, message) => this.#close(this.#refusal(objectId, code, message)),
      deleteId: (id) => this.objects.delete(id),
    };
  }

  /** Null while the connection works. */
  get closeReason(): WaylandCloseReason | null {
    return this.#closeReason;
  }

  pending(): void {
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    setImmediate(this.#flushDue);
  }

  /** Sends what waits now, not at the end of the turn. */
  flush(): void {
    if (this.#closeReason) return;
    try {
      this.#waitToWrite(!this.out.send(this.#socket));
    } catch (error) {
      this.#sendFailed(error);
    }
  }

  stalled(): void {
    this.#closeSoon(new WaylandError('stalled', 'the compositor has stopped reading'));
  }

  [Symbol.dispose](): void {
    this.#close(new WaylandError('closed', 'the display was disposed'));
  }

  readonly #flushDue = (): void => {
    this.#isFlushDue = false;
    this.flush();
  };

  #waitToWrite(isWaiting: boolean): void {
    if (isWaiting === this.#isWaitingToWrite) return;
    this.#isWaitingToWrite = isWaiting;
    this.#poll.update(isWaiting ? READ_AND_WRITE : READ);
  }

  /** The caller may be in the middle of a frame: he hears of it afterwards, and requests until then are lost. */
  #sendFailed(error: unknown): void {
    this.out.drop();
    this.#closeSoon(new WaylandError('gone', `the compositor takes no more requests: ${String(error)}`, { cause: error }));
  }

  #closeSoon(reason: WaylandCloseReason): void {
    setImmediate(() => this.#readLast(reason));
  }

  /** A compositor that hangs up says why before it does. */
  #readLast(reason: WaylandCloseReason): void {
    for (let reads = 0; reads < MAX_LAST_READS && this.#receive(); reads++);
    this.#close(reason);
  }

  #onReady(ready: PollEvents): void {
    if (ready.writable) this.flush();
    if (ready.readable) this.#receive();
    else if (!ready.writable) this.#readLast(new WaylandError('gone', 'the compositor closed the connection and left requests unread'));
  }

  /** Reads once and dispatches; false if there was nothing to read. */
  #receive(): boolean {
    if (this.#closeReason) return false;
    try {
      const count = this.#incoming.receive(this.#socket);
      if (count === 0) this.#close(new WaylandError('gone', 'the compositor closed the connection'));
      if (count <= 0) return false;
    } catch (error) {
      const isReset = error instanceof SysError && error.code === 'ECONNRESET';
      this.#close(new WaylandError(isReset ? 'gone' : 'system', `the compositor's socket failed: ${String(error)}`, { cause: error }));
      return false;
    }
    while (this.#dispatchNext());
    return true;
  }

  #dispatchNext(): boolean {
    if (this.#closeReason) return false;
    const event = this.#incoming;
    try {
      if (!event.next()) return false;
      const object = this.objects.get(event.objectId);
      if (!object) throw new Malformed('there is no such object');
      // Its events are still read, for the descriptors and objects they bring.
      if (object.isDestroyed) object.listener = null;
      object.dispatch(event.opcode, event);
    } catch (error) {
      if (error instanceof Malformed) this.#close(this.#malformed(error));
      else throwLater(error);
    }
    return true;
  }

  #malformed(error: Malformed): WaylandProtocolError {
    const { objectId, opcode } = this.#incoming;
    const object = this.objects.get(objectId);
    const event = object?.interface.events[opcode]?.name ?? `event ${opcode}`;
    const message = `the compositor sent ${String(object ?? `#${objectId}`)}.${event}: ${error.message}`;
    return new WaylandProtocolError('malformed', message, { interface: object?.interface.name ?? null, objectId });
  }

  #refusal(objectId: number, errorCode: number, text: string): WaylandProtocolError {
    const object = this.objects.get(objectId);
    const errors = Object.entries(object?.interface.errors ?? {});
    const errorName = errors.find(([, value]) => value === errorCode)?.[0] ?? null;
    const request = object?.lastRequest ?? null;
    const about = `${String(object ?? `#${objectId}`)}: error ${errorName ?? errorCode}: ${text}`;
    const message = `the compositor ended the connection over ${about}${request === null ? '' : ` (the last request to it was ${request})`}`;
    return new WaylandProtocolError('refused', message, { interface: object?.interface.name ?? null, objectId, errorCode, errorName, request });
  }

  #close(reason: WaylandCloseReason): void {
    if (this.#closeReason) return;
    this.#closeReason = reason;
    this.objects.retireAll();
    this.#resources[Symbol.dispose]();
    this.#onClosed(reason);
  }
}

/** A listener's own fault: not the connection's, nor any other listener's. */
export function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
