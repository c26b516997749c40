import type { Socket } from 'node:net';

interface Message {
  readonly id?: number;
  readonly event?: string;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: Error) => void;
}

/** A client of QEMU's machine protocol (QEMU's docs/interop/qmp-spec) on a connected socket, which it owns. */
export class Qmp {
  readonly #socket: Socket;
  readonly #replies = new Map<number, Waiting>();
  readonly #events = new Map<string, Waiting[]>();
  #lastId = 0;
  #partial = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (this.#partial + text).split('\n');
      this.#partial = lines.pop()!;
      for (const line of lines) this.#receive(JSON.parse(line) as Message);
    });
    socket.on('error', () => undefined); // 'close' follows and rejects all requests
    socket.on('close', () => {
      const gone = new Error('QEMU closed its QMP socket');
      for (const waiting of [...this.#replies.values(), ...[...this.#events.values()].flat()]) waiting.reject(gone);
      this.#replies.clear();
      this.#events.clear();
    });
  }

  static async open(socket: Socket): Promise<Qmp> {
    const qmp = new Qmp(socket);
    await qmp.command('qmp_capabilities');
    return qmp;
  }

  /** Sends a command; resolves with its result, or rejects with QEMU's message if it refuses. */
  command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#replies.set(id, { resolve, reject: (e) => reject(new Error(`QMP ${name}: ${e.message}`)) });
    });
    this.#socket.write(`${JSON.stringify({ execute: name, arguments: args, id })}\n`);
    return reply;
  }

  /** Resolves with the next event of that name. */
  event(name: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#events.set(name, [...(this.#events.get(name) ?? []), { resolve, reject }]);
    });
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
    if (message.error) reply?.reject(new Error(message.error.desc));
    else reply?.resolve(message.return);
  }
}
