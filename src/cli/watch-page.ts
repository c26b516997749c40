import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import type { VncAddress } from '../../display/vnc/address.ts';
import { WebFront } from '../../display/vnc/web-front.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';

const HOST = '127.0.0.1';
const TOKEN_BYTES = 16;
/** Of browsers, which open several each. */
const MAX_CONNECTIONS = 64;

/** noVNC's page for a VNC server that browsers cannot reach, such as one at a private socket, and what its bridge does. */
export class WatchPage implements Disposable {
  /** With the token that lets a browser in. Other users of this machine do not know it. */
  readonly url: string;
  readonly #vnc: VncAddress;
  readonly #sockets = new Set<Duplex>();
  readonly #stack: DisposableStack;

  private constructor(vnc: VncAddress, server: Server, web: WebFront, token: string, stack: DisposableStack) {
    this.url = `http://${HOST}:${(server.address() as AddressInfo).port}/?token=${token}`;
    this.#vnc = vnc;
    this.#stack = stack.move();
    server.on('connection', (socket) => web.accept(socket));
    web.onViewer = (stream) => this.#forward(stream);
  }

  /** Listens at a port of 127.0.0.1; 0 for any. `status` returns what to show beside the picture. Rejects with Node's error (EADDRINUSE, EACCES). */
  static async open(vnc: VncAddress, port: number, status: () => readonly string[]): Promise<WatchPage> {
    using stack = new DisposableStack();
    const token = randomBytes(TOKEN_BYTES).toString('hex');
    const web = stack.use(await WebFront.open({ token, status }));
    const server = createServer();
    server.maxConnections = MAX_CONNECTIONS;
    stack.defer(() => server.close());
    server.listen({ host: HOST, port });
    await once(server, 'listening');
    return new WatchPage(vnc, server, web, token, stack);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#stack[Symbol.dispose]();
  }

  /** Connects a viewer with the VNC server. */
  #forward(stream: Duplex): void {
    const socket: Socket = 'path' in this.#vnc ? connect(this.#vnc.path) : connect(this.#vnc);
    for (const one of [stream, socket]) {
      this.#sockets.add(one);
      one.on('close', () => this.#sockets.delete(one));
    }
    pipeline(stream, socket, stream, () => {
      stream.destroy();
      socket.destroy();
    });
  }
}
