/**
 * Drives the guest's end of a shared clipboard with agents that send anything: well-formed and malformed messages, in any
 * order and cut anywhere, that read or do not, and leave at any point. The desktop copies and pastes meanwhile. Everything
 * follows from one seed.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { VD_AGENT, VD_AGENT_CAP, VDAgentMessage, VDIChunkHeader } from '../../protocols/vd-agent.ts';
import {
  type Clipboard,
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
  shareClipboard,
} from '../../src/core/clipboard.ts';
import { VdagentClipboard } from '../../src/guest/vdagent/clipboard.ts';
import { SysError } from '../../src/sys/errors.ts';
import { Poll } from '../../src/sys/poll.ts';
import { socketPair, UnixConnection } from '../../src/sys/socket.ts';
import { eventually } from './eventually.ts';
import type { Random } from './random.ts';

export interface VdagentFuzzResult {
  messages: number;
  agents: number;
  /** Connections that the clipboard ended, because of what came. */
  ended: number;
  /** What the desktop got of the guest, and the guest of the desktop. */
  pasted: number;
  answered: number;
  /** What must not happen and did. */
  readonly faults: string[];
}

const CAPS = Object.values(VD_AGENT_CAP);
const TYPES = Object.values(VD_AGENT).filter((type) => type !== VD_AGENT.ANNOUNCE_CAPABILITIES);

/** Sends at least `messages` messages. */
export async function fuzzVdagent(random: Random, messages: number): Promise<VdagentFuzzResult> {
  const result: VdagentFuzzResult = { messages: 0, agents: 0, ended: 0, pasted: 0, answered: 0, faults: [] };
  while (result.messages < messages && result.faults.length === 0) await fuzzAgent(random, result);
  return result;
}

async function fuzzAgent(random: Random, result: VdagentFuzzResult): Promise<void> {
  const [near, far] = socketPair();
  result.agents++;
  const ends: string[] = [];
  const guest = VdagentClipboard.open({
    socket: far,
    log: (level, message) => {
      if (/disconnected: the agent/.test(message)) ends.push(message);
      if (level === 'error') result.faults.push(message);
    },
  });
  const desktop = new Desktop(random, result);
  const shared = shareClipboard(guest, desktop);
  const agent = new HostileAgent(UnixConnection.adopt(near), random, result);
  agent.announce();
  for (let i = random.below(400); i > 0 && !agent.isOver; i--) {
    agent.act();
    desktop.act();
    if (random.chance(0.3)) await turn();
  }
  agent[Symbol.dispose]();
  await eventually(() => {
    if (guest.stats.connected) throw new Error('the clipboard has not noticed that its agent is gone');
  });
  result.ended += ends.length;
  await desktop.settled();
  shared[Symbol.dispose]();
  guest[Symbol.dispose]();
}

/** The other end, which copies and pastes at random. */
class Desktop implements Clipboard {
  readonly #random: Random;
  readonly #result: VdagentFuzzResult;
  readonly #reads = new Set<Promise<void>>();
  #listener: (copied: Copied | null) => void = () => undefined;
  #offered: Copied | null = null;

  constructor(random: Random, result: VdagentFuzzResult) {
    this.#random = random;
    this.#result = result;
  }

  offer(copied: Copied | null): void {
    if (copied?.types.size === 0) this.#result.faults.push('the guest offers nothing');
    this.#offered = copied;
  }

  onCopied(listener: (copied: Copied | null) => void): () => void {
    this.#listener = listener;
    return () => undefined;
  }

  act(): void {
    const random = this.#random;
    if (random.chance(0.05)) this.#listener(random.chance(0.3) ? null : this.#copied());
    if (random.chance(0.3) && this.#offered) this.#read(this.#offered, random.pick(['text', 'png']));
  }

  /** Resolves when all reads have ended, which they do since the agent has gone. */
  async settled(): Promise<void> {
    await Promise.all(this.#reads);
    if (this.#offered) this.#result.faults.push('a guest that has gone offers something');
  }

  #copied(): Copied {
    const types: ClipboardType[] = this.#random.pick([['text'], ['png'], ['text', 'png']]);
    const data = this.#random.bytes(this.#random.below(this.#random.chance(0.1) ? 100_000 : 100));
    const fails = this.#random.chance(0.2);
    return {
      types: new Set(types),
      read: async () => {
        await turn();
        if (fails) throw new ClipboardError('timeout', 'the program does nothing');
        return data;
      },
    };
  }

  #read(copied: Copied, type: ClipboardType): void {
    const read = copied.read(type).then(
      (data) => {
        this.#result.pasted++;
        if (data.length > MAX_CLIPBOARD_BYTES) this.#result.faults.push(`the guest has sent ${data.length} bytes`);
      },
      (error: unknown) => {
        if (!(error instanceof ClipboardError)) this.#result.faults.push(`a read failed with ${inspect(error)}`);
      },
    );
    this.#reads.add(read);
    void read.then(() => this.#reads.delete(read));
  }
}

class HostileAgent implements Disposable {
  readonly #connection: UnixConnection;
  readonly #random: Random;
  readonly #result: VdagentFuzzResult;
  readonly #poll: Poll;
  readonly #bytes = new Uint8Array(65536);
  #isPaused = false;
  isOver = false;

  constructor(connection: UnixConnection, random: Random, result: VdagentFuzzResult) {
    this.#connection = connection;
    this.#random = random;
    this.#result = result;
    this.#poll = Poll.readable(connection, () => this.#read());
  }

  announce(): void {
    const caps = CAPS.reduce((bits, cap) => bits | (this.#random.chance(0.8) ? 1 << cap : 0), 0);
    this.#message(VD_AGENT.ANNOUNCE_CAPABILITIES, words(this.#random.below(2), caps));
  }

  act(): void {
    const random = this.#random;
    if (random.chance(0.02)) this.#togglePause();
    if (random.chance(0.01)) this.announce();
    else if (random.chance(0.004)) this.#send(random.bytes(1 + random.below(200)));
    else if (random.chance(0.01)) this.#message(random.below(2 ** 32), random.bytes(random.below(50)));
    else if (random.chance(0.004)) this.#declare(random.below(2 ** 32));
    else this.#messageOf(random.chance(0.3) ? VD_AGENT.CLIPBOARD : random.pick(TYPES));
  }

  [Symbol.dispose](): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  /** Mostly of the size that its type has. */
  #messageOf(type: number): void {
    const content = this.#content();
    const random = this.#random;
    const size = type === VD_AGENT.CLIPBOARD_REQUEST ? 8 : Math.max(8, content.length & ~3);
    if (random.chance(0.005)) this.#message(type, content);
    else if (type === VD_AGENT.CLIPBOARD)
      this.#message(type, Buffer.concat([words(0, random.pick([0, 1, 1, 2, 2])), content]));
    else this.#message(type, Buffer.concat([content, words(1, 1)]).subarray(0, Math.min(size, 1000)));
  }

  /** What messages about the clipboard have: a selection, types, data. */
  #content(): Uint8Array {
    const random = this.#random;
    const selection = random.chance(0.9) ? [0] : [random.below(3)];
    const types = Array.from({ length: random.below(4) }, () => random.below(4));
    const data = random.chance(0.5)
      ? random.bytes(4 * random.below(random.chance(0.05) ? 20_000 : 20))
      : new Uint8Array(0);
    const content = Buffer.concat([words(...selection, ...types), data]);
    return random.chance(0.99) ? content : content.subarray(0, random.below(content.length));
  }

  #message(type: number, data: Uint8Array): void {
    const random = this.#random;
    const head = VDAgentMessage.encode({ protocol: random.chance(0.999) ? 1 : 2, type, size: data.length });
    let rest = Buffer.concat([head, data]);
    while (rest.length > 0) {
      const piece = rest.subarray(0, random.chance(0.7) ? rest.length : 1 + random.below(rest.length));
      rest = rest.subarray(piece.length);
      this.#send(
        Buffer.concat([
          VDIChunkHeader.encode({ port: random.chance(0.99) ? 1 : random.below(4), size: piece.length }),
          piece,
        ]),
      );
    }
    this.#result.messages++;
  }

  /** Data of a size that does not come. */
  #declare(size: number): void {
    const head = VDAgentMessage.encode({ protocol: 1, type: VD_AGENT.CLIPBOARD, size });
    this.#send(Buffer.concat([VDIChunkHeader.encode({ port: 1, size: head.length + 4 }), head, words(0)]));
    this.#result.messages++;
  }

  #togglePause(): void {
    this.#isPaused = !this.#isPaused;
    if (this.#isPaused) this.#poll.pause();
    else this.#poll.resume();
  }

  #send(bytes: Uint8Array): void {
    if (this.isOver || bytes.length === 0) return;
    try {
      this.#connection.send(bytes);
      // It waits for a clipboard that does not read, which waits for it to read.
      if (this.#connection.queuedBytes > 2 ** 20) this[Symbol.dispose]();
    } catch (error) {
      this.#gone(error);
    }
  }

  #read(): void {
    try {
      const count = this.#connection.recv(this.#bytes, 0, this.#bytes.length);
      if (count > 0) this.#result.answered++;
      if (count === 0) this[Symbol.dispose]();
    } catch (error) {
      this.#gone(error);
    }
  }

  #gone(error: unknown): void {
    if (!(error instanceof SysError && ['EPIPE', 'ECONNRESET'].includes(error.code)))
      this.#result.faults.push(`an agent failed with ${inspect(error)}`);
    this[Symbol.dispose]();
  }
}

function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
