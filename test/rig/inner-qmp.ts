import { constants, existsSync, openSync, readdirSync, readFileSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { POLLIN, pollfd } from '../../protocols/linux-poll.ts';
import type { Picture } from '../../src/core/picture.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { poll } from '../../src/sys/libc.ts';
import { readPpm } from './picture.ts';

const PORTS = '/sys/class/virtio-ports';
const CHUNK = 65_536;
/** A test that waits for longer fails. Its own limit has no effect meanwhile, because the event loop does not run. */
const LIMIT_MS = 60_000;
/** QEMU writes pictures to this folder, which the VM shares with the host machine under the same path. */
const OUTPUT = join(import.meta.dirname, '../output');

/** An `InputEvent` of QEMU's QMP reference, for an input device of this VM. */
export interface InputEvent {
  readonly type: 'key' | 'btn' | 'abs' | 'mtt';
  readonly data: Record<string, unknown>;
}

/** QMP client, inside the VM, of the QEMU that runs it, through the serial port `qmp`. Each call blocks until the answer, or throws after a minute. */
export class InnerQmp implements Disposable {
  readonly #fd: OwnedFd;
  #unread = '';

  constructor() {
    const port = existsSync(PORTS) ? readdirSync(PORTS).find((name) => nameOf(name) === 'qmp') : undefined;
    if (port === undefined) throw new Error('no serial port to QEMU: this only works in the VM of npm run test:kernel');
    this.#fd = OwnedFd.adopt(openSync(join('/dev', port), constants.O_RDWR | constants.O_NONBLOCK));
    // Refused if an earlier client of the port has sent it already.
    this.#ask('qmp_capabilities');
  }

  /** The picture that QEMU shows on output `head` of its device `id`. */
  screendump(id: string, head: number): Picture {
    const filename = join(OUTPUT, `${id}-${head}.ppm`);
    const { error } = this.#ask('screendump', { filename, device: id, head });
    if (error) throw new Error(`screendump of ${id}, head ${head}: ${error.desc}`);
    const picture = readPpm(readFileSync(filename));
    unlinkSync(filename);
    return picture;
  }

  /** Sends the events together: each device they concern reports its share in one group. */
  sendInput(...events: InputEvent[]): void {
    const { error } = this.#ask('input-send-event', { events });
    if (error) throw new Error(`input-send-event: ${error.desc}`);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  #ask(execute: string, args: Record<string, unknown> = {}): { readonly error?: { readonly desc: string } } {
    writeSync(this.#fd.fd, `${JSON.stringify({ execute, arguments: args, id: execute })}\n`);
    for (;;) {
      const answer = JSON.parse(this.#line()) as { readonly id?: string; readonly error?: { readonly desc: string } };
      if (answer.id === execute) return answer;
    }
  }

  #line(): string {
    const chunk = Buffer.alloc(CHUNK);
    let end: number;
    while ((end = this.#unread.indexOf('\n')) < 0) {
      if (poll(pollfd.encode({ fd: this.#fd.fd, events: POLLIN }), 1, LIMIT_MS) !== 1)
        throw new Error(`QEMU did not answer within ${LIMIT_MS} ms`);
      this.#unread += chunk.toString('latin1', 0, readSync(this.#fd.fd, chunk));
    }
    const line = this.#unread.slice(0, end);
    this.#unread = this.#unread.slice(end + 1);
    return line;
  }
}

/** The port's name; empty if it has none. */
function nameOf(port: string): string {
  const file = join(PORTS, port, 'name');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}
