import {
  VD_AGENT,
  VD_AGENT_CAP,
  VD_AGENT_CLIPBOARD,
  VD_AGENT_CLIPBOARD_SELECTION_CLIPBOARD,
  VD_AGENT_SELECTION_SIZE,
} from '../../../protocols/vd-agent.ts';
import { ClipboardError, type ClipboardType, type Copied, MAX_CLIPBOARD_BYTES } from '../../core/clipboard.ts';
import type { Log } from '../../core/log.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import { Pump } from '../../sys/pump.ts';
import { UnixConnection } from '../../sys/socket.ts';
import { withResolvers } from '../../sys/with-resolvers.ts';
import { VdagentError } from './errors.ts';
import { MessageReader, type MessageSink, OutgoingMessage } from './messages.ts';

/** Bytes that are read in one piece, and the messages in them handled. */
const READ = 16 * 1024;
/** Requests of the guest that wait for the one before. */
const MAX_REQUESTS = 32;
/** Of messages that have no data of a program: more capabilities, or types, than there are. */
const MAX_CONTROL_SIZE = 1024;
/** How long the guest may send nothing of what it was asked for, ms. */
const READ_TIMEOUT_MS = 10_000;

const OUR_CAPS =
  (1 << VD_AGENT_CAP.CLIPBOARD_BY_DEMAND) |
  (1 << VD_AGENT_CAP.CLIPBOARD_SELECTION) |
  (1 << VD_AGENT_CAP.CLIPBOARD_NO_RELEASE_ON_REGRAB);

const NUMBERS: Readonly<Record<ClipboardType, number>> = {
  text: VD_AGENT_CLIPBOARD.UTF8_TEXT,
  png: VD_AGENT_CLIPBOARD.IMAGE_PNG,
};
const TYPES = new Map(Object.entries(NUMBERS).map(([type, number]) => [number, type as ClipboardType]));

/** A read of what the guest has copied, which every reader of this type shares. */
interface Read {
  readonly type: ClipboardType;
  readonly promise: Promise<Uint8Array>;
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: ClipboardError) => void;
}

export interface AgentOptions {
  readonly log: Log;
  readonly onCopied: (copied: Copied | null) => void;
  /** The connection is over, for this reason; null if the VMM has closed it. */
  readonly onClosed: (error: Error | null) => void;
}

/** The agent of one guest, which has its clipboard. What it does wrong ends its connection and nothing else. */
export class Agent implements Disposable, MessageSink {
  readonly #connection: UnixConnection;
  readonly #options: AgentOptions;
  readonly #reader = new MessageReader(this);
  readonly #bytes = new Uint8Array(READ);
  readonly #receiving = new Pump(() => this.#receive());
  readonly #sending = new Pump(() => this.#send());
  readonly #poll: Poll;
  readonly #outgoing: OutgoingMessage[] = [];
  /** What the agent can do; null until it has said so. */
  #caps: number | null = null;
  /** What the host has copied, and whether the agent has to be told. */
  #offered: Copied | null = null;
  #isOfferDue = false;
  /** The guest takes its clipboard from the host. */
  #isGrabbed = false;
  /** Types of `#offered` that the guest has asked for, in order; the first is being read or sent. */
  readonly #requests: number[] = [];
  /** What the guest has copied. */
  #copied: Copied | null = null;
  /** Reads of `#copied` that have not been answered. */
  readonly #reads = new Map<ClipboardType, Read>();
  /** The one that the guest was asked for. It is waited for even if it is not wanted any more: answers have no number. */
  #asked: Read | null = null;
  #patience: NodeJS.Timeout | null = null;
  #isPaused = false;
  #isOver = false;

  private constructor(connection: UnixConnection, options: AgentOptions) {
    this.#connection = connection;
    this.#options = options;
    connection.onDrained = () => this.#sending.start();
    this.#poll = Poll.readable(connection, () => this.#receiving.start());
  }

  /** Takes a connected socket. Consumes `fd`. SysError EMFILE, EPIPE. */
  static open(fd: OwnedFd, options: AgentOptions): Agent {
    const connection = UnixConnection.adopt(fd);
    let agent: Agent | null = null;
    try {
      agent = new Agent(connection, options);
      agent.#announce(true);
      return agent;
    } catch (error) {
      agent?.[Symbol.dispose]();
      connection[Symbol.dispose]();
      throw error;
    }
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The agent runs and has told what it can do. */
  get isThere(): boolean {
    return this.#caps !== null;
  }

  /** What the host has copied; null if that is nothing any more. */
  offer(copied: Copied | null): void {
    this.#offered = copied;
    this.#isOfferDue = true;
    this.#sending.start();
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#setCopied(null);
    this.#finish(null);
    this.#receiving[Symbol.dispose]();
    this.#sending[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  begins(type: number, size: number): boolean {
    if (type === VD_AGENT.CLIPBOARD) return this.#wantsData(size);
    const isKnown =
      type === VD_AGENT.ANNOUNCE_CAPABILITIES ||
      type === VD_AGENT.CLIPBOARD_GRAB ||
      type === VD_AGENT.CLIPBOARD_REQUEST ||
      type === VD_AGENT.CLIPBOARD_RELEASE;
    if (isKnown && size > MAX_CONTROL_SIZE)
      throw new VdagentError(`the agent sent a message of type ${type} with ${size} bytes`);
    return isKnown;
  }

  grows(type: number): void {
    if (type === VD_AGENT.CLIPBOARD) this.#patience?.refresh();
  }

  message(type: number, data: Uint8Array): void {
    // What an answer to an earlier message has found may have ended it.
    if (this.#isOver) return;
    if (type === VD_AGENT.ANNOUNCE_CAPABILITIES) {
      this.#announced(data);
      return;
    }
    // One that was there before this connection does not know yet how we talk.
    if (this.#caps === null) return;
    const content = this.#ofClipboard(type, data);
    if (!content) return;
    if (type === VD_AGENT.CLIPBOARD_GRAB) this.#grabbed(content);
    else if (type === VD_AGENT.CLIPBOARD_RELEASE) this.#setCopied(null);
    else if (type === VD_AGENT.CLIPBOARD_REQUEST) this.#requested(content);
    else this.#answered(content);
  }

  #has(capability: number): boolean {
    return ((this.#caps ?? 0) & (1 << capability)) !== 0;
  }

  /** Reads and handles some messages. Whether there may be more. */
  #receive(): boolean {
    if (this.#isOver) return false;
    if (this.#outgoing.length > 0) {
      // An agent that does not read is not read from.
      this.#poll.pause();
      this.#isPaused = true;
      return false;
    }
    try {
      const count = this.#connection.recv(this.#bytes, 0, READ);
      // None belongs here.
      for (const fd of this.#connection.fds.splice(0)) fd[Symbol.dispose]();
      if (count < 0) return false;
      if (count > 0) {
        this.#reader.take(this.#bytes.subarray(0, count));
        return true;
      }
      this.#end(null);
    } catch (error) {
      this.#end(error as Error);
    }
    return false;
  }

  /** Sends some bytes of what waits. Whether there may be more. */
  #send(): boolean {
    if (this.#isOver || this.#connection.queuedBytes > 0) return false;
    try {
      if (this.#outgoing.length === 0) this.#sendOffer();
      const [message] = this.#outgoing;
      if (!message) {
        if (this.#isPaused) this.#poll.resume();
        this.#isPaused = false;
        return false;
      }
      this.#connection.send(message.take());
      if (message.isTaken) this.#outgoing.shift();
      return true;
    } catch (error) {
      this.#end(error as Error);
      return false;
    }
  }

  #queue(message: OutgoingMessage): void {
    this.#outgoing.push(message);
    this.#sending.start();
  }

  #announce(isRequest: boolean): void {
    this.#queue(new OutgoingMessage(VD_AGENT.ANNOUNCE_CAPABILITIES, [isRequest ? 1 : 0, OUR_CAPS]));
  }

  /** A message about the clipboard, with the selection if the agent knows several. */
  #clipboardMessage(type: number, fields: readonly number[], data?: Uint8Array): OutgoingMessage {
    const selection = this.#has(VD_AGENT_CAP.CLIPBOARD_SELECTION) ? [VD_AGENT_CLIPBOARD_SELECTION_CLIPBOARD] : [];
    return new OutgoingMessage(type, [...selection, ...fields], data);
  }

  #announced(data: Uint8Array): void {
    const [request, caps] = words(data);
    if (request === undefined || caps === undefined)
      throw new VdagentError(`the agent announced its capabilities in ${data.length} bytes`);
    // Whatever was going on is void: the agent has started, or forgets it.
    this.#setCopied(null);
    this.#finish(null);
    this.#requests.length = 0;
    this.#isGrabbed = false;
    this.#isOfferDue = false;
    this.#caps = caps;
    if (request !== 0) this.#announce(false);
    if (!this.#has(VD_AGENT_CAP.CLIPBOARD_BY_DEMAND)) {
      this.#options.log('warn', "clipboard: the guest's agent cannot share the clipboard");
      return;
    }
    this.#options.log('info', "clipboard: the guest's agent is there");
    if (this.#has(VD_AGENT_CAP.MAX_CLIPBOARD))
      this.#queue(new OutgoingMessage(VD_AGENT.MAX_CLIPBOARD, [MAX_CLIPBOARD_BYTES]));
    this.offer(this.#offered);
  }

  #sendOffer(): void {
    if (!this.#isOfferDue || !this.#has(VD_AGENT_CAP.CLIPBOARD_BY_DEMAND)) return;
    this.#isOfferDue = false;
    const copied = this.#offered;
    if (copied) {
      // It replaces what the guest has copied, of which the agent says nothing.
      this.#setCopied(null);
      const types = [...copied.types].map((type) => NUMBERS[type]);
      this.#outgoing.push(this.#clipboardMessage(VD_AGENT.CLIPBOARD_GRAB, types));
    } else if (this.#isGrabbed) {
      this.#outgoing.push(this.#clipboardMessage(VD_AGENT.CLIPBOARD_RELEASE, []));
    }
    this.#isGrabbed = copied !== null;
  }

  /** What follows the selection; null if this is about another one. */
  #ofClipboard(type: number, data: Uint8Array): Uint8Array | null {
    if (!this.#has(VD_AGENT_CAP.CLIPBOARD_SELECTION)) return data;
    const [selection] = data;
    const isShort = data.length < VD_AGENT_SELECTION_SIZE && type !== VD_AGENT.CLIPBOARD_RELEASE;
    if (selection === undefined || isShort)
      throw new VdagentError(`the agent sent a message about the clipboard with ${data.length} bytes`);
    if (selection === VD_AGENT_CLIPBOARD_SELECTION_CLIPBOARD) return data.subarray(VD_AGENT_SELECTION_SIZE);
    // Nothing is offered there.
    if (type === VD_AGENT.CLIPBOARD_REQUEST)
      this.#queue(new OutgoingMessage(VD_AGENT.CLIPBOARD, [selection, VD_AGENT_CLIPBOARD.NONE]));
    return null;
  }

  #grabbed(content: Uint8Array): void {
    const types = words(content).flatMap((number) => TYPES.get(number) ?? []);
    this.#isGrabbed = false;
    // It has replaced what the host has copied.
    this.#offered = null;
    this.#isOfferDue = false;
    if (types.length === 0) {
      this.#setCopied(null);
      return;
    }
    const copied: Copied = { types: new Set(types), read: (type) => this.#read(copied, type) };
    this.#setCopied(copied);
  }

  #setCopied(copied: Copied | null): void {
    if (!copied && !this.#copied) return;
    this.#copied = copied;
    for (const { reject } of this.#reads.values())
      reject(new ClipboardError('gone', 'the guest has copied something else meanwhile'));
    this.#reads.clear();
    this.#options.onCopied(copied);
  }

  #read(copied: Copied, type: ClipboardType): Promise<Uint8Array> {
    if (copied !== this.#copied)
      return Promise.reject(new ClipboardError('gone', 'the guest has copied something else since, or is gone'));
    if (!copied.types.has(type))
      return Promise.reject(new ClipboardError('refused', `the guest has copied no ${type}`));
    const known = this.#reads.get(type);
    if (known) return known.promise;
    const { promise, resolve, reject } = withResolvers<Uint8Array>();
    const read = { type, promise, resolve, reject };
    this.#reads.set(type, read);
    this.#askNext();
    return promise;
  }

  #askNext(): void {
    const [next] = this.#reads.values();
    if (this.#asked || !next) return;
    this.#asked = next;
    this.#patience = setTimeout(
      () => this.#finish(new ClipboardError('timeout', `the guest sent nothing for ${READ_TIMEOUT_MS / 1000} s`)),
      READ_TIMEOUT_MS,
    );
    this.#queue(this.#clipboardMessage(VD_AGENT.CLIPBOARD_REQUEST, [NUMBERS[next.type]]));
  }

  /** The guest has answered what it was asked for, or never will; null: its reader has been told. */
  #finish(result: Uint8Array | ClipboardError | null): void {
    const read = this.#asked;
    if (this.#patience) clearTimeout(this.#patience);
    this.#patience = null;
    this.#asked = null;
    if (!read || result === null) return;
    if (this.#reads.get(read.type) === read) this.#reads.delete(read.type);
    if (result instanceof ClipboardError) read.reject(result);
    else read.resolve(result);
    this.#askNext();
  }

  /** Whether the data that begin are kept: their reader still waits, and they are not too large. */
  #wantsData(size: number): boolean {
    const read = this.#asked;
    if (!read) return false;
    if (size > MAX_CLIPBOARD_BYTES + VD_AGENT_SELECTION_SIZE + 4) {
      this.#finish(
        new ClipboardError('large', `the guest has copied ${size} bytes: at most ${MAX_CLIPBOARD_BYTES} are passed on`),
      );
      return false;
    }
    return true;
  }

  #answered(content: Uint8Array): void {
    if (content.length < 4) throw new VdagentError(`the agent sent data without a type, in ${content.length} bytes`);
    const [number] = words(content.subarray(0, 4));
    const read = this.#asked;
    if (!read) return;
    if (number === VD_AGENT_CLIPBOARD.NONE)
      this.#finish(new ClipboardError('refused', 'the guest has nothing to paste'));
    else if (number === NUMBERS[read.type]) this.#finish(this.#fromGuest(read.type, content.subarray(4)));
  }

  #requested(content: Uint8Array): void {
    const [number] = words(content);
    if (content.length !== 4 || number === undefined)
      throw new VdagentError(`the agent asked for data in ${content.length} bytes`);
    if (this.#requests.length >= MAX_REQUESTS)
      throw new VdagentError(`the agent asked for more than ${MAX_REQUESTS} things at a time`);
    this.#requests.push(number);
    if (this.#requests.length === 1) void this.#answerRequests();
  }

  async #answerRequests(): Promise<void> {
    const caps = this.#caps;
    for (let number = this.#requests[0]; number !== undefined; number = this.#requests[0]) {
      const type = TYPES.get(number);
      const data = type === undefined ? null : await this.#readHost(type);
      // An agent that has started again does not expect the answer.
      if (this.#isOver || this.#requests[0] !== number || this.#caps !== caps) return;
      this.#queue(
        data
          ? this.#clipboardMessage(VD_AGENT.CLIPBOARD, [number], data)
          : this.#clipboardMessage(VD_AGENT.CLIPBOARD, [VD_AGENT_CLIPBOARD.NONE]),
      );
      this.#requests.shift();
    }
  }

  /** Null if it cannot be read. */
  async #readHost(type: ClipboardType): Promise<Uint8Array | null> {
    const copied = this.#offered;
    if (!copied?.types.has(type)) return null;
    try {
      return this.#toGuest(type, await copied.read(type));
    } catch (error) {
      if (!(error instanceof ClipboardError)) throw error;
      this.#options.log('warn', `clipboard: the guest cannot paste: ${error.message}`);
      return null;
    }
  }

  #toGuest(type: ClipboardType, data: Uint8Array): Uint8Array {
    if (type !== 'text' || !this.#has(VD_AGENT_CAP.GUEST_LINEEND_CRLF)) return data;
    return Buffer.from(asLatin1(data).replaceAll('\n', '\r\n'), 'latin1');
  }

  #fromGuest(type: ClipboardType, data: Uint8Array): Uint8Array {
    if (type !== 'text' || !this.#has(VD_AGENT_CAP.GUEST_LINEEND_CRLF)) return data;
    return Buffer.from(asLatin1(data).replaceAll('\r\n', '\n'), 'latin1');
  }

  #end(error: Error | null): void {
    if (this.#isOver) return;
    this[Symbol.dispose]();
    this.#options.onClosed(error);
  }
}

/** Each byte as a character, which leaves UTF-8 as it is, well formed or not. */
function asLatin1(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('latin1');
}

/** Throws VdagentError. */
function words(data: Uint8Array): number[] {
  if (data.length % 4 !== 0) throw new VdagentError(`the agent sent ${data.length} bytes where whole words belong`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.length / 4 }, (_, index) => view.getUint32(4 * index, true));
}
