import { DISPLAY_ID, LIBWAYLAND_MESSAGE_SIZE } from '../../../protocols/wayland/wire.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { SysError } from '../../../src/sys/errors.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { callLast, Poll, type PollEvents } from '../../../src/sys/poll.ts';
import { Pump } from '../../../src/sys/pump.ts';
import { escaped, Malformed, type WaylandCloseReason, WaylandError, WaylandProtocolError } from './errors.ts';
import { WlDisplay } from './generated/wayland.ts';
import { Incoming } from './incoming.ts';
import { ObjectMap, type ObjectOwner, type WaylandObject } from './object.ts';
import { Outgoing } from './outgoing.ts';
import { isTraceWanted, Trace } from './trace.ts';

const READ: PollEvents = { readable: true };
const READ_AND_WRITE: PollEvents = { readable: true, writable: true };

/** Enough to read everything that a compositor left in the socket before it hung up. */
const MAX_LAST_READS = 64;
/** Events in one piece of work: more than a frame has. */
const EVENTS_AT_ONCE = 8;

/**
 * Joins the socket, the codec and the objects. Events are dispatched from the event loop, as many as fit into the
 * connection's share of a turn; the requests made in one callback of the event loop are sent together at its end.
 */
export class Connection implements ObjectOwner, Disposable {
  readonly objects: ObjectMap = new ObjectMap(this);
  readonly display: WlDisplay;
  readonly #out: Outgoing;
  readonly #in: Incoming;
  /** Null unless WAYLAND_DEBUG asked for it when the connection was made. */
  readonly #trace: Trace | null;
  readonly #socket: OwnedFd;
  readonly #poll: Poll;
  readonly #resources: DisposableStack;
  readonly #onClosed: (reason: WaylandCloseReason) => void;
  #isFlushDue = false;
  #isWaitingToWrite = false;
  readonly #events = new Pump(() => this.#work(), { isOnFlipPath: true });
  /** More has arrived than was read. */
  #isReadable = false;
  /** Why the connection ends once the last events are read. */
  #ending: WaylandCloseReason | null = null;
  #lastReads = 0;
  #closeReason: WaylandCloseReason | null = null;

  /** Consumes `socket`. `onClosed` is called once, after everything has been released. SysError. */
  constructor(socket: OwnedFd, onClosed: (reason: WaylandCloseReason) => void) {
    using resources = new DisposableStack();
    this.#socket = resources.use(socket);
    this.#trace = isTraceWanted(process.env.WAYLAND_DEBUG) ? new Trace(this.objects) : null;
    this.#out = resources.use(new Outgoing(this.#trace?.request ?? null));
    this.#in = resources.use(new Incoming());
    resources.use(this.#events);
    this.#poll = resources.use(Poll.watch(socket, READ, (ready) => this.#onReady(ready)));
    this.#resources = resources.move();
    this.#onClosed = onClosed;
    this.display = this.objects.create(WlDisplay, 1);
    this.display.listener = {
      error: (objectId, code, message) => this.#close(this.#refusal(objectId, code, message)),
      deleteId: (id) => this.objects.delete(id),
    };
  }

  get closeReason(): WaylandCloseReason | null {
    return this.#closeReason;
  }

  request(objectId: number, opcode: number, size: number): Outgoing {
    if (size > LIBWAYLAND_MESSAGE_SIZE) {
      throw new RangeError(
        `a request of ${size} bytes is too large: compositors read at most ${LIBWAYLAND_MESSAGE_SIZE}`,
      );
    }
    if (!this.#out.hasRoom(size)) this.#makeRoom(size);
    if (this.objects.isFull) this.#fail(new WaylandError('stalled', 'the compositor confirms no destroyed objects'));
    if (!this.#isFlushDue && !this.#isWaitingToWrite) {
      this.#isFlushDue = true;
      callLast(this.#flushDue);
    }
    return this.#out.begin(objectId, opcode, size);
  }

  /** Sends the waiting requests now instead of at the end of the callback. */
  flush(): void {
    if (this.#closeReason) return;
    try {
      this.#waitToWrite(!this.#out.send(this.#socket));
    } catch (error) {
      this.#fail(
        new WaylandError('gone', `the compositor no longer accepts requests: ${String(error)}`, { cause: error }),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#close(new WaylandError('closed', 'the display was disposed'));
  }

  readonly #flushDue = (): void => {
    this.#isFlushDue = false;
    this.flush();
  };

  #makeRoom(size: number): void {
    this.flush();
    if (!this.#out.makeRoom(size))
      this.#fail(new WaylandError('stalled', 'the compositor has stopped reading requests'));
  }

  #waitToWrite(isWaiting: boolean): void {
    if (isWaiting === this.#isWaitingToWrite) return;
    this.#isWaitingToWrite = isWaiting;
    this.#poll.update(isWaiting ? READ_AND_WRITE : READ);
  }

  /** The caller may be in the middle of a frame, so the connection ends later; requests until then are dropped. */
  #fail(reason: WaylandCloseReason): void {
    this.#out.drop();
    if (this.#ending) return;
    this.#ending = reason;
    setImmediate(() => this.#events.start());
  }

  #onReady(ready: PollEvents): void {
    if (ready.writable) this.flush();
    if (ready.readable) this.#isReadable = true;
    else if (!ready.writable)
      this.#ending ??= new WaylandError('gone', 'the compositor closed the connection and left requests unread');
    this.#events.start();
  }

  /** Dispatches some events, or reads and dispatches the first of them; false if there are no more. */
  #work(): boolean {
    if (this.#dispatchSome()) return true;
    if (this.#isReadable) {
      this.#isReadable = false;
      if (this.#receive() && this.#dispatchSome()) return true;
    }
    if (!this.#ending) return false;
    // A compositor sends the error before it hangs up, which says more than that it did.
    if (this.#lastReads++ < MAX_LAST_READS && this.#receive()) return true;
    this.#close(this.#ending);
    return false;
  }

  /** False if all events that have arrived completely are dispatched. */
  #dispatchSome(): boolean {
    for (let i = 0; i < EVENTS_AT_ONCE; i++) {
      if (!this.#dispatchNext()) return false;
      // The end of an object is confirmed behind its last event: its id is free before anything else runs.
      while (this.#in.nextObjectId === DISPLAY_ID && this.#dispatchNext());
    }
    return true;
  }

  /** Reads once; false if nothing has arrived. */
  #receive(): boolean {
    if (this.#closeReason) return false;
    try {
      const count = this.#in.receive(this.#socket);
      if (count === 0) this.#close(new WaylandError('gone', 'the compositor closed the connection'));
      if (count <= 0) return false;
    } catch (error) {
      const isReset = error instanceof SysError && error.code === 'ECONNRESET';
      const message = `reading from the compositor's socket failed: ${String(error)}`;
      this.#close(new WaylandError(isReset ? 'gone' : 'system', message, { cause: error }));
      return false;
    }
    return true;
  }

  #dispatchNext(): boolean {
    if (this.#closeReason) return false;
    const event = this.#in;
    try {
      if (!event.next()) return false;
      const object = this.objects.get(event.objectId);
      if (!object) throw new Malformed('there is no such object');
      this.#trace?.event(event);
      // Events to a destroyed object are still read, for the descriptors and objects they bring.
      if (object.isDestroyed) object.listener = null;
      object.dispatch(event.opcode, event);
    } catch (error) {
      if (error instanceof Malformed) this.#close(this.#malformed(error));
      else if (this.closeReason) throwLater(error);
      else this.#close(this.#listenerFailed(error));
    }
    return true;
  }

  #malformed(error: Malformed): WaylandProtocolError {
    const { objectId } = this.#in;
    const object = this.objects.get(objectId);
    const request = object?.lastRequest ?? null;
    const message = `the compositor sent a malformed event ${this.#event}: ${error.message}${lastRequest(request)}`;
    return new WaylandProtocolError('malformed', message, {
      interface: object?.interface.name ?? null,
      objectId,
      request,
    });
  }

  #listenerFailed(error: unknown): WaylandError {
    return new WaylandError('listener', `the listener of ${this.#event} threw: ${String(error)}`, { cause: error });
  }

  /** Name of the current event. */
  get #event(): string {
    const { objectId, opcode } = this.#in;
    const object = this.objects.get(objectId);
    return `${nameOf(object, objectId)}.${object?.interface.events[opcode]?.name ?? opcode}`;
  }

  #refusal(objectId: number, errorCode: number, text: string): WaylandProtocolError {
    const object = this.objects.get(objectId);
    const request = object?.lastRequest ?? null;
    const errors = Object.entries(object?.interface.errors ?? {});
    const errorName = errors.find(([, value]) => value === errorCode)?.[0] ?? null;
    const error = `${nameOf(object, objectId)}: error ${errorName ?? errorCode}: ${escaped(text)}`;
    const message = `the compositor ended the connection over ${error}${lastRequest(request)}`;
    return new WaylandProtocolError('refused', message, {
      interface: object?.interface.name ?? null,
      objectId,
      errorCode,
      errorName,
      request,
    });
  }

  #close(reason: WaylandCloseReason): void {
    if (this.#closeReason) return;
    this.#closeReason = reason;
    this.objects.retireAll();
    this.#resources[Symbol.dispose]();
    this.#onClosed(reason);
  }
}

function nameOf(object: WaylandObject | null, id: number): string {
  return object ? String(object) : `#${id}`;
}

function lastRequest(name: string | null): string {
  return name === null ? '' : ` (the last request to it was ${name})`;
}

/** Throws as an uncaught exception what cannot end the connection, because that has ended. */
export function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
