import { VD_AGENT, VD_AGENT_CAP } from '../../../../protocols/vd-agent.ts';
import { MessageReader, OutgoingMessage } from '../../../../src/guest/vdagent/messages.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Poll } from '../../../../src/sys/poll.ts';
import { socketPair, UnixConnection } from '../../../../src/sys/socket.ts';

/** What spice-vdagentd announces, as far as it is about the clipboard. */
export const LINUX_CAPS =
  (1 << VD_AGENT_CAP.CLIPBOARD_BY_DEMAND) | (1 << VD_AGENT_CAP.CLIPBOARD_SELECTION) | (1 << VD_AGENT_CAP.MAX_CLIPBOARD);

const NAMES = new Map<number, string>(Object.entries(VD_AGENT).map(([name, type]) => [type, name]));

/** An agent for tests to script, on a socket as QEMU has. */
export class FakeAgent implements Disposable {
  /** Of each message that came: its name and words, as in `CLIPBOARD_GRAB 0 1`; of data only the length of what follows two words. */
  readonly heard: string[] = [];
  /** What followed those words, of each message with data. */
  readonly data: Buffer[] = [];
  #connection: UnixConnection;
  readonly #bytes = new Uint8Array(65536);
  readonly #reader: MessageReader;
  #poll: Poll;
  isClosed = false;

  constructor(socket: OwnedFd) {
    this.#reader = new MessageReader({
      begins: () => true,
      grows: () => undefined,
      message: (type, data) => this.#add(type, data),
    });
    this.#connection = UnixConnection.adopt(socket);
    this.#poll = Poll.readable(this.#connection, () => this.#read());
  }

  /** An agent, and the end of the socket for the other side. */
  static pair(): { readonly agent: FakeAgent; readonly socket: OwnedFd } {
    const [near, far] = socketPair();
    return { agent: new FakeAgent(near), socket: far };
  }

  /** Sends a message in chunks that are as long as this program makes them. */
  send(type: number, fields: readonly number[], data?: Uint8Array): void {
    const message = new OutgoingMessage(type, fields, data);
    while (!message.isTaken) this.raw(message.take());
  }

  raw(bytes: Uint8Array): void {
    this.#connection.send(bytes);
  }

  announce(isRequest = true, caps = LINUX_CAPS): void {
    this.send(VD_AGENT.ANNOUNCE_CAPABILITIES, [isRequest ? 1 : 0, caps]);
  }

  pause(): void {
    this.#poll.pause();
  }

  resume(): void {
    this.#poll.resume();
  }

  [Symbol.dispose](): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#poll[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }

  #read(): void {
    let count = 0;
    try {
      count = this.#connection.recv(this.#bytes, 0, this.#bytes.length);
    } catch {
      // It has hung up and left something unread.
    }
    if (count < 0) return;
    if (count === 0) this[Symbol.dispose]();
    else this.#reader.take(this.#bytes.subarray(0, count));
  }

  #add(type: number, data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const isData = type === VD_AGENT.CLIPBOARD;
    const count = isData ? Math.min(2, data.length >> 2) : data.length >> 2;
    const words = Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
    if (isData) this.data.push(Buffer.from(data.subarray(4 * count)));
    this.heard.push(
      [NAMES.get(type) ?? `message ${type}`, ...words, ...(isData ? [`+${data.length - 4 * count}`] : [])].join(' '),
    );
  }
}
