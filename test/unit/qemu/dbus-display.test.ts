/** What the D-Bus display needs of a QMP socket, with a scripted QEMU; test/host has real ones. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { keysReadByQmp } from '../../../src/qemu/dbus-display.ts';

const EMPTY = 0x1c;
const FULL = 0x1d;

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-qmp-'));
  path = join(directory, 'qmp');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** QEMU's QMP socket. */
class FakeQemu implements Disposable {
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  /** What it says of the keyboard controller, one after the other; the last one from then on. */
  status = [EMPTY];
  readonly commands: string[] = [];
  clients = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (client: Socket) => {
      this.clients++;
      this.#clients.add(client);
      client.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
      createInterface({ input: client }).on('line', (line) => {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number };
        this.commands.push(execute);
        const answer = execute === 'qmp_capabilities' ? {} : `portb[0x0064] = 0x${this.#next().toString(16)}\r\n`;
        client.write(`${JSON.stringify({ return: answer, id })}\r\n`);
      });
    });
  }

  #next(): number {
    return this.status.length > 1 ? this.status.shift()! : this.status[0]!;
  }

  static async listen(path: string): Promise<FakeQemu> {
    const server = createServer().listen(path);
    await once(server, 'listening');
    return new FakeQemu(server);
  }

  /** Resolves when the next client has left. */
  async left(): Promise<void> {
    const [client] = this.#clients;
    await once(client!, 'close');
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const client of this.#clients) client.destroy();
  }
}

test('keysReadByQmp: waits until the keyboard controller is empty, and leaves the socket to others afterwards', async () => {
  using qemu = await FakeQemu.listen(path);
  qemu.status = [FULL, FULL, EMPTY];
  const keysRead = keysReadByQmp(path);
  await keysRead();
  const left = qemu.left();
  await keysRead();

  expect(qemu.commands).toEqual(['qmp_capabilities', ...new Array<string>(4).fill('human-monitor-command')]);
  await left;
  expect(qemu.clients).toBe(1);
});

test('keysReadByQmp: asks another QEMU when the one that it asked before is gone', async () => {
  const keysRead = keysReadByQmp(path);
  {
    using _before = await FakeQemu.listen(path);
    await keysRead();
  }
  using qemu = await FakeQemu.listen(path);
  qemu.status = [FULL, EMPTY];
  await keysRead();

  expect(qemu.commands).toEqual(['qmp_capabilities', 'human-monitor-command', 'human-monitor-command']);
});

test('keysReadByQmp: does not wait without QEMU, nor for one that serves another program', async () => {
  const without = keysReadByQmp(path);
  await without();
  const crowded = createServer().listen(path);
  await once(crowded, 'listening');
  const asked = once(crowded, 'connection') as Promise<[Socket]>;
  const busy = keysReadByQmp(path);
  await busy();
  const [client] = await asked;
  let again = 0;
  crowded.on('connection', () => again++);
  await busy();
  await without();

  expect(again).toBe(0);
  client.destroy();
  crowded.close();
});
