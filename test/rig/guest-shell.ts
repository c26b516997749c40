import type { Socket } from 'node:net';

/** Terminates the answer to a command, after its exit status. No test command may print it. */
const END = '\x1e';

interface Answer {
  readonly output: string;
  readonly status: number;
}

/**
 * The guest's shell behind a virtio-serial port: one `/bin/sh` for the guest's whole life, so that
 * variables, open files and background jobs persist between commands. Owns the socket.
 */
export class GuestShell {
  readonly #socket: Socket;
  #received = '';
  #waiting: { resolve: (answer: Answer) => void; reject: (reason: Error) => void } | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      this.#waiting?.reject(new Error('the guest is gone'));
      this.#waiting = undefined;
    });
  }

  /**
   * Runs one command (any number of shell lines) without stdin. Resolves with its stdout and stderr;
   * rejects if its exit status is not 0 or the guest ends. A command sent before the guest is up
   * waits in the port. Only one command may run at a time.
   */
  async run(command: string): Promise<string> {
    if (this.#waiting) throw new Error('the guest shell is still running a command');
    if (this.#socket.destroyed) throw new Error('the guest is gone');
    const answer = new Promise<Answer>((resolve, reject) => (this.#waiting = { resolve, reject }));
    this.#socket.write(`{ ${command}\n} </dev/null; printf '%d${END}' $?\n`);
    const { output, status } = await answer;
    if (status !== 0) throw new Error(`a command in the guest exited with status ${status}: ${command}\n${output}`);
    return output;
  }

  /** Sends a command that ends the guest, so that no answer will come. */
  send(command: string): void {
    this.#socket.write(`${command}\n`);
  }

  #receive(text: string): void {
    this.#received += text;
    if (!this.#received.endsWith(END)) return;
    const [, output, status] = /^([^]*?)(\d+)\x1e$/.exec(this.#received)!;
    this.#received = '';
    this.#waiting?.resolve({ output: output!, status: Number(status) });
    this.#waiting = undefined;
  }
}
