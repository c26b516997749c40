import {
  VD_AGENT_MAX_DATA_SIZE,
  VD_AGENT_PROTOCOL,
  VDAgentMessage,
  VDIChunkHeader,
  VDP_CLIENT_PORT,
  VDP_SERVER_PORT,
} from '../../../protocols/vd-agent.ts';
import { VdagentError } from './errors.ts';

const NOTHING = new Uint8Array(0);

/** Takes the messages of an agent. */
export interface MessageSink {
  /** A message begins. False if its data are not wanted: then nothing of it is kept. */
  begins(type: number, size: number): boolean;
  /** Some data of a message that is wanted have come. */
  grows(type: number): void;
  /** `data` are the sink's from now on. */
  message(type: number, data: Uint8Array): void;
}

/** A message of one port, of which a part has come. */
interface Part {
  readonly header: Uint8Array;
  /** Bytes of the header that have come. */
  headed: number;
  type: number;
  size: number;
  /** Null if the message is not wanted. */
  data: Uint8Array | null;
  /** Bytes of the data that have come. */
  filled: number;
}

/** Puts the messages of an agent together from a stream of chunks, without keeping what is not wanted. */
export class MessageReader {
  readonly #sink: MessageSink;
  readonly #chunk = new Uint8Array(VDIChunkHeader.size);
  /** Bytes of the chunk's header that have come. */
  #headed = 0;
  /** Bytes of the chunk that have not. */
  #left = 0;
  readonly #parts = new Map([VDP_CLIENT_PORT, VDP_SERVER_PORT].map((port) => [port, newPart()]));
  #part: Part | null = null;
  /** The chunk is for the client: messages to the server are passed over. */
  #isForClient = false;

  constructor(sink: MessageSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes of the stream. Throws VdagentError, after which the reader is useless. */
  take(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#left === 0) {
        const { count, isWhole } = fill(this.#chunk, this.#headed, bytes, at);
        this.#headed = isWhole ? 0 : this.#headed + count;
        at += count;
        if (isWhole) this.#beginChunk();
        continue;
      }
      const end = Math.min(bytes.length, at + this.#left);
      this.#left -= end - at;
      this.#takeChunk(this.#part!, bytes.subarray(at, end));
      at = end;
    }
  }

  #beginChunk(): void {
    const { port, size } = VDIChunkHeader.decode(this.#chunk);
    this.#part = this.#parts.get(port) ?? null;
    if (!this.#part) throw new VdagentError(`the agent sent a chunk for port ${port}, which does not exist`);
    this.#isForClient = port === VDP_CLIENT_PORT;
    this.#left = size;
  }

  #takeChunk(part: Part, bytes: Uint8Array): void {
    let at = 0;
    if (part.headed < part.header.length) {
      const { count, isWhole } = fill(part.header, part.headed, bytes, 0);
      part.headed += count;
      at = count;
      if (!isWhole) return;
      this.#beginMessage(part);
    }
    const rest = bytes.length - at;
    if (rest > part.size - part.filled)
      throw new VdagentError(
        `the agent sent a chunk that is longer than what is left of its message, ${part.size} bytes`,
      );
    part.data?.set(at === 0 ? bytes : bytes.subarray(at), part.filled);
    part.filled += rest;
    if (part.data && rest > 0) this.#sink.grows(part.type);
    if (part.filled < part.size) return;
    const { type, data } = part;
    part.headed = 0;
    part.data = null;
    if (data) this.#sink.message(type, data);
    // What follows in the chunk belongs to no message.
    if (this.#left > 0) throw new VdagentError('the agent sent a chunk that is longer than its message');
  }

  #beginMessage(part: Part): void {
    const { protocol, type, size } = VDAgentMessage.decode(part.header);
    if (protocol !== VD_AGENT_PROTOCOL) throw new VdagentError(`the agent sent a message of protocol ${protocol}`);
    part.type = type;
    part.size = size;
    part.filled = 0;
    const isWanted = this.#isForClient && this.#sink.begins(type, size);
    part.data = !isWanted ? null : size === 0 ? NOTHING : new Uint8Array(size);
  }
}

function newPart(): Part {
  return { header: new Uint8Array(VDAgentMessage.size), headed: 0, type: 0, size: 0, data: null, filled: 0 };
}

/** Copies as much of `from`, starting at `at`, as `into` has room for behind `filled`. */
function fill(into: Uint8Array, filled: number, from: Uint8Array, at: number): { count: number; isWhole: boolean } {
  const count = Math.min(into.length - filled, from.length - at);
  into.set(from.subarray(at, at + count), filled);
  return { count, isWhole: filled + count === into.length };
}

/** Bytes of a message that are made into chunks at a time. */
const PIECE = 16 * VD_AGENT_MAX_DATA_SIZE;

/** A message on its way to an agent, in chunks. */
export class OutgoingMessage {
  readonly #head: Uint8Array;
  readonly #data: Uint8Array;
  #sent = 0;

  /** `fields` come before `data`, which must not change until all is taken. */
  constructor(type: number, fields: readonly number[], data: Uint8Array = NOTHING) {
    const head = new Uint8Array(VDAgentMessage.size + 4 * fields.length);
    const view = new DataView(head.buffer);
    VDAgentMessage.set(view, 0, {
      protocol: VD_AGENT_PROTOCOL,
      type,
      opaque: 0n,
      size: 4 * fields.length + data.length,
    });
    fields.forEach((field, index) => view.setUint32(VDAgentMessage.size + 4 * index, field, true));
    this.#head = head;
    this.#data = data;
  }

  get isTaken(): boolean {
    return this.#sent === this.#head.length + this.#data.length;
  }

  /** The next chunks, some ten thousand bytes. */
  take(): Uint8Array {
    const total = Math.min(PIECE, this.#head.length + this.#data.length - this.#sent);
    const chunks = Math.ceil(total / VD_AGENT_MAX_DATA_SIZE);
    const bytes = new Uint8Array(total + chunks * VDIChunkHeader.size);
    const view = new DataView(bytes.buffer);
    let at = 0;
    for (let left = total; left > 0;) {
      const size = Math.min(VD_AGENT_MAX_DATA_SIZE, left);
      VDIChunkHeader.set(view, at, { port: VDP_CLIENT_PORT, size });
      this.#copy(bytes.subarray(at + VDIChunkHeader.size, at + VDIChunkHeader.size + size));
      at += VDIChunkHeader.size + size;
      left -= size;
    }
    return bytes;
  }

  #copy(into: Uint8Array): void {
    const ofHead = this.#head.subarray(this.#sent, this.#sent + into.length);
    const from = Math.max(0, this.#sent - this.#head.length);
    into.set(ofHead);
    into.set(this.#data.subarray(from, from + into.length - ofHead.length), ofHead.length);
    this.#sent += into.length;
  }
}
